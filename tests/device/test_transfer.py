"""Copies to the device: the same numbers, and nothing waits."""

import pytest
import torch
from torch import nn

from engine.runtime.transfer import module_to_device, to_device
from tests.device.devices import Device


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
def test_a_tensor_arrives_in_the_type_that_is_asked_for(device: Device, dtype: torch.dtype | None) -> None:
    numbers = torch.tensor([1.0, 2.5, 1 / 3])
    with device.recorded() as record:
        there = to_device(numbers, device.torch, dtype)
    assert record.blocking == []
    assert there.device == device.torch
    assert there.dtype is (dtype or torch.float32)
    assert torch.equal(there.cpu(), numbers.to(dtype or torch.float32))


def test_what_is_there_already_is_not_copied(device: Device) -> None:
    numbers = torch.ones(3).to(device.torch)
    assert to_device(numbers, device.torch) is numbers


def test_a_network_moves_with_its_statistics(device: Device) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    network(torch.arange(50.0).view(2, 1, 5, 5))  # changes the running statistics
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with device.recorded() as record:
        moved = module_to_device(network, device.torch, torch.float64)
    assert record.blocking == []
    state = moved.state_dict()
    assert before.keys() == state.keys()
    for name, tensor in state.items():
        assert tensor.device == device.torch
        assert tensor.dtype is (torch.float64 if before[name].is_floating_point() else torch.int64)
        assert torch.equal(tensor.cpu(), before[name].to(tensor.dtype))
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in moved.parameters())
