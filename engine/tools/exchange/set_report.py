"""What an import found in the files of a distilled set, and what it makes of it: for people, and as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass

FORMAT = 1
"""Version of the report as JSON."""
SHOWN = 8


@dataclass(frozen=True)
class SetReport:
    """An import, before anything is written."""

    run: str
    files: dict[str, str]
    """What each file is, by its name."""
    tensors: tuple[str, ...]
    """Path, type and shape of everything found."""
    images: str
    count: int
    ipc: int
    per_class: str
    labels: str
    hard: bool
    classes: str
    class_numbers: tuple[int, ...]
    """The dataset's class number for every class number of the set."""
    space: str
    values: str
    student_lr: float
    student_lr_from: str
    left_out: tuple[str, ...]

    def rows(self) -> Iterator[tuple[str, str]]:
        """Name and sentence, in the order to show them."""
        yield "Files", "; ".join(f"{name} ({kind})" for name, kind in self.files.items())
        yield "Found", _listed(self.tensors)
        yield "Images", f"{self.images}: {self.count}, {self.per_class}"
        yield "Values", self.values
        yield "Labels", self.labels
        yield "Classes", self.classes
        yield "student_lr", f"{self.student_lr:g}, {self.student_lr_from}"
        yield "Left out", _listed(self.left_out) or "nothing"


def _listed(words: tuple[str, ...]) -> str:
    return "; ".join(words[:SHOWN]) + (f"; and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
