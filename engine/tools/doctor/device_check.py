"""Whether a device computes what the CPU computes: the gradient of a small matching problem on both."""

import torch

from engine.data.augment import draw_augment
from engine.matching import matching_gradient
from engine.networks import flatten_parameters, initialised_network
from engine.runtime.rng import counted_generator

MOST = 1e-3
"""Largest relative difference of two right answers in float32; on a CPU and a GPU it is about 1e-6."""
SHAPE = (16, 3, 16, 16)
CLASSES, STEPS = 4, 4


def difference_from_cpu(device: torch.device) -> float:
    """Relative difference of the gradient by the images between the device and the CPU, float32; nan if there is one.

    Raises:
        RuntimeError, NotImplementedError: the device cannot compute it.
    """
    ours, theirs = (_image_gradient(place) for place in (torch.device("cpu"), device))
    return float((theirs.to("cpu") - ours).norm() / ours.norm())


def _image_gradient(device: torch.device) -> torch.Tensor:
    count, channels, side, _ = SHAPE
    model = initialised_network(
        "convnet", seed=0, channels=channels, classes=CLASSES, resolution=side, width=8, depth=2
    ).to(device)
    draw = counted_generator(0, "doctor-device")
    theta = flatten_parameters(model)
    target = theta + 0.1 * torch.randn(theta.shape, generator=draw).to(device)
    images = torch.randn(SHAPE, generator=draw).to(device)
    labels = torch.eye(CLASSES).repeat(count // CLASSES, 1).to(device)
    schedule = []
    for op in ("color", "crop", "flip", "scale")[:STEPS]:
        augment = draw_augment(draw, (op,), SHAPE, device)
        schedule.append((torch.arange(count, device=device), augment))
    found = matching_gradient(
        model, start=theta, target=target, images=images, labels=labels, student_lr=0.05, schedule=schedule
    )
    return found.images.detach()
