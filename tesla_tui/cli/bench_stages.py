"""`tesla bench teachers`, `evaluate` and `data`."""

from pathlib import Path
from typing import Annotated

import typer

from tesla_tui.cli.options import Overrides

DatasetName = Annotated[
    str,
    typer.Option("--dataset", help="A dataset as for `tesla init`; its preset sets the sizes."),
]
IpcOf = Annotated[int, typer.Option("--ipc", min=1, help="Images per class of the distilled set.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Measurements of each, interleaved, after one warm-up.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs per measurement.", show_default=False)]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", show_default=False)]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default=False)]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write every sample to this file.", show_default=False)]

FROM_THE_FIRST = (
    "distill.min_start_epoch=0", "distill.max_start_epoch=1", "distill.current_max_start_epoch=max",
)  # fmt: skip
"""Students start from the first epoch: no snapshots but those of `teacher_epochs` are ever read."""


def teachers(
    dataset: DatasetName = "digits",
    epochs: Epochs = None,
    rounds: Rounds = 3,
    device: Device = None,
    threads: Threads = None,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Measure teacher training in images per second, snapshots included, next to published code.

    Example:

        tesla bench teachers --dataset fashion-mnist --epochs 1
    """
    # A trajectory is trained as far as a distillation can read it.
    length = [f"distill.teacher_epochs={epochs or 2}", f"teachers.epochs={epochs or 2}", *FROM_THE_FIRST]
    _measure("teachers", dataset, 1, ["teachers.count=1", *length], rounds, device, threads, overrides, json)


def evaluate(
    dataset: DatasetName = "digits",
    ipc: IpcOf = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Networks to train.")] = 5,
    epochs: Epochs = None,
    rounds: Rounds = 3,
    device: Device = None,
    threads: Threads = None,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Time an evaluation with several repeats, next to the same number of plain loops in sequence.

    Examples:

        tesla bench evaluate --ipc 10

        tesla bench evaluate --set network.width=128 --set network.depth=3 --set dataset.resolution=32 --epochs 50
    """
    sets = [f"evaluate.repeats={repeats}", *([f"evaluate.epochs={epochs}"] if epochs else [])]
    _measure("evaluate", dataset, ipc, sets, rounds, device, threads, overrides, json)


def data(
    dataset: DatasetName = "digits",
    rounds: Rounds = 5,
    device: Device = None,
    threads: Threads = None,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Measure decoding, normalising and augmenting in images per second, next to a DataLoader.

    Example:

        tesla bench data --dataset fashion-mnist
    """
    _measure("data", dataset, 1, [], rounds, device, threads, overrides, json)


def _measure(
    stage: str,
    dataset: str,
    ipc: int,
    sets: list[str],
    rounds: int,
    device: str | None,
    threads: int | None,
    overrides: list[str] | None,
    json: Path | None,
) -> None:
    import tempfile

    from engine.runs.create import plan_workspace
    from engine.runtime.device import resolve_device
    from engine.tools.bench.record import machine, stage_record
    from engine.tools.bench.stages import StageBench
    from tesla_tui.cli.measuring import finish, watch
    from tesla_tui.render.bench import stage_table
    from tesla_tui.render.words import clean

    more = [f"compute.device={device}"] if device else []
    more += [f"compute.threads={threads}"] if threads else []
    with tempfile.TemporaryDirectory(prefix="tesla-bench-") as folder:
        plan = plan_workspace(Path(folder) / "workspace", dataset, [*sets, *more, *(overrides or [])])
        workspace = plan.make()
        settings = workspace.settings(ipc=ipc).settings
        resolve_device(settings.compute.device)
        words = f"{clean(dataset)}, {settings.network.name}"
        words += "" if settings.network.width is None else f" width {settings.network.width}"
        if stage == "evaluate":
            words += f", IPC {ipc}, {settings.evaluate.repeats} networks x {settings.evaluate.epochs} epochs"
        elif stage == "teachers":
            words += f", batch {settings.teachers.batch}, {settings.trained_epochs} epochs"
        measured = StageBench(stage, workspace.folder, ipc, words, rounds)
        chosen = settings.compute.threads
        where = machine(settings.compute.device, None if chosen == "auto" else chosen)
        console, code = watch(measured.run())
        console.print(stage_table(measured, console))
        for row in measured.rows:
            if row.candidate.problem:
                console.print(f"! {row.label}: {clean(row.candidate.problem)}", style="yellow", markup=False)
        if json is not None:
            finish(console, stage_record(measured, where, complete=not code), json, code)
    if code:
        raise typer.Exit(code)
