"""Accuracies printed in papers (paper_results.toml), given only for runs with the same setting."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from engine.settings import Settings

WIDTH, EPOCHS = 128, 1000
"""Of every published table: channels of the ConvNet, epochs of an evaluation."""


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(files("engine.tools.studies").joinpath("paper_results.toml").read_text())


def difference(settings: Settings) -> list[str]:
    """How these settings differ from the published ones for the dataset; empty if they do not.

    A dataset without published numbers differs by that.
    """
    found = _tables()["table1"].get(settings.dataset.name)
    if found is None or settings.dataset.path is not None:
        return [f"no published numbers for this dataset ({settings.dataset.name})"]
    network, distill, teachers = settings.network, settings.distill, settings.teachers
    checks = [
        (settings.dataset.resolution in (None, found["resolution"]), f"resolution {settings.dataset.resolution}"),
        (network.name == "convnet", f"network {network.name}"),
        (network.width in (None, WIDTH), f"width {network.width} instead of {WIDTH}"),
        (settings.evaluate.epochs >= EPOCHS, f"{settings.evaluate.epochs} epochs of evaluation, not {EPOCHS}"),
    ]
    if settings.traits.iterates:
        words = f"{distill.iterations} iterations, not {found['iterations']}"
        checks.append((distill.iterations >= found["iterations"], words))
    if settings.needs_teachers:
        checks.append((teachers.count >= found["teachers"], f"{teachers.count} teachers, not {found['teachers']}"))
    return [words for same, words in checks if not same]


def accuracy(settings: Settings) -> float | None:
    """Of the settings' method, 0..1 (Table 1)."""
    if difference(settings):
        return None
    method = settings.distill.method
    if settings.traits.all_images:
        return _share(_tables()["whole"].get(settings.dataset.name))
    return _share(_row("table1", settings).get(method))


def label_accuracy(settings: Settings) -> float | None:
    """Of TESLA with the settings' kind of labels, 0..1 (Table 3)."""
    if difference(settings) or settings.distill.method != "tesla":
        return None
    return _share(_row("table3", settings).get(settings.labels.kind))


def cross_accuracy(settings: Settings, network: str) -> float | None:
    """Of TESLA's images at IPC 10 under another network, 0..1 (Table 2)."""
    if difference(settings) or settings.distill.method != "tesla" or settings.distill.ipc != 10:
        return None
    return _share(_tables()["table2"].get(settings.dataset.name, {}).get(network))


def _row(table: str, settings: Settings) -> dict[str, float]:
    dataset: dict[str, Any] = _tables()[table].get(settings.dataset.name, {})
    row: dict[str, float] = dataset.get("ipc", {}).get(str(settings.distill.ipc), {})
    return row


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
