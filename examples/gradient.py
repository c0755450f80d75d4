"""The gradient on its own: any module, any data. Shows how far the paper's gradient is from the exact one."""

import torch
from torch import nn

from engine.data import draw_augment
from engine.matching import matching_gradient
from engine.networks import flatten_parameters
from engine.runtime.rng import counted_generator, forked_global_rng


def compare(steps: int, student_lr: float = 0.1) -> tuple[float, float]:
    """Cosine and relative error of the paper's image gradient against the exact one, on random data."""
    generator = counted_generator(0, "example")
    with forked_global_rng(0):  # initial weights come from the global generator, which the engine leaves alone
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(16, 16), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(),
            nn.Linear(64, 5),
        )  # fmt: skip
    start = flatten_parameters(model)
    images = torch.randn(20, 3, 8, 8, generator=generator)
    labels = torch.eye(5).repeat(4, 1)
    schedule = []
    for _ in range(steps):
        index = torch.randperm(20, generator=generator)[:10]
        schedule.append((index, draw_augment(generator, ["flip", "color", "crop"], (10, 3, 8, 8))))
    found = {}
    for mode in ("exact", "paper"):
        found[mode] = matching_gradient(
            model, start=start, target=start + 0.05 * torch.randn(start.shape, generator=generator.manual_seed(1)),
            images=images, labels=labels, student_lr=student_lr, schedule=schedule, mode=mode,
        ).images.flatten()  # fmt: skip
    exact, paper = found["exact"], found["paper"]
    cosine = torch.nn.functional.cosine_similarity(exact, paper, dim=0)
    return cosine.item(), ((paper - exact).norm() / exact.norm()).item()


if __name__ == "__main__":
    for steps in (1, 5, 20):
        cosine, error = compare(steps)
        print(f"T = {steps:2}: cosine {cosine:.4f}, relative error {error:.3f}")
