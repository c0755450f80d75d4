"""Networks: sizes by hand, second derivatives, purity, and what a wrong import path says."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from engine.errors import UsageError
from engine.networks import (
    NETWORKS,
    FlatNetwork,
    build_network,
    default_depth,
    flatten_parameters,
    initialised_network,
    load_parameters,
)
from engine.settings.trust import allow

SMALL = {
    "convnet": {"width": 4}, "convnet-batchnorm": {"width": 4}, "convnet-layernorm": {"width": 4},
    "convnet-nonorm": {"width": 4}, "resnet18": {"width": 4}, "vgg11": {"width": 2}, "alexnet": {"width": 4},
    "lenet": {}, "mlp": {"width": 6}, "vit": {"width": 16, "depth": 2}, "vit-benchmark": {"width": 16, "depth": 2},
}  # fmt: skip
NAMES = tuple(SMALL)
SMALLEST = {"lenet": 16}
"""Side of the smallest images, where it is more than 8."""


def small(name: str, channels: int = 3, resolution: int | None = None, classes: int = 5) -> torch.nn.Module:
    side = resolution or SMALLEST.get(name, 8)
    return initialised_network(name, seed=1, channels=channels, classes=classes, resolution=side, **SMALL[name])


def noise(name: str, count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    side = SMALLEST.get(name, 8)
    return torch.randn(count, 3, side, side, dtype=dtype)


def convnet_size(channels: int, side: int, classes: int, width: int, depth: int) -> int:
    first = (channels * 9 + 1) * width
    others = (depth - 1) * (width * 9 + 1) * width
    norms = depth * 2 * width
    return first + others + norms + (width * (side >> depth) ** 2 + 1) * classes


@pytest.mark.parametrize(
    ("channels", "resolution", "classes", "depth", "size"),
    [
        (3, 32, 10, 3, 320_010),
        (3, 32, 100, 3, convnet_size(3, 32, 100, 128, 3)),
        (3, 64, 1000, 4, convnet_size(3, 64, 1000, 128, 4)),
        (1, 28, 10, 3, convnet_size(1, 32, 10, 128, 3)),  # padded to 32 by the first convolution
    ],
)
def test_convnet_has_the_published_size(channels: int, resolution: int, classes: int, depth: int, size: int) -> None:
    model = build_network("convnet", channels=channels, classes=classes, resolution=resolution)
    assert sum(p.numel() for p in model.parameters()) == size
    assert default_depth(resolution) == depth


def test_imagenet_convnet_has_two_and_a_half_million_parameters() -> None:
    assert convnet_size(3, 64, 1000, 128, 4) == pytest.approx(2.5e6, rel=0.01)


@pytest.mark.parametrize(("resolution", "depth"), [(8, 2), (16, 2), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_default_depth(resolution: int, depth: int) -> None:
    assert default_depth(resolution) == depth


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [8, 28, 32, 64])
def test_shapes(name: str, channels: int, resolution: int) -> None:
    if resolution < SMALLEST.get(name, 8):
        with pytest.raises(UsageError, match=f"{name} needs images of at least 16x16 pixels; these have 8x8"):
            small(name, channels, resolution)
        return
    model = small(name, channels, resolution)
    assert model(torch.randn(2, channels, resolution, resolution)).shape == (2, 5)


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_depends_on_the_image(name: str) -> None:
    # Instance norm over one pixel would make it constant.
    logits = small(name).eval()(noise(name, 2))
    assert (logits[0] - logits[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str) -> None:
    network = FlatNetwork(small(name).double())
    theta = flatten_parameters(network.model).requires_grad_()
    images = noise(name, 3, torch.float64).requires_grad_()
    loss = network(theta, images).log_softmax(dim=1)[:, 0].sum()
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    second = torch.autograd.grad(gradient.square().sum(), (theta, images))
    assert all(bool(part.isfinite().all()) and part.norm() > 0 for part in second)


@pytest.mark.parametrize("name", NAMES)
def test_no_graph_outlives_its_output(name: str) -> None:
    model = small(name)
    images = noise(name, 2)
    kept: list[weakref.ref[torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: kept.append(weakref.ref(out)))
        for module in model.modules()
        if not list(module.children())
    ]
    out = model(images)
    assert len(kept) > 3
    del out
    gc.collect()
    for hook in hooks:
        hook.remove()
    assert [ref for ref in kept if ref() is not None] == []


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    a, b = flatten_parameters(small(name)), flatten_parameters(small(name))
    side = SMALLEST.get(name, 8)
    other = initialised_network(name, seed=2, channels=3, classes=5, resolution=side, **SMALL[name])
    assert torch.equal(a, b)
    assert not torch.equal(a, flatten_parameters(other))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_the_flat_view_is_the_module(name: str) -> None:
    model = small(name).eval()
    network = FlatNetwork(model)
    theta = flatten_parameters(model)
    images = noise(name, 2)
    assert torch.equal(network(theta, images), model(images))
    other = small(name)
    load_parameters(other, theta * 2)
    assert torch.equal(flatten_parameters(other), theta * 2)
    before = theta.clone()
    load_parameters(model, theta * 0)
    assert torch.equal(theta, before)  # a copy, not a view


def test_the_flat_view_refuses_a_wrong_length() -> None:
    with pytest.raises(ValueError, match=r"needs \(\d+,\)"):
        FlatNetwork(small("convnet"))(torch.zeros(3), torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("convnet", {"depth": 4}, "network.depth = 4 is too deep for 8x8"),
        ("resnet18", {"depth": 2}, "network.depth does not apply"),
        ("vgg11", {"depth": 2}, "network.depth does not apply to vgg11"),
        ("alexnet", {"depth": 2}, "network.depth does not apply to alexnet"),
        ("alexnet", {"width": 5}, "network.width = 5 is odd"),
        ("lenet", {"width": 5, "depth": 2}, "network.width and network.depth do not apply to lenet"),
        ("convnet-batchnorm", {"depth": 4}, "network.depth = 4 is too deep for 8x8"),
        ("vit", {"width": 10}, "multiple of 8"),
        ("vit-benchmark", {"width": 10}, "multiple of 8, the attention heads of vit-benchmark"),
        ("convnett", {}, "Did you mean convnet"),
        ("vgg", {}, "Did you mean vgg11"),
        ("densenet", {}, f"Known: {', '.join(NETWORKS)}"),
    ],
)
def test_wrong_sizes_and_names(name: str, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_network(name, channels=3, classes=5, resolution=8, **arguments)


USER_MODULE = """
import torch
def good(channels, classes, resolution):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * resolution ** 2, classes))
def wide(channels, classes, resolution, width=3):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(channels * resolution ** 2, width),
                               torch.nn.Linear(width, classes))
