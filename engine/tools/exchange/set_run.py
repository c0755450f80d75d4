"""A checked distilled set as a run with one checkpoint, which is there whole or not at all."""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.data.decoder import Whole
from engine.events import CheckpointSaved, DataReady, Event, Notice, Progress, RunFinished, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.liveness import is_driven
from engine.runs.preview_writer import PreviewWriter
from engine.runs.provenance import SetOrigin
from engine.runs.run import Run
from engine.runs.workspace import OpenDataset
from engine.runtime.device import environment
from engine.settings import EffectiveSettings
from engine.storage.atomic import publishing_folder, set_aside, write_json
from engine.storage.reading import status_of
from engine.tools.exchange.set_report import SetReport
from engine.tools.exchange.torch_reader import STAGE


def is_unfinished_import(run: Run) -> bool:
    """Whether a folder is what an import of an earlier version left when it was killed: it wrote the settings last."""
    if status_of(run.folder) is None or status_of(run.settings_file) is not None:
        return False
    return set(run.checkpoints()) <= {0} and (not run.exists or bool(run.broken)) and not is_driven(run)


@dataclass(frozen=True)
class PreparedSet:
    """A set that was read and checked, and is not written yet."""

    run: Run
    effective: EffectiveSettings
    opened: OpenDataset
    images: Tensor
    """`(N, C, H, W)` in the run's input space, ordered by class."""
    labels: Tensor
    """`(N, K)` probabilities."""
    lr: float
    origin: SetOrigin
    report: SetReport

    def write(self) -> Generator[Event, None, SetOrigin]:
        """Make it a run: built beside its name, which it gets when it is whole. Use as `yield from`.

        Killed at any moment it leaves no run; closing before the end, or an error, leaves nothing.

        Raises:
            UsageError: there is a run of this name by now.
        """
        if is_unfinished_import(self.run):
            set_aside(self.run.folder)
        with publishing_folder(self.run.folder) as temp:
            for path in self._written(Run(temp)):
                yield Progress(stage=STAGE, done=1, total=1, unit="sets", detail=f"writing {path.name}")
        return self.origin

    def _written(self, run: Run) -> Iterator[Path]:
        """Write every file of the run, wherever it is built; the settings come last, as they make it a run."""
        effective, dataset = self.effective, self.opened.dataset
        settings = effective.settings
        tensors = {"images": self.images.contiguous(), "labels": self.labels.contiguous()}
        tensors["student_lr"] = torch.tensor(self.lr)
        checkpoint = run.save_checkpoint(tensors, {"iteration": 0, "skipped": 0, "recoveries": 0})
        yield checkpoint
        camera = PreviewWriter(
            run.film, self.opened.space, Whole(), len(dataset.classes), settings.distill.ipc, dataset.resolution
        )
        camera.write(0, self.images, None if self.report.hard else self.labels, lasting=True)
        write_json(run.origin_file, asdict(self.origin))
        journal = JournalWriter(run.journal_file)
        events: tuple[Event, ...] = (
            RunStarted(
                run=self.run.name, resumed_from=None, settings=effective.flat(),
                environment=environment(torch.device("cpu")),
            ),
            Notice(level="info", message=self.origin.words),
            DataReady(
                name=dataset.name, classes=len(dataset.classes), channels=dataset.channels,
                resolution=dataset.resolution, train=len(self.opened.kept), holdout=len(self.opened.held),
                test=len(dataset.test_labels), names=list(dataset.classes), fingerprint=dataset.fingerprint,
            ),
            CheckpointSaved(iteration=0, path=str(checkpoint.relative_to(run.folder))),
            RunFinished(seconds=0.0),
        )  # fmt: skip
        for event in events:
            journal.append(event)
        yield run.journal_file
        run.freeze(effective)
        yield run.settings_file
