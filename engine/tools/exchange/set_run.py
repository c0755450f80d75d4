"""A checked distilled set as a run with one checkpoint; its settings file is written last and makes it a run."""

from collections.abc import Generator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from engine.data.decoder import Whole
from engine.events import CheckpointSaved, DataReady, Event, Notice, RunFinished, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.preview_writer import PreviewWriter
from engine.runs.provenance import SetOrigin
from engine.runs.run import Run
from engine.runs.workspace import OpenDataset, acquire_run
from engine.runtime.device import environment
from engine.settings import EffectiveSettings
from engine.storage.atomic import disk, write_json
from engine.tools.exchange.set_report import SetReport


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
        """Make it a run. Use as `yield from`; closing before the end leaves no run.

        Raises:
            BusyError: another process imports a run of this name.
        """
        run, effective, dataset = self.run, self.effective, self.opened.dataset
        settings = effective.settings
        tensors = {"images": self.images.contiguous(), "labels": self.labels.contiguous()}
        tensors["student_lr"] = torch.tensor(self.lr)
        with (yield from acquire_run(run)):
            disk.remove(run.journal_file)  # of an import that was stopped
            path = run.save_checkpoint(tensors, {"iteration": 0, "skipped": 0, "recoveries": 0})
            camera = PreviewWriter(
                run.film, self.opened.space, Whole(), len(dataset.classes), settings.distill.ipc, dataset.resolution
            )
            camera.write(0, self.images, None if self.report.hard else self.labels, lasting=True)
            write_json(run.origin_file, asdict(self.origin))
            journal = JournalWriter(run.journal_file)
            events: tuple[Event, ...] = (
                RunStarted(
                    run=run.name, resumed_from=None, settings=effective.flat(),
                    environment=environment(torch.device("cpu")),
                ),
                Notice(level="info", message=self.origin.words),
                DataReady(
                    name=dataset.name, classes=len(dataset.classes), channels=dataset.channels,
                    resolution=dataset.resolution, train=len(self.opened.kept), holdout=len(self.opened.held),
                    test=len(dataset.test_labels), names=list(dataset.classes), fingerprint=dataset.fingerprint,
                ),
                CheckpointSaved(iteration=0, path=str(path.relative_to(run.folder))),
                RunFinished(seconds=0.0),
            )  # fmt: skip
            for event in events:
                journal.append(event)
            run.freeze(effective)
        return self.origin