def wrong_shape(**k):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(k["channels"] * k["resolution"] ** 2, 3))
def nothing(**k):
    return torch.nn.Flatten()
def not_a_module(**k):
    return 3
def raising(**k):
    raise KeyError("width")
def bad_forward(**k):
    return torch.nn.Linear(7, 5)
number = 3
"""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("user_networks:wrong_shape", r"returns \(2, 3\).*must return \(2, 5\)"),
        ("user_networks:nothing", "has no parameters"),
        ("user_networks:not_a_module", "returned an object of type int, not a torch.nn.Module"),
        ("user_networks:raising", "failed when it was called: KeyError"),
        ("user_networks:bad_forward", "failed on images"),
        ("user_networks:number", "cannot call"),
        ("user_networks:absent", "has no 'absent'"),
        ("no_such_module:net", "There is no module no_such_module"),
        ("user_broken:net", "needs the module surely_not_installed"),
        ("user_raises:net", "failed to import: ValueError: oh"),
    ],
)
def test_import_paths_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str) -> None:
    (tmp_path / "user_networks.py").write_text(USER_MODULE)
    (tmp_path / "user_broken.py").write_text("import surely_not_installed")
    (tmp_path / "user_raises.py").write_text("raise ValueError('oh')")
    monkeypatch.chdir(tmp_path)
    allow(path)
    with pytest.raises(UsageError, match=words):
        build_network(path, channels=3, classes=5, resolution=8)


def test_import_paths_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_networks.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    for name in ("good", "wide"):
        allow(f"user_networks:{name}")
    assert build_network("user_networks:good", channels=1, classes=5, resolution=8)(torch.zeros(1, 1, 8, 8)).shape == (
        1,
        5,
    )
    wide = build_network("user_networks:wide", channels=1, classes=5, resolution=8, width=9)
    assert wide[1].out_features == 9  # type: ignore[index, union-attr]
    with pytest.raises(UsageError, match="does not take width"):
        build_network("user_networks:good", channels=1, classes=5, resolution=8, width=9)


def test_help_and_settings_name_every_network() -> None:
    from engine.settings import NetworkSettings
    from tesla_tui.cli.options import NETWORKS as NAMED

    assert NAMED.split(", ") == list(NETWORKS) == list(NAMES)
    described = " ".join((NetworkSettings.model_fields["name"].description or "").split())
    assert described.startswith(NAMED)
