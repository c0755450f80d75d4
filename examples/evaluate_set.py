"""Measure any small set on any module: `python examples/evaluate_set.py WORKSPACE`. Half a minute on two cores.

Takes the set of the workspace's last run, and a network that `tesla` does not know. Compares the labels of the set with
one-hot labels.
"""

import sys
from pathlib import Path

from torch import nn

from engine import evaluate, load_set


def main(workspace: Path, *settings: str) -> dict[str, float]:
    """Mean test accuracies, 0..1."""
    made = load_set(workspace)
    _, channels, height, width = made.images.shape
    classes = made.labels.shape[1]

    def perceptron() -> nn.Module:
        """Two layers with dropout."""
        inputs = channels * height * width
        layers = nn.Linear(inputs, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, classes)
        return nn.Sequential(nn.Flatten(), *layers)

    found = {}
    for name, labels in {"its labels": made.labels, "one-hot labels": made.labels.argmax(dim=1)}.items():
        accuracy = evaluate(workspace, made.images, labels, made.student_lr, network=perceptron, settings=settings)
        found[name] = accuracy.mean
        print(f"{name}: {100 * accuracy.mean:.1f} ± {100 * accuracy.std:.1f} % ({len(accuracy.accuracies)} networks)")
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
