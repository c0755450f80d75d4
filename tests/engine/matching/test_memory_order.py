"""Channels-last batches: oneDNN writes beyond its memory for them, so no network of ours ever sees one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.data.augment import draw_augment
from engine.networks.flat import in_memory_order

PROGRAM = """
import gc, torch
from engine.matching.steps import EagerSteps
from engine.networks import flatten_parameters, initialised_network
from engine.networks.flat import FlatNetwork

torch.set_num_threads(3)
model = initialised_network("resnet18", seed=0, channels=3, classes=10, resolution=32, width=8).train()
steps, theta = EagerSteps(FlatNetwork(model)), flatten_parameters(model)
generator = torch.Generator().manual_seed(0)
images = torch.randn(10, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)
labels = torch.randn(10, 10, generator=generator).softmax(1)
adjoint = torch.randn(theta.shape, generator=generator)
first = steps.derivatives(theta, images, labels, adjoint, hessian=True).theta
for _ in range(5):
    gc.collect()
    assert torch.equal(first, steps.derivatives(theta, images, labels, adjoint, hessian=True).theta)
print("done")
"""


def test_three_threads_survive_a_channels_last_batch() -> None:
    root = str(Path(__file__).parents[3])
    # A process of its own: the fault damages the heap of whoever meets it.
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize("op", ["color", "crop", "cutout", "flip", "scale", "rotate"])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_batches_have_the_usual_memory_order(op: str, channels: int) -> None:
    images = torch.randn(4, channels, 8, 8)
    augmented = draw_augment(torch.Generator().manual_seed(0), (op,), images.shape)(images)
    assert augmented.stride() == images.stride()


@pytest.mark.parametrize("channels", [1, 3])
def test_only_another_order_is_copied(channels: int) -> None:
    images = torch.randn(4, channels, 8, 8)
    assert in_memory_order(images) is images
    other = torch.randn(4, 8, 8, channels).movedim(3, 1)
    assert in_memory_order(other).stride() == images.stride()
    assert torch.equal(in_memory_order(other), other)
