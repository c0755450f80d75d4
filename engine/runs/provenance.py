"""What was made elsewhere, teacher buffers and distilled sets: what is known about it, and what a run may do with it.

    buffers/<name>/manifest.json    `identity`: the files they came from and the problem they are used for
                                    `imported`: the same for people, and the settings that go with them

How such teachers were trained is not in published files: it is unknown, or declared at the import. Their
identity is therefore their contents (sha256 of the files) with the dataset, input space and network they are used with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, NewerFormatError, UnreadableFileError, UsageError
from engine.runs.names import IMPORTING
from engine.settings import Settings
from engine.settings.facts import record
from engine.storage.atomic import read_json
from engine.storage.reading import paths_in

DECLARABLE = ("teachers.lr", "teachers.batch", "augment.ops", "dataset.holdout")
"""Settings of the teachers' training that only the person who imports them can know."""


@dataclass(frozen=True)
class ImportedBuffer:
    """A buffer made elsewhere, from its manifest."""

    name: str
    trajectories: int
    epochs: int
    """Whole epochs of every trajectory."""
    files: tuple[dict[str, Any], ...]
    """Of each: name, bytes, sha256, trajectories."""
    dtype: str
    """Floating-point type in the files; here it is float32."""
    settings: Mapping[str, Any]
    """Dotted keys that a run with these teachers must have, or has by default."""
    declared: tuple[str, ...]
    """Those of `DECLARABLE` that were declared at the import; the rest is unknown."""
    identity: Mapping[str, Any]

    @property
    def unknown(self) -> tuple[str, ...]:
        """What was not declared of the teachers' training."""
        return tuple(key for key in DECLARABLE if key not in self.declared)

    @property
    def provenance(self) -> str:
        """One sentence: how many, from where, what is not known."""
        names = [str(file["name"]) for file in self.files]
        shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more files" if len(names) > 2 else "")
        told = f"; not known: {', '.join(self.unknown)}" if self.unknown else ""
        return f"{self.trajectories} trajectories of {self.epochs} epochs, imported from {shown}{told}"


@dataclass(frozen=True)
class SetOrigin:
    """Where an imported distilled set comes from; `origin.json` of its run."""

    files: tuple[dict[str, Any], ...]
    """Of each: name, bytes, sha256."""
    space: str
    """What its numbers were: `normalised`, `whitened` or `pixels`, with the publisher's statistics if given."""
    labels: str
    """`hard labels` or `soft labels`."""
    lr: float | None
    """Learned step size; None if it was not given."""
    imported_by: str
    imported_at: float
    """Seconds since 1970."""
    options: tuple[str, ...] = ()
    """Other words of the command that read the files, such as `--experiment 0`."""

    @property
    def words(self) -> str:
        """One sentence without its full stop."""
        names = " and ".join(str(file["name"]) for file in self.files)
        step = "step size not known" if self.lr is None else f"step size {self.lr:g}"
        return f"imported from {names}: {self.space} images, {self.labels}, {step}"


def set_origin(path: Path) -> SetOrigin | None:
    """Read `origin.json`; None if there is none.

    Raises:
        CorruptFileError: it is damaged.
    """
    try:
        value = read_json(path)
        files, options = (tuple(dict(file) for file in value["files"]), tuple(map(str, value.get("options", ()))))
        origin = SetOrigin(**{**value, "files": files, "options": options})
        _ = origin.words  # that it can be reported
        return origin
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} is damaged ({error}).", "Import the set again.") from error


def imported_buffer(folder: Path) -> ImportedBuffer:
    """Read a manifest.

    Raises:
        UsageError: there is no such buffer, or it was not imported.
        CorruptFileError: the manifest is damaged.
    """
    names = [path.name for path in imported_folders(folder.parent)]
    others = (
        f"Imported buffers: {', '.join(names)}." if names else "Import one with: tesla import-buffers WORKSPACE FILE..."
    )
    try:
        manifest = read_json(folder / "manifest.json")
    except FileNotFoundError as error:
        raise UsageError(f"There is no imported teacher buffer {folder.name} ({folder}).", others) from error
    try:
        if "imported" not in manifest:
            raise UsageError(f"The teacher buffer {folder.name} was trained here, not imported.", others)
        facts = manifest["imported"]
        return ImportedBuffer(
            name=folder.name,
            trajectories=int(facts["trajectories"]),
            epochs=int(facts["epochs"]),
            files=tuple(dict(file) for file in facts["files"]),
            dtype=str(facts["dtype"]),
            settings=dict(facts["settings"]),
            declared=tuple(facts["declared"]),
            identity=dict(manifest["identity"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(
            f"{folder / 'manifest.json'} is damaged ({error}).", "Delete the folder and import the files again."
        ) from error


def imported_folders(buffers: Path) -> list[Path]:
    """Folders of a workspace's imported buffers, by name."""
    found = []
    for path in (folder / "manifest.json" for folder in paths_in(buffers)):
        try:
            if "imported" in read_json(path) and not path.parent.name.endswith(IMPORTING):
                found.append(path.parent)
        except (NewerFormatError, CorruptFileError, UnreadableFileError, OSError, TypeError):
            continue
    return found


def settings_layer(folder: Path) -> dict[str, Any]:
    """What a run with this buffer has unless it is set: the network, the input space, how many there are."""
    buffer = imported_buffer(folder)
    counts = {"teachers.count": buffer.trajectories, "teachers.epochs": buffer.epochs}
    return {**buffer.settings, **counts}


def checked_identity(folder: Path, settings: Settings, fingerprint: str, dataset: str) -> dict[str, Any]:
    """The identity of the teachers that a run with these settings needs, if the buffer has them.

    Raises:
        UsageError: it is of another dataset, input space or network, or too small.
    """
    buffer = imported_buffer(folder)
    wanted = identity_of(buffer.identity.get("imported"), settings, fingerprint, dataset)
    differing = [key for key in wanted if wanted[key] != buffer.identity.get(key)]
    if differing:
        words = "; ".join(f"{key}: {_short(buffer.identity.get(key))}, here {_short(wanted[key])}" for key in differing)
        raise UsageError(
            f"The imported teacher buffer {buffer.name} was imported with other settings ({words}).",
            "Give the run the settings it was imported with (`tesla config --set teachers.buffer="
            f"{buffer.name}` shows them), or import the files again under another name.",
        )
    if settings.teachers.count > buffer.trajectories:
        raise UsageError(
            f"teachers.count = {settings.teachers.count}, but the imported buffer {buffer.name} has "
            f"{buffer.trajectories} trajectories.",
            f"Set teachers.count = {buffer.trajectories} or fewer.",
        )
    if settings.trained_epochs > buffer.epochs:
        raise UsageError(
            f"This run reads teachers up to epoch {settings.trained_epochs}, but those of the imported buffer "
            f"{buffer.name} have {buffer.epochs} epochs.",
            "Lower distill.max_start_epoch, or distill.teacher_epochs, or choose labels other than `last`.",
        )
    return wanted


def identity_of(files: Any, settings: Settings, fingerprint: str, dataset: str) -> dict[str, Any]:
    """What distinguishes imported buffers: sha256 of its files, and the problem it is used for."""
    return {
        "imported": files,
        "dataset": fingerprint,
        "dataset_name": dataset,
        **record(settings, "imported"),
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
