"""The public interface for Python, which `engine` itself exports: `from engine import distil, open_workspace`.

Small and stable: what is exported keeps its names and meanings within a major version. Everything else in the package
may move. Nothing here prints. Events of the work (`engine.events`) go to `on_event`, if one is given; an exception that
it raises stops the work as Ctrl-C does, saved.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.data.decoder import decode_all
from engine.errors import UsageError
from engine.events import Event
from engine.runs.create import plan_data, plan_workspace
from engine.runs.status import is_finished
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.finished import finished_set
from engine.session.session import drive
from engine.tools.any_set import Accuracy, AnySet, NetworkFactory, evaluating
from engine.tools.exchange.export import Exported, exporting

Result = TypeVar("Result")
OnEvent = Callable[[Event], object]
SettingValues = Mapping[str, object] | Sequence[str]
"""Settings by key, `{"distill.iterations": 200, "augment.ops": ["crop"]}`; or as `--set` spells them,
`["distill.iterations=200"]`. The reference of the settings lists all."""


@dataclass(frozen=True, eq=False)
class DistilledSet:
    """A distilled set, as networks are trained on it; tensors are on the CPU."""

    images: Tensor
    """`(N, C, H, W)`, float: what a network sees (normalised or whitened like the real images)."""
    labels: Tensor
    """`(N, K)`, float: probabilities; one-hot where labels are hard."""
    student_lr: float
    """Learning rate for training on it."""
    classes: tuple[str, ...]
    """Names by class number."""
    pixels: Tensor
    """`(N, C, H, W)`, float: the images in the scale of [0, 1], not clamped."""
    iteration: int
    """Of the checkpoint."""


def open_workspace(
    folder: str | PathLike[str],
    dataset: str | PathLike[str] | None = None,
    *,
    profile: str | None = None,
    settings: SettingValues | None = None,
    on_event: OnEvent | None = None,
) -> Workspace:
    """Open a workspace; with a dataset, make one if there is none yet.

    Args:
        folder: of the workspace.
        dataset: `digits`, `cifar10`, ...; the path of a folder, zip or Parquet file; or a hub id `owner/name`.
        profile: a published protocol for a new workspace, such as `mtt`.
        settings: other values for the tesla.toml of a new workspace. One that exists keeps its own.
        on_event: called with the progress of reading the dataset.

    Raises:
        TeslaError: there is no such workspace or dataset, the workspace has another dataset, or a setting is not
            possible.
    """
    path = _path("folder", folder)
    if dataset is None:
        return Workspace(path)
    dataset = fspath(dataset) if isinstance(dataset, PathLike) else dataset
    if not isinstance(dataset, str):
        raise UsageError(f"dataset is {dataset!r}; give a name or a path, such as 'digits'.")
    if (path / "tesla.toml").is_file():
        return _same_dataset(Workspace(path), dataset)
    plan = plan_workspace(path, dataset, _texts(settings, profile))
    Workspace.check_new(path)
    found = _run(plan.data.look(), on_event)
    return plan.make(None if found is None else found.report)


def distil(
    workspace: Workspace | str | PathLike[str],
    run: str | None = None,
    *,
    ipc: int | None = None,
    profile: str | None = None,
    settings: SettingValues | None = None,
    on_event: OnEvent | None = None,
) -> DistilledSet:
    """Do a run, or what it still lacks, and load its set: data, teachers, distillation, evaluation.

    A finished run is loaded at once. Stopped (KeyboardInterrupt, or an exception of `on_event`), it is saved; the same
    call resumes it, to the same bits.

    Args:
        workspace: of the run.
        run: its name; `ipc-N` by default.
        ipc: synthetic images per class; by default what the workspace says.
        profile: a published protocol, such as `mtt`.
        settings: values for this run.
        on_event: called with every event.

    Raises:
        BusyError: another process drives this run.
        TeslaError: settings or data that are not possible.
    """
    opened = _workspace(workspace)
    events = distil_events(opened, run, ipc=ipc, profile=profile, settings=settings)
    return _run(events, on_event)


def distil_events(
    workspace: Workspace | str | PathLike[str],
    run: str | None = None,
    *,
    ipc: int | None = None,
    profile: str | None = None,
    settings: SettingValues | None = None,
) -> Generator[Event, None, DistilledSet]:
    """`distil` as a generator of events that returns the set. Closing it saves and stops."""
    opened = _workspace(workspace)
    overrides = _texts(settings, profile)
    if not isinstance(run, str | None):
        raise UsageError(f"run is {run!r}; give a name.")
    if isinstance(ipc, np.integer):
        ipc = int(ipc)
    if run is None:
        run = f"ipc-{opened.settings(ipc=ipc, overrides=overrides).settings.distill.ipc}"
    chosen = opened.run(run)
    effective = opened.settings(ipc=ipc, overrides=overrides, run=chosen)
    if not is_finished(chosen, effective):
        yield from drive(opened, chosen, effective)
    return (yield from _loading(opened, run, None))


def load_set(
    workspace: Workspace | str | PathLike[str], run: str | None = None, *, iteration: int | None = None
) -> DistilledSet:
    """The images, labels and learning rate of a run.

    Args:
        workspace: of the run; its dataset must be available.
        run: its name; by default the one that was written to last.
        iteration: of a checkpoint; by default the selected one, which is best on held-out images.

    Raises:
        TeslaError: there is no such run or checkpoint, or its method makes no small set.
    """
    return _run(_loading(_workspace(workspace), run, iteration), None)


def evaluate(
    workspace: Workspace | str | PathLike[str],
    images: Tensor,
    labels: Tensor,
    student_lr: float,
    *,
    network: str | NetworkFactory | None = None,
    repeats: int | None = None,
    split: Literal["test", "holdout"] = "test",
    settings: SettingValues | None = None,
    on_event: OnEvent | None = None,
) -> Accuracy:
    """Train new networks on any small set and measure them on a workspace's real images.

    To the workspace's protocol: `evaluate.epochs`, `evaluate.augment` and so on. Nothing is written.

    Args:
        workspace: whose dataset and protocol are used.
        images: `(N, C, H, W)`, normalised as the workspace does it (`DistilledSet.images`).
        labels: `(N, K)` probabilities, or `(N,)` class numbers.
        student_lr: learning rate.
        network: a name, or a function without arguments that makes a new module for `(B, C, H, W)` with logits
            `(B, K)`; its initial weights are drawn from PyTorch's global generator, which is seeded for it and
            restored afterwards. By default the workspace's network.
        repeats: networks to train; by default `evaluate.repeats`.
        split: `test`, or `holdout` to choose among sets without looking at the test images.
        settings: other values of the protocol, such as `{"evaluate.epochs": 1000}`.
        on_event: called with the progress.

    Raises:
        UsageError: images or labels that do not fit the dataset, or a network that does not fit them.
    """
    opened = _workspace(workspace)
    effective = opened.settings(overrides=_texts(settings, None), teachers=False)
    given = AnySet(images, labels, student_lr)
    events = evaluating(opened, effective.settings, given, network, repeats, split)
    return _run(events, on_event)


def export(
    workspace: Workspace | str | PathLike[str],
    to: str | PathLike[str],
    run: str | None = None,
    *,
    iteration: int | None = None,
    layout: Literal["folder", "pt"] = "folder",
    with_test: bool = False,
    title: str | None = None,
    licence: str | None = None,
    on_event: OnEvent | None = None,
) -> Exported:
    """Write the set of a run to a new folder, as `tesla export` does.

    Args:
        workspace: of the run.
        to: a folder that is new or empty.
        run: its name; by default the one that was written to last.
        iteration: of a checkpoint; by default the selected one.
        layout: `folder`, self-contained; or `pt`, the three files of published code.
        with_test: also write the real test images.
        title: of the real data, for the card; by default the dataset's name.
        licence: of the real data, as the hub spells it, such as `cc-by-4.0`; by default what is known.
        on_event: called with the progress.

    Raises:
        UsageError: `to` is not empty, or there is no such run, checkpoint or layout.
    """
    if layout not in ("folder", "pt"):
        raise UsageError(f"layout is {layout!r}; it must be 'folder' or 'pt'.")
    for name, text in (("title", title), ("licence", licence)):
        if not isinstance(text, str | None):
            raise UsageError(f"{name} is {text!r}; give a text.")
    opened = _workspace(workspace)
    chosen = opened.existing_run(run)
    writing = exporting(
        opened,
        chosen,
        _path("to", to),
        iteration=iteration,
        layout=layout,
        with_test=with_test,
        title=title,
        licence=licence,
    )
    return _run(writing, on_event)


def _run(events: Generator[Event, None, Result], on_event: OnEvent | None) -> Result:
    """Do it all. A program that evaluates may have switched gradients off: what is trained here needs them."""
    if on_event is not None and not callable(on_event):
        raise UsageError(f"on_event is {on_event!r}; give a function of one event.")
    with torch.inference_mode(False), torch.enable_grad():
        return run_to_end(events, on_event)


def _workspace(workspace: Workspace | str | PathLike[str]) -> Workspace:
    return workspace if isinstance(workspace, Workspace) else Workspace(_path("workspace", workspace))


def _path(name: str, value: object) -> Path:
    if not isinstance(value, str | PathLike):
        raise UsageError(f"{name} is {value!r}; give a path.")
    return Path(value)


def _same_dataset(workspace: Workspace, dataset: str) -> Workspace:
    """The workspace, whose dataset is the one that was asked for."""
    asked, own = plan_data(dataset, ()).effective.settings.dataset, workspace.settings().settings.dataset
    if (asked.name, asked.path) != (own.name, own.path):
        has = own.name if own.path is None else own.path
        raise UsageError(
            f"The workspace {workspace.folder} has the dataset {has}, not {dataset}.",
            "Open it without the argument dataset, or make another workspace.",
        )
    return workspace


def _texts(settings: SettingValues | None, profile: str | None) -> tuple[str, ...]:
    """Settings as the command line spells them."""
    if isinstance(settings, Mapping):
        given = [f"{key}={_spelled(key, value)}" for key, value in settings.items()]
    elif settings is not None and not isinstance(settings, str | Sequence):
        raise UsageError(f"settings is {settings!r}; give a dictionary, such as {{'distill.iterations': 200}}.")
    else:
        given = [settings] if isinstance(settings, str) else list(settings or ())
        for text in given:
            if not isinstance(text, str):
                raise UsageError(f"settings holds {text!r}; give texts, such as 'distill.iterations=200'.")
    return (*given, *([f"profile={json.dumps(profile)}"] if profile is not None else []))


def _spelled(key: str, value: object) -> str:
    """A value as TOML, which JSON is for these types.

    Raises:
        UsageError: a value of another type.
    """
    if isinstance(value, PathLike):
        value = str(Path(value))
    if isinstance(value, np.generic):
        value = value.item()
    plain = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, str | int | float | bool) for one in plain):
        raise UsageError(f"settings[{key!r}] is {value!r}; give a text, a number, true or false, or a list of these.")
    return json.dumps(value, ensure_ascii=False)


def _loading(workspace: Workspace, run: str | None, iteration: int | None) -> Generator[Event, None, DistilledSet]:
    found = yield from finished_set(workspace, workspace.existing_run(run), iteration)
    images = decode_all(found.task.decoder, found.images)
    labels = found.labels.repeat_interleave(found.task.decoder.views, dim=0)
    return DistilledSet(
        images=images.cpu(), labels=labels.cpu(), student_lr=found.student_lr.item(),
        classes=tuple(found.task.dataset.classes), pixels=found.task.space.decode(images).cpu(),
        iteration=found.iteration,
    )  # fmt: skip
