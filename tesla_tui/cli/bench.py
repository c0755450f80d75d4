"""`tesla bench`: the group, and `tesla bench gradient`. The stages are in bench_stages.py."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tesla_tui.cli.bench_stages import Deterministic, MemoryName, PrecisionName, data, evaluate, teachers
from tesla_tui.cli.options import NETWORK_HELP

if TYPE_CHECKING:
    from rich.console import Console

    from engine.tools.bench.gradient import GradientBench

PNG = Path("bench-gradient.png")

bench = typer.Typer(
    name="bench",
    help="Benchmark this machine.\n\nTimes the engine next to a loop written like published code.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class CaseName(StrEnum):
    """The names in `engine.tools.bench.cases.CASES`, which this module must not load for `--help`."""

    cifar100 = "cifar100"
    imagenet = "imagenet"
    small = "small"
    paper = "paper"


class ModeName(StrEnum):
    """The names in `engine.tools.bench.cases.MODES`."""

    published = "published"
    unrolled = "unrolled"
    paper = "paper"
    exact = "exact"


class StoreName(StrEnum):
    """Where `exact` keeps parameters, see `distill.store`."""

    auto = "auto"
    device = "device"
    host = "host"
    checkpoint = "checkpoint"


class ModulesName(StrEnum):
    """The names in `engine.tools.bench.cases.MODULES`."""

    own = "own"
    plain = "plain"


@bench.command()
def gradient(
    quick: Annotated[bool, typer.Option("--quick", help="Use a small problem: two minutes on two cores.")] = False,
    case: Annotated[
        CaseName,
        typer.Option(
            "--case",
            help="cifar100: ConvNetD3 width 128, 3x32x32, 100 classes, batch 100. imagenet: ConvNetD4 width 128, "
            "3x64x64, 1000 classes, batch 50. small: ten images of 1x32x32, width 32. paper: cifar100 at T = 1, 50 and "
            "100, for a GPU. The options below override it.",
        ),
    ] = CaseName.cifar100,
    mode: Annotated[list[ModeName] | None, typer.Option("--mode", help="Measure only this mode. Repeatable.")] = None,
    steps: Annotated[
        list[int] | None, typer.Option("--steps", min=1, help="T, matching steps per iteration. Repeatable.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Images per step. Repeatable.")] = None,
    network: Annotated[str | None, typer.Option("--network", help=NETWORK_HELP)] = None,
    width: Annotated[list[int] | None, typer.Option("--width", min=1, help="Network width. Repeatable.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", min=1, help="Network depth.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", min=1, help="Image channels.")] = None,
    resolution: Annotated[
        list[int] | None, typer.Option("--resolution", min=4, help="Image side in pixels. Repeatable.")
    ] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="Number of classes.")] = None,
    store: Annotated[
        list[StoreName] | None, typer.Option("--store", help="Where `exact` keeps parameters. Repeatable.")
    ] = None,
    modules: Annotated[
        list[ModulesName] | None,
        typer.Option(
            "--modules",
            help="Layers of the ConvNet in `exact`: the engine's own, or plain nn.GroupNorm, nn.ReLU and nn.AvgPool2d, "
            "as in a model of your own. Repeatable. Default: own, and plain where `exact` is compiled (not with "
            "--quick and paper).",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        list[MemoryName] | None,
        typer.Option(
            "--memory",
            help="CPU allocator policy of every mode, published code included: auto means fast, default means "
            "glibc's own. Repeatable. `published` is also measured with glibc's own.",
            show_default="fast",
        ),
    ] = None,
    precision: Annotated[
        list[PrecisionName] | None,
        typer.Option(
            "--precision",
            help="Precision of every mode on CUDA. auto: TF32 in convolutions, PyTorch's default and published code's. "
            "tf32: in matrix products, too. Repeatable.",
            show_default="auto",
        ),
    ] = None,
    deterministic: Deterministic = False,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Measure `paper` and `exact` compiled only, or eager only.",
            show_default="both",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option("--rounds", min=1, help="Measurements of each configuration, interleaved, after one warm-up."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")] = None,
    png: Annotated[Path, typer.Option("--png", help="Where to write the chart.", dir_okay=False)] = PNG,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Where to write every sample. Default: next to the chart.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", help="Write the table to this file, too.", show_default=False, dir_okay=False),
    ] = None,
) -> None:
    """Measure time and peak memory of the matching gradient, next to published code.

    Each configuration runs in its own process, interleaved with the others, so that background load affects all alike.
    Allocator, precision and determinism are the same for all of them; on a CPU, published code is also shown with
    glibc's default allocator, as its authors run it. Prints a table, draws a chart and writes every sample as JSON.
    Ctrl-C stops and keeps what was measured.

    Examples:

        tesla bench gradient --case small --mode published --mode exact --steps 5 --rounds 1

        tesla bench gradient --quick

        tesla bench gradient --case paper --precision float32 --precision tf32 --markdown paper.md

        tesla bench gradient --case imagenet --steps 3 --mode published --mode exact --compile

        tesla bench gradient --mode paper --mode exact --store checkpoint --memory flat --steps 1 --steps 100 --rounds 1
    """
    from engine.errors import UsageError
    from engine.runtime.device import resolve_device
    from engine.settings import resolve_settings
    from engine.storage.atomic import write_bytes
    from engine.tools.bench.cases import CASES, MODES, Compute, configurations, varied, with_authors_allocator
    from engine.tools.bench.gradient import GradientBench
    from engine.tools.bench.record import gradient_record, machine
    from engine.tools.bench.switches import has_allocators
    from tesla_tui.cli.measuring import finish, typed, watch
    from tesla_tui.render.bench import gradient_tables, gradient_words
    from tesla_tui.render.bench_markdown import gradient_markdown
    from tesla_tui.render.words import literal

    there = resolve_device(resolve_settings(overrides=[f"compute.device={device}"]).settings.compute.device)
    named = CASES["quick" if quick else case.value]
    shapes = varied(
        named.shape, network=network, depth=depth, channels=channels, classes=classes, batch=batch, width=width,
        resolution=resolution,
    )  # fmt: skip
    if modules and ModulesName.plain in modules and shapes[0].network != "convnet":
        raise UsageError("Only convnet has plain modules.", "Leave out --modules.")
    chosen = configurations(
        shapes,
        [name.value for name in mode] if mode else MODES,
        steps or named.steps,
        stores=[name.value for name in store] if store else ("auto",),
        compiled=compiled,
        compiled_only=None if steps or compiled else named.compiled,
        modules=modules or (("own", "plain") if named.plain and compiled is not False else ("own",)),
        computes=[
            Compute(device, threads, allocator.policy, kind.value, deterministic)
            for kind in dict.fromkeys(precision or [PrecisionName.auto])
            for allocator in dict.fromkeys(memory or [MemoryName.auto])
        ],
    )
    if has_allocators(there):
        chosen = with_authors_allocator(chosen)
    measured = GradientBench(chosen, rounds or named.rounds)
    where = machine(device, threads)
    console, code = watch(measured.run())
    for table in gradient_tables(measured, console):
        console.print(table)
    for line in gradient_words(measured):
        console.print(line, style="yellow" if line.startswith("!") else "dim", highlight=False, markup=False)
    if any(row.peak_bytes is not None for row in measured.rows):
        _draw(measured, where, png, console)
    if markdown is not None:
        write_bytes(markdown, gradient_markdown(measured, where, typed()).encode(), tidy=True)
        console.print(f"Table: [bold]{literal(markdown)}[/]", highlight=False)
    record = gradient_record(measured, where, not code, typed())
    finish(console, record, json or png.with_suffix(".json"), code)


def _draw(measured: "GradientBench", where: dict[str, Any], png: Path, console: "Console") -> None:
    """A chart for each shape and precision: the first at `png`, the others numbered."""
    from tesla_tui.render.bench import titled_rows
    from tesla_tui.render.bench_chart import draw_gradient
    from tesla_tui.render.words import literal

    for number, (title, rows) in enumerate(titled_rows(measured).items()):
        path = png if number == 0 else png.with_stem(f"{png.stem}-{number + 1}")
        draw_gradient(measured, title, rows, where, path)
        console.print(f"Chart: [bold]{literal(path)}[/]", highlight=False)


bench.command()(teachers)
bench.command()(evaluate)
bench.command()(data)
