"""A network of your own: by import path in a run, and as any module in `matching_gradient`.

    cd examples && python custom_network.py [FOLDER]
    cd examples && tesla run my-run --set network.name=custom_network:TinyMixer --set network.width=32

About two minutes on two cores. The factory is called with channels, classes and resolution, and with width and depth
where they are set. The only requirement is that the network returns logits `(B, K)`.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from engine import distil, matching_gradient, open_workspace
from engine.events import EvaluationDone, Event
from engine.networks import flatten_parameters

MIXER = (
    "teachers.lr=0.1", "teachers.count=5", "distill.student_lr=0.1", "distill.lr_images=10.0", "distill.iterations=150",
    "evaluate.every=50", "evaluate.repeats=2",
)  # fmt: skip
"""The preset's rates are the ConvNet's: at 0.01, teachers of this network had learned nothing after 11 epochs (loss
2.30, which is chance), and there was no trajectory to match."""


class TinyMixer(nn.Module):
    """Patches mixed across places, then across channels, without convolution or attention (Tolstikhin et al., 2021)."""

    def __init__(self, channels: int, classes: int, resolution: int, width: int = 32, patch: int = 2) -> None:
        super().__init__()
        places = (resolution // patch) ** 2
        self.patches = nn.PixelUnshuffle(patch)
        self.embed = nn.Linear(channels * patch**2, width)
        self.across_places = nn.Sequential(nn.Linear(places, places), nn.GELU(), nn.Linear(places, places))
        self.across_channels = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images `(B, C, H, W)`."""
        x = self.embed(self.patches(images).flatten(2).transpose(1, 2))  # (B, places, width)
        x = x + self.across_places(self.first(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.across_channels(self.second(x))
        return self.head(x.mean(dim=1))


def gradients_agree(steps: int = 5) -> float:
    """Relative difference of `exact` and `unrolled` image gradients for this network, in float64."""
    torch.manual_seed(0)
    model = TinyMixer(channels=1, classes=10, resolution=8).double()
    start = flatten_parameters(model)
    images, labels = torch.randn(10, 1, 8, 8).double(), torch.eye(10).double()
    schedule = [(torch.arange(10), lambda batch: batch)] * steps  # every image in every step, not augmented
    exact, unrolled = (
        matching_gradient(
            model, start=start, target=start + 0.01, images=images, labels=labels, student_lr=0.1, schedule=schedule,
            mode=mode,
        ).images
        for mode in ("exact", "unrolled")
    )  # fmt: skip
    return ((exact - unrolled).norm() / unrolled.norm()).item()


def main(folder: Path, *overrides: str) -> dict[str, float]:
    """Distil the digits with this network; test accuracies by subject, 0..1."""
    chosen = [f"network.name={Path(__file__).stem}:TinyMixer", *MIXER]
    workspace = open_workspace(folder, dataset="digits", settings=chosen)
    distil(workspace, "mixer-1", ipc=1, settings=overrides, on_event=show)
    results = workspace.run("mixer-1").evaluations()
    return {result.subject: result.mean for result in results if result.split == "test"}


def show(event: Event) -> None:
    """Print accuracies."""
    if isinstance(event, EvaluationDone):
        print(f"{event.subject}, {event.split}, iteration {event.iteration}: {100 * event.mean:.1f} %")


if __name__ == "__main__":
    print(f"exact and unrolled differ by {gradients_agree():.0e} of the gradient's norm")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "mixer")
