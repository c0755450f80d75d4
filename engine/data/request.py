"""What is asked of a dataset: everything in `[dataset]` that decides what its images and classes are."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from engine.errors import UsageError, system_reason
from engine.settings.schema import DatasetSettings

Fit = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class DataRequest:
    """A dataset by name, and how to read it. The fields are the settings of the same name; see `DatasetSettings`."""

    name: str
    path: Path | None = None
    """Local files instead of a download."""
    resolution: int | None = None
    """Side of the images, pixels; None for their own (32 where sizes differ)."""
    on_bad_file: Literal["error", "skip"] = "error"
    config: str | None = None
    train_split: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    classes: Path | None = None
    value_range: tuple[float, float] | None = None
    fit: Fit = "crop"
    recursive: bool = False
    invalid_labels: Literal["error", "drop"] = "error"

    @staticmethod
    def of(settings: DatasetSettings, folder: Path) -> "DataRequest":
        """The request of a workspace's settings.

        Args:
            settings: its `[dataset]`.
            folder: the workspace, which paths are relative to.

        Raises:
            UsageError: a path with the home folder of an unknown user.
        """

        def local(key: str, path: str | None) -> Path | None:
            try:
                return None if path is None else folder / Path(path).expanduser()
            except RuntimeError as error:  # `~name` of an unknown user
                raise UsageError(f"dataset.{key} = {path!r}: {error}", "Write the full path.") from error

        same = {field.name: getattr(settings, field.name) for field in fields(DataRequest)}
        same |= {key: local(key, same[key]) for key in ("path", "classes")}
        return DataRequest(**same)

    @property
    def title(self) -> str:
        """The dataset's name, for people; of a folder its path."""
        return str(self.path) if self.name == "folder" and self.path is not None else self.name

    def identity(self) -> dict[str, str]:
        """What besides the source's own key decides the decoded images: a class list counts by its contents.

        Raises:
            UsageError: the class list cannot be read.
        """
        asked = {key: value for key, value in self.changed().items() if key not in ("path", "resolution")}
        if self.classes is not None:
            try:
                asked["classes"] = hashlib.sha256(self.classes.read_bytes()).hexdigest()
            except OSError as error:
                raise UsageError(
                    f"dataset.classes = {self.classes} cannot be read: {system_reason(error)}.",
                    "Give a text file with a class per line; the path is relative to the workspace's folder.",
                ) from error
        return asked

    def changed(self) -> dict[str, str]:
        """Settings that are not at their default, but for the name, as they are written in TOML."""
        default = DataRequest(self.name)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: str(value) for key, value in values.items() if value != getattr(default, key)}
