"""`tesla bench teachers`, `evaluate` and `data`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tesla_tui.cli.options import Overrides

if TYPE_CHECKING:
    from engine.settings import ComputeSettings
    from engine.tools.bench.cases import Compute


class MemoryName(StrEnum):
    """The names in `engine.tools.bench.cases.ALLOCATORS`, and `auto`, as in `compute.memory`."""

    auto = "auto"
    fast = "fast"
    flat = "flat"
    default = "default"

    @property
    def policy(self) -> str:
        """`auto` is what a run takes."""
        return "fast" if self is MemoryName.auto else self.value


class PrecisionName(StrEnum):
    """The names in `engine.tools.bench.cases.PRECISIONS`."""

    auto = "auto"
    float32 = "float32"
    tf32 = "tf32"


DatasetName = Annotated[
    str,
    typer.Option("--dataset", help="A dataset as for `tesla init`; its preset sets the sizes."),
]
IpcOf = Annotated[int, typer.Option("--ipc", min=1, help="Images per class of the distilled set.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Measurements of each, interleaved, after one warm-up.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs per measurement.", show_default=False)]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", show_default=False)]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default=False)]
Memory = Annotated[
    MemoryName,
    typer.Option(
        "--memory",
        help="CPU allocator policy of both sides: auto means fast, default means glibc's own. Published code is also "
        "measured with glibc's own.",
    ),
]
Precision = Annotated[
    PrecisionName,
    typer.Option(
        "--precision",
        help="Of both sides, on CUDA. auto: TF32 in convolutions, as PyTorch does by default. tf32: in matrix "
        "products, too.",
    ),
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Deterministic kernels on CUDA, for published code and ours alike.")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write every sample to this file.", show_default=False, dir_okay=False)
]

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
    memory: Memory = MemoryName.auto,
    precision: Precision = PrecisionName.auto,
    deterministic: Deterministic = False,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Measure teacher training in images per second, snapshots included, next to published code.

    Examples:

        tesla bench teachers --epochs 1

        tesla bench teachers --dataset fashion-mnist --epochs 1
    """
    # A trajectory is trained as far as a distillation can read it.
    length = [f"distill.teacher_epochs={epochs or 2}", f"teachers.epochs={epochs or 2}", *FROM_THE_FIRST]
    switches = (memory, precision, deterministic)
    _measure("teachers", dataset, 1, ["teachers.count=1", *length], rounds, device, threads, switches, overrides, json)


def evaluate(
    dataset: DatasetName = "digits",
    ipc: IpcOf = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Networks to train.")] = 5,
    epochs: Epochs = None,
    rounds: Rounds = 3,
    device: Device = None,
    threads: Threads = None,
    memory: Memory = MemoryName.auto,
    precision: Precision = PrecisionName.auto,
    deterministic: Deterministic = False,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Time an evaluation with several repeats, next to the same number of plain loops in sequence.

    Examples:

        tesla bench evaluate --ipc 10 --epochs 20

        tesla bench evaluate --set network.width=128 --set network.depth=3 --set dataset.resolution=32 --epochs 50
    """
    sets = [f"evaluate.repeats={repeats}", *([f"evaluate.epochs={epochs}"] if epochs else [])]
    switches = (memory, precision, deterministic)
    _measure("evaluate", dataset, ipc, sets, rounds, device, threads, switches, overrides, json)


def data(
    dataset: DatasetName = "digits",
    rounds: Rounds = 5,
    device: Device = None,
    threads: Threads = None,
    memory: Memory = MemoryName.auto,
    precision: Precision = PrecisionName.auto,
    deterministic: Deterministic = False,
    overrides: Overrides = None,
    json: JsonFile = None,
) -> None:
    """Measure decoding, normalising and augmenting in images per second, next to a DataLoader.

    Examples:

        tesla bench data

        tesla bench data --dataset fashion-mnist
    """
    switches = (memory, precision, deterministic)
    _measure("data", dataset, 1, [], rounds, device, threads, switches, overrides, json)


def _measure(
    stage: str,
    dataset: str,
    ipc: int,
    sets: list[str],
    rounds: int,
    device: str | None,
    threads: int | None,
    switches: tuple[MemoryName, PrecisionName, bool],
    overrides: list[str] | None,
    json: Path | None,
) -> None:
    import tempfile

    from engine.runs.create import plan_workspace
    from engine.runtime.device import resolve_device
    from engine.storage.temp_files import scratch_folder
    from engine.tools.bench.record import machine, stage_record
    from engine.tools.bench.stages import StageBench
    from engine.tools.bench.switches import has_allocators
    from tesla_tui.cli.measuring import finish, typed, watch
    from tesla_tui.render.bench import stage_table, stage_words
    from tesla_tui.render.words import clean

    more = [f"compute.device={device}"] if device else []
    more += [f"compute.threads={threads}"] if threads else []
    with scratch_folder(Path(tempfile.gettempdir()), "tesla-bench") as folder:
        plan = plan_workspace(folder / "workspace", dataset, [*sets, *more, *(overrides or [])])
        workspace = plan.make()
        settings = workspace.settings(ipc=ipc).settings
        there = resolve_device(settings.compute.device)
        words = f"{clean(dataset)}, {settings.network.name}"
        words += "" if settings.network.width is None else f" width {settings.network.width}"
        if stage == "evaluate":
            words += f", IPC {ipc}, {settings.evaluate.repeats} networks x {settings.evaluate.epochs} epochs"
        elif stage == "teachers":
            words += f", batch {settings.teachers.batch}, {settings.trained_epochs} epochs"
        compute = _compute(settings.compute, overrides or [], switches)
        measured = StageBench(stage, workspace.folder, ipc, words, rounds, compute, default=has_allocators(there))
        where = machine(compute.device, compute.threads)
        console, code = watch(measured.run())
        console.print(stage_table(measured, console))
        for line in stage_words(measured):
            console.print(line, style="yellow" if line.startswith("!") else "dim", highlight=False, markup=False)
        if json is not None:
            finish(console, stage_record(measured, where, not code, typed()), json, code)
    if code:
        raise typer.Exit(code)


def _compute(
    settings: "ComputeSettings", overrides: list[str], switches: tuple[MemoryName, PrecisionName, bool]
) -> "Compute":
    """What both sides run with: what the options say, or `--set compute.*` where that was typed instead."""
    from engine.tools.bench.cases import Compute

    memory, precision, deterministic = switches
    given = {override.partition("=")[0].strip() for override in overrides}
    if "compute.memory" in given:
        memory = MemoryName(settings.memory)
    if "compute.precision" in given:  # nothing but matching steps takes bfloat16
        precision = PrecisionName("float32" if settings.precision == "bf16" else settings.precision)
    if "compute.deterministic" in given:
        deterministic = settings.deterministic
    threads = None if settings.threads == "auto" else settings.threads
    return Compute(settings.device, threads, memory.policy, precision.value, deterministic)
