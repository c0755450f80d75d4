"""Layers written out for the compiler: what is changed in a graph, and that it gives the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from engine.matching import CompiledSteps, checked_steps
from engine.matching.spelled import SpelledLayers
from engine.networks import build_network
from engine.networks.flat import FlatNetwork, flatten_parameters

LAYERS: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "groups of one channel": (lambda x, w, b: F.group_norm(x, 6, w, b), True),
    "groups of three": (lambda x, w, b: F.group_norm(x, num_groups=2, weight=w, bias=b, eps=1e-3), True),
    "one group, no weights": (lambda x, w, b: F.group_norm(x, 1), True),
    "instance norm": (lambda x, w, b: F.instance_norm(x, weight=w, bias=b), True),
    "batch norm": (lambda x, w, b: F.batch_norm(x, w.detach().clone(), b.detach().clone(), w, b, training=True), True),
    "batch norm as measured": (lambda x, w, b: F.batch_norm(x, b.detach(), w.detach() ** 2, w, b), False),
    "batch norm with statistics that are read": (
        lambda x, w, b: F.batch_norm(x, (m := w.detach() + 1), b.detach() + 1, training=True) * m.view(-1, 1, 1), False
    ),
    "pool": (lambda x, w, b: F.avg_pool2d(x, 2), True),
    "pool of three": (lambda x, w, b: F.avg_pool2d(x, (3, 3), 3), True),
    "overlapping pool": (lambda x, w, b: F.avg_pool2d(x, 3, 1), False),
    "padded pool": (lambda x, w, b: F.avg_pool2d(x, 2, 2, 1), False),
    "pool rounded up": (lambda x, w, b: F.avg_pool2d(x, 2, None, 0, True), False),
    "pool with a divisor": (lambda x, w, b: F.avg_pool2d(x, 2, None, 0, False, True, 3), False),
    "relu": (lambda x, w, b: F.relu(x), True),
    "relu of a vector": (lambda x, w, b: F.relu(w), False),
    "relu in place": (lambda x, w, b: F.relu(x * 2, inplace=True), True),
    "relu in place, input read": (lambda x, w, b: F.relu(y := x * 2, inplace=True) + y, False),
}  # fmt: skip
"""A call and whether it is written out."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_written_out_and_give_the_same(name: str) -> None:
    function, changes = LAYERS[name]
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((3, 6, 7, 8), (6,), (6,))]
    traced = torch.fx.symbolic_trace(function)
    FakeTensorProp(traced).propagate(*given)
    for node in traced.graph.nodes:
        node.meta["example_value"] = node.meta.get("val")
    before = [node.target for node in traced.graph.nodes]
    SpelledLayers()(traced.graph)
    traced.recompile()
    assert ([node.target for node in traced.graph.nodes] != before) is changes
    wanted, found = (computed(layer, given) for layer in (function, traced))
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).norm()) <= 1e-12 * float(b.norm())


def computed(layer: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    """What a layer gives, and the gradients of something that depends on every number of it."""
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    result = layer(*leaves)
    weights = torch.linspace(-1, 2, result.numel(), dtype=torch.float64).view(result.shape)
    found = torch.autograd.grad((result.square() * weights).sum(), leaves, materialize_grads=True)
    return [result.detach(), *found]


def test_a_coarse_norm_has_fine_moments() -> None:
    images = (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)) + 100).bfloat16()
    from engine.matching.spelled import norm

    found = norm(images, 4, None, None, 1e-5, torch.bfloat16)
    assert found.dtype is torch.bfloat16
    assert float((found.double() - F.group_norm(images.double(), 4)).abs().max()) < 0.01


class Plain(nn.Module):
    """A user's network of PyTorch's own layers and functions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, channels, 3, padding=1)
        self.first = nn.Sequential(nn.GroupNorm(2, channels), nn.ReLU(inplace=True))
        self.second = nn.InstanceNorm2d(channels, affine=True)
        self.third = nn.BatchNorm2d(channels)
        self.out = nn.Linear(channels * 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        images = F.avg_pool2d(self.first(self.convolution(images)), 2)
        images = F.relu(self.third(self.second(images)), inplace=True)
        result: Tensor = self.out(torch.flatten(F.avg_pool2d(images, 2, 2), 1))
        return result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_users_network_is_compiled_with_its_layers_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Plain(4).double()
        images, labels = torch.randn(5, 2, 8, 8).double(), torch.rand(5, 3).double().softmax(1)
    seen: list[Any] = []
    real = SpelledLayers.__call__

    def counted(self: SpelledLayers, graph: torch.fx.Graph) -> None:
        real(self, graph)
        seen.append({node.target for node in graph.nodes})

    monkeypatch.setattr(SpelledLayers, "__call__", counted)
    monkeypatch.setattr(SpelledLayers, "uuid", lambda self: "counted")
    with torch._inductor.config.patch(force_disable_caches=True):
        steps, reason = checked_steps(FlatNetwork(model), flatten_parameters(model), [(images, labels)], hessian=True)
    assert reason == "", "the same as eager, to 1e-8"
    assert type(steps).__name__ == "CompiledSteps"
    left = {F.group_norm, F.instance_norm, F.batch_norm, F.relu, torch._C._nn.avg_pool2d}
    assert len(seen) == 2, "the gradient and its derivatives"
    assert not any(targets & left for targets in seen)


class PlainConvNet(nn.Module):
    """ConvNetD2 as a user writes it."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (3, 8):
            layers += [nn.Conv2d(inputs, 8, 3, padding=1), norm(8), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        self.blocks = nn.Sequential(*layers)
        self.out = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.out(torch.flatten(self.blocks(images), 1))
        return result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_users_convnet_becomes_the_same_graph_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[list[Any]] = []

    def outline(graph: torch.fx.Graph) -> list[Any]:
        """What is called with what, whatever the nodes are named."""
        numbers = {node: number for number, node in enumerate(graph.nodes)}
        given = ((node.op, node.target, (node.args, node.kwargs)) for node in graph.nodes if node.op != "placeholder")
        return [(op, str(target), str(torch.fx.map_arg(both, lambda n: numbers[n]))) for op, target, both in given]

    def backend(module: torch.fx.GraphModule, given: object) -> Callable[..., Any]:
        SpelledLayers()(module.graph)
        traced[-1].append(outline(module.graph))
        return module.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: real(function, backend=backend, fullgraph=True))
    images, labels = torch.ones(2, 3, 8, 8), torch.full((2, 4), 0.25)
    ours = build_network("convnet", channels=3, classes=4, resolution=8, width=8, depth=2)
    groups = PlainConvNet(lambda channels: nn.GroupNorm(channels, channels))
    instances = PlainConvNet(lambda channels: nn.InstanceNorm2d(channels, affine=True))
    for model in (ours, groups, instances):
        theta = flatten_parameters(model)
        traced.append([])
        steps = CompiledSteps(FlatNetwork(model), hessian=True)
        steps.gradient(theta, images, labels)
        steps.derivatives(theta, images, labels, theta, hessian=True)
    assert len(traced[0]) == 2
    assert len(traced[0][1]) > 50
    assert traced[0] == traced[1] == traced[2]
