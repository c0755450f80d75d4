"""The simulated device has the rules of CUDA."""

import inspect
import re
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import simulated_device as sim
from tests.device.devices import Device


@pytest.fixture(autouse=True)
def only_simulated(device: Device) -> None:
    if device.name != "sim":
        pytest.skip("for --device sim")


def there(*numbers: float) -> Tensor:
    return torch.tensor(numbers, device="sim")


BLOCKING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "bool": lambda x: bool(x[0]),
    "int": lambda x: int(x[0]),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "a mask as index": lambda x: x[x > 1],
    "numbers at a mask": lambda x: x.index_put_((x > 1,), x[:1]),
    "an index of the host": lambda x: x[torch.tensor([0])],
    "a number as index": lambda x: x[x[0].long()],
    "equal": lambda x: torch.equal(x, x),
    "torch.tensor": lambda x: torch.tensor([1.0], device="sim"),
    "from the host": lambda x: torch.ones(2).to("sim"),
    "from other than pinned memory": lambda x: torch.ones(2).to("sim", non_blocking=True),
    "pinned, but waiting": lambda x: torch.ones(2).pin_memory().to("sim"),
    "copy_": lambda x: x.copy_(torch.ones(2)),
    "a module": lambda x: torch.nn.Linear(1, 1, bias=False).to("sim"),
}
FREE: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda x: x * 2 + torch.tensor(1.0),
    "an index there": lambda x: x[torch.arange(2, device="sim")],
    "a slice": lambda x: x[1:],
    "a number at a mask": lambda x: x.masked_fill_(x > 1, 3),
    "pinned": lambda x: torch.ones(2).pin_memory().to("sim", non_blocking=True),
    "a part of what is pinned": lambda x: torch.ones(2).pin_memory()[1:].to("sim", non_blocking=True),
    "another type": lambda x: x.to(torch.int64),
    "factories": lambda x: [torch.eye(2, device="sim"), torch.full((2,), 3, device="sim"), torch.zeros_like(x)],
}


@pytest.mark.parametrize("name", BLOCKING)
def test_blocks(name: str) -> None:
    x = there(1, 2)
    with sim.recorded() as record:
        BLOCKING[name](x)
    line = inspect.getsourcelines(BLOCKING[name])[1]
    assert [found.split(" ")[0] for found in record.blocking] == [f"tests/device/test_simulated_device.py:{line}"]


@pytest.mark.parametrize("name", FREE)
def test_does_not_block(name: str) -> None:
    x = there(1, 2)
    with sim.recorded() as record:
        FREE[name](x)
    assert record.blocking == record.draws == []


@pytest.mark.parametrize(
    "mix",
    [
        lambda: there(1, 2) + torch.ones(2),
        lambda: torch.ones(2, 2) @ there(1, 2),
        lambda: torch.cat([there(1), torch.ones(1)]),
        lambda: torch.ones(2)[there(0).long()],
        lambda: there(1, 2).index_add_(0, torch.tensor([0]), there(1)),
        lambda: torch.nn.Linear(2, 2)(there(1, 2)),
        lambda: torch.ones(2).add_(there(1)),
    ],
)
def test_devices_do_not_mix(mix: Callable[[], Tensor]) -> None:
    with pytest.raises(RuntimeError, match=re.escape("on the same device, but found sim:0 and cpu")):
        mix()


def test_the_numbers_are_those_of_the_cpu() -> None:
    layer = torch.nn.Conv2d(2, 3, 3)
    images = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(layer(images).square().sum(), layer.weight)
    layer.to("sim")
    moved = images.to("sim").requires_grad_()
    (found, by_images) = torch.autograd.grad(layer(moved).square().sum(), [layer.weight, moved])
    assert found.device == by_images.device == torch.device("sim", 0)
    assert torch.equal(found.cpu(), gradient)
    assert found.cpu().numpy().dtype == np.float32
    with pytest.raises(RuntimeError, match="not supported"):
        found.numpy()


def test_shapes_and_views_are_kept() -> None:
    numbers = torch.zeros(2, 3, device="sim")
    numbers.T[0] += 1
    numbers.unsqueeze_(0)
    assert numbers.shape == (1, 2, 3)
    assert numbers.cpu().tolist() == [[[1, 0, 0], [1, 0, 0]]]
    assert numbers.movedim(0, 2).stride() == numbers.cpu().movedim(0, 2).stride()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.rand(2, device="sim"),
        lambda: torch.randn(2, device="sim"),
        lambda: torch.randperm(3, device="sim"),
        lambda: torch.empty(2, device="sim").uniform_(),
        lambda: torch.nn.functional.dropout(torch.ones(2, device="sim")),
        lambda: torch.empty(2, device="sim").random_(),
    ],
)
def test_draws_are_seen(draw: Callable[[], Tensor]) -> None:
    state = torch.get_rng_state()
    with sim.recorded() as record:
        draw()
    torch.set_rng_state(state)
    assert len(record.draws) == 1


@pytest.mark.parametrize("refuses", [True, False])
def test_float64_is_refused_on_request(refuses: bool) -> None:
    with (
        sim.without_float64() if refuses else nullcontext(),
        pytest.raises(TypeError, match="float64") if refuses else nullcontext(),
    ):
        assert torch.zeros(2, device="sim").to(torch.float64).dtype is torch.float64
