"""Time of every augmentation, forward and backward, on one device, and whether both give the same bits twice.

`python benchmarks/augment.py --device cuda`. On a CPU, `scale` and `rotate` are PyTorch's grid_sample; with
`--gather`, what other devices run. Microseconds, the median of the repetitions; n is printed.
"""

import argparse
import statistics
import time

import torch

from engine.data.augment import Augment, draw_augment
from engine.data.resampling import linear_map, resampled
from engine.runtime.device import configure
from engine.runtime.rng import counted_generator
from engine.settings import ComputeSettings

OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")
SHAPES = ((10, 1, 28, 28), (100, 1, 28, 28), (10, 3, 32, 32), (100, 3, 32, 32), (100, 3, 64, 64))
WARM_UP = 5


def both(augment: Augment, images: torch.Tensor, pulled: torch.Tensor, gather: bool) -> tuple[torch.Tensor, ...]:
    """The augmented images and the gradient of theirs."""
    images = images.detach().requires_grad_()
    special = gather and augment.op in ("scale", "rotate")
    found = linear_map(resampled, images, *augment.parameters) if special else augment(images)
    return found, *torch.autograd.grad(found, images, pulled)


def finished(device: torch.device) -> float:
    """The time, after the device's work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="as compute.device")
    parser.add_argument("--repeat", type=int, default=30, help="repetitions, n (30)")
    parser.add_argument("--gather", action="store_true", help="scale and rotate as on other devices than the CPU")
    options = parser.parse_args()
    device = configure(ComputeSettings(device=options.device))
    print(f"PyTorch {torch.__version__}, {device}, n = {options.repeat}, us, forward and backward")
    print("| images | " + " | ".join(OPS) + " | same bits |\n|---" * 1 + "|---" * (len(OPS) + 1) + "|")
    for shape in SHAPES:
        cells, same = [], True
        images, pulled = (torch.randn(shape, generator=counted_generator(0, name)).to(device) for name in ("x", "g"))
        for op in OPS:
            augment = draw_augment(counted_generator(0, op), [op], shape, device)
            seconds = []
            first = both(augment, images, pulled, options.gather)
            for number in range(WARM_UP + options.repeat):
                begun = finished(device)
                found = both(augment, images, pulled, options.gather)
                if number >= WARM_UP:
                    seconds.append(finished(device) - begun)
                same &= all(torch.equal(a, b) for a, b in zip(first, found, strict=True))
            cells.append(f"{1e6 * statistics.median(seconds):.0f}")
        print(f"| {' x '.join(map(str, shape))} | {' | '.join(cells)} | {'yes' if same else 'no'} |", flush=True)


if __name__ == "__main__":
    main()
