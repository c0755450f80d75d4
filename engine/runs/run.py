"""The files of one run: frozen settings, checkpoints, evaluations, previews."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import CorruptFileError, DivergedError, SettingsError, TeslaError, UsageError, system_reason, tesla
from engine.events import EvaluationDone, RunStarted
from engine.runs.evaluations import find_evaluation, read_evaluations, write_evaluation
from engine.runs.journal import check_schema, read_journal
from engine.runs.protocol import own_results
from engine.runs.provenance import SetOrigin, set_origin
from engine.runtime.finite import non_finite
from engine.settings import EffectiveSettings, Settings, frozen_settings, recovered_settings, settings_to_toml
from engine.settings.facts import may_change, needs_other_teachers
from engine.storage.atomic import (
    disk,
    read_tensors,
    refuse_newer,
    removing,
    set_aside,
    sweep,
    write_bytes,
    write_tensors,
)
from engine.storage.reading import exists, is_file, paths_in, status_of
from engine.storage.temp_files import ASIDE
from engine.storage.untrusted import iteration_of

if TYPE_CHECKING:
    from torch import Tensor

NOWHERE = "The journal does not have its settings either."

CLASSES = "dataset.classes"
"""May be set on a run that was started without it, to restore the classes: `engine.runs.same_data` checks them."""


def nobody_else() -> None:
    """The guard of a run that this process does not drive."""


class Run:
    """A run's folder; it may be empty or missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.guard: Callable[[], None] = nobody_else
        """Called before anything is written; raises if this process no longer drives the run."""

    @property
    def settings_file(self) -> Path:
        """The frozen settings."""
        return self.folder / "settings.toml"

    @property
    def journal_file(self) -> Path:
        """The event log."""
        return self.folder / "journal.jsonl"

    @property
    def heartbeat_file(self) -> Path:
        """Rewritten by its driver every second."""
        return self.folder / ".pulse.json"

    @property
    def origin_file(self) -> Path:
        """Where an imported set comes from; a run distilled here has none."""
        return self.folder / "origin.json"

    @property
    def origin(self) -> SetOrigin | None:
        """Where an imported set comes from."""
        return set_origin(self.origin_file)

    @property
    def film(self) -> Path:
        """Folder of the frames that show the images changing."""
        return self.folder / "previews"

    @property
    def evaluation_folder(self) -> Path:
        """Folder of the accuracies."""
        return self.folder / "evaluations"

    @property
    def folders(self) -> list[Path]:
        """Every folder that is written to."""
        return [self.folder, *(self.folder / name for name in ("checkpoints", "evaluations", "previews"))]

    @property
    def exists(self) -> bool:
        """Whether it was ever started: it has settings, or a journal or checkpoints without them."""
        files = (self.settings_file, self.journal_file)
        return any(status_of(file) is not None for file in files) or bool(self.checkpoints())

    @property
    def last_change(self) -> float:
        """When it was last written to, seconds since 1970."""
        for file in (self.journal_file, self.settings_file):
            if exists(file):
                return file.stat().st_mtime
        return self.folder.stat().st_mtime

    def frozen(self) -> EffectiveSettings:
        """The settings it runs with; where their file is damaged or lost, those its journal has.

        Raises:
            SettingsError: neither can be read.
        """
        try:
            return frozen_settings(self.settings_file)
        except (SettingsError, OSError) as error:
            journaled = self._journaled()
            if journaled is not None:
                return journaled
            raise SettingsError(f"{self.settings_damage} {NOWHERE}", self.way_out) from error

    @property
    def way_out(self) -> str:
        """What to do with a run whose settings are nowhere: `tesla doctor` does it too."""
        aside = tesla("doctor", self.folder.parents[1], "--repair")
        return f"Start another run beside it with --run NAME; to move this one to {self.folder.parent / ASIDE}: {aside}"

    @property
    def broken(self) -> str:
        """Why its settings cannot be had, as a message; empty if they can."""
        try:
            self.frozen()
        except TeslaError as error:
            return error.message
        return ""

    @property
    def settings_damage(self) -> str:
        """What is wrong with the frozen settings' file, as a message; empty if nothing is."""
        try:
            frozen_settings(self.settings_file)
        except SettingsError as error:
            return error.message
        except OSError as error:
            return f"{self.settings_file} cannot be read ({system_reason(error)})."
        return ""

    def _journaled(self) -> EffectiveSettings | None:
        """The settings of the newest start in the journal."""
        found: dict[str, Any] | None = None
        for entry, _ in read_journal(self.journal_file):
            if isinstance(entry.event, RunStarted):
                found = entry.event.settings
        toml = self.folder.parents[1] / "tesla.toml"
        try:
            return None if found is None else recovered_settings(found, toml if is_file(toml) else None)
        except SettingsError:
            return None

    def values_from(self, origin: str) -> dict[str, Any]:
        """Frozen keys with that origin (`command line`, or derived when it started: `SETTLED`), with their values."""
        frozen = self.frozen()
        flat = frozen.flat()
        return {key: flat[key] for key, given in frozen.origins.items() if given == origin}

    def check(self, effective: EffectiveSettings) -> None:
        """Refuse settings that would change the experiment of an existing run.

        Raises:
            UsageError: names every such key with its old and new value.
        """
        old, new = self.frozen().flat(), effective.flat()
        done = max(self.checkpoints(), default=0)
        if new["distill.iterations"] < done:
            raise UsageError(
                f"The run {self.name} has already done {done} iterations; distill.iterations = "
                f"{new['distill.iterations']} is less.",
                f"`tesla evaluate --iteration N` and `tesla export --iteration N` accept any of its checkpoints: "
                f"{', '.join(map(str, self.checkpoints()))}.",
            )
        changed = [key for key in new if old.get(key) != new[key]]
        refused = [key for key in changed if not may_change(key) and not (key == CLASSES and old.get(key) is None)]
        if refused:
            words = "; ".join(f"{key} was {old.get(key)!r}, now {new[key]!r}" for key in refused)
            retrained = [key for key in refused if needs_other_teachers(key)]
            needs_them = bool(retrained) and effective.settings.needs_teachers
            cost = f" (with other teachers, because of {', '.join(retrained)})" if needs_them else ""
            raise UsageError(
                f"The run {self.name} was started with other settings: {words}.",
                f"Undo the change, or start another run beside it with --run NAME{cost}.",
            )

    def freeze(self, effective: EffectiveSettings) -> None:
        """Save the settings; on an existing run see `check`."""
        if self.exists:
            self.check(effective)
            if not self.settings_damage:
                if self.frozen() == effective:
                    return
            elif exists(self.settings_file):
                set_aside(self.settings_file)
        write_bytes(self.settings_file, settings_to_toml(effective).encode())

    def checkpoint_path(self, iteration: int) -> Path:
        """Where the checkpoint after that many iterations is."""
        return self.folder / "checkpoints" / f"{iteration:07d}.safetensors"

    def checkpoints(self) -> list[int]:
        """Iterations with a checkpoint, ascending; not verified. An interrupted save does not count."""
        found = set(paths_in(self.folder / "checkpoints", ".safetensors", ".json"))
        named = [(iteration_of(path), path) for path in found if path.suffix == ".safetensors"]
        return sorted(number for number, path in named if number is not None and path.with_suffix(".json") in found)

    def save_checkpoint(self, tensors: dict[str, "Tensor"], record: dict[str, Any]) -> Path:
        """Publish a checkpoint; `record["iteration"]` names it.

        Raises:
            DivergedError: a number is not finite; nothing is written.
        """
        self.guard()
        path = self.checkpoint_path(record["iteration"])
        bad = non_finite(tensors)
        if bad:
            raise DivergedError(
                f"{' and '.join(bad)} of iteration {record['iteration']} hold numbers that are not finite; they are "
                "not saved.",
                "What was saved before is intact.",
            )
        write_tensors(path, tensors, record)
        return path

    def load_checkpoint(self, iteration: int) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
        """A checkpoint, verified.

        Raises:
            CorruptFileError: missing or damaged, or with numbers that are not finite.
        """
        path = self.checkpoint_path(iteration)
        tensors, record = read_tensors(path)
        if bad := non_finite(tensors):
            raise CorruptFileError(
                f"{path} has numbers that are not finite ({', '.join(bad)}).",
                "An older checkpoint is used if there is one.",
            )
        return tensors, record

    def check_formats(self) -> None:
        """Refuse a run that a newer version has resumed, before anything is changed.

        Raises:
            NewerFormatError: names the first such file.
        """
        check_schema(self.journal_file)
        for folder in ("checkpoints", "evaluations"):
            for path in paths_in(self.folder / folder, ".json"):
                refuse_newer(path)

    def newest_valid(self, until: int | None = None) -> "tuple[dict[str, Tensor], dict[str, Any]] | None":
        """The newest checkpoint that is whole, and not after iteration `until`; for readers."""
        for iteration in reversed(self.checkpoints()):
            if until is not None and iteration > until:
                continue
            with suppress(CorruptFileError):
                return self.load_checkpoint(iteration)
        return None

    def prune(self, keep: int, besides: set[int]) -> None:
        """Remove checkpoints older than the last `keep`, but for those in `besides`; and leftovers of dead writers."""
        folder = self.folder / "checkpoints"
        for iteration in self.checkpoints()[:-keep]:
            if iteration not in besides:
                path = self.checkpoint_path(iteration)
                with removing(path):  # no half of it can be taken for a damaged checkpoint
                    disk.remove(path.with_suffix(".json"))
        sweep(folder)

    def sweep(self) -> None:
        """Remove what a kill or a refusal at the very end left in a finished run, which no driver opens again."""
        with suppress(OSError):  # on a disk that cannot be written it is no reason to fail
            sweep(self.folder)

    def save_evaluation(self, result: EvaluationDone, protocol: dict[str, Any], *, apart: bool = False) -> None:
        """Save a result with its protocol, beside those of other protocols; see `write_evaluation`."""
        self.guard()
        write_evaluation(self.evaluation_folder, result, protocol, apart=apart)

    def evaluation(
        self, iteration: int, subject: str, split: str, network: str, protocol: dict[str, Any]
    ) -> EvaluationDone | None:
        """The result, if it was measured to the same protocol."""
        return find_evaluation(self.evaluation_folder, iteration, subject, split, network, protocol)

    def evaluations(self, settings: Settings | None = None) -> list[EvaluationDone]:
        """The results that were measured as `settings` (unset: the run's own) say, by iteration.

        All of them if the run's settings cannot be read.
        """
        if settings is None:
            with suppress(SettingsError):
                settings = self.frozen().settings
        records = self.measured()
        return [result for result, _ in records] if settings is None else own_results(records, settings)

    def measured(self) -> list[tuple[EvaluationDone, dict[str, Any]]]:
        """Every result on disk that this version can read, of whichever protocol, with its protocol; by iteration."""
        return read_evaluations(self.evaluation_folder)
