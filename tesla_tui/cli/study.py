"""`tesla study`: a question answered by a set of runs, which can be stopped and resumed."""

from typing import Annotated

import typer

from tesla_tui.cli.options import NETWORK_HELP, Ipc, Overrides, OwnTeachers, Seeds, WorkspacePath
from tesla_tui.cli.studying import answer, named_runs, study_plan

study = typer.Typer(
    name="study",
    help="Compare labels, gradients or methods with a set of runs.\n\n"
    "Prints a table and writes it to studies/NAME in the workspace as Markdown and JSON, with charts. Ctrl-C stops; "
    "run the same command to resume.",
    no_args_is_help=True,
)

Name = Annotated[
    str | None,
    typer.Option("--name", help="Folder in studies/ and prefix of the run names.", show_default="the study's"),
]
Runs = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="Run to include; NAME includes NAME-seed-0 and so on. Default: every run with a checkpoint. Repeatable.",
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole/--no-whole", help="Also train networks on the whole dataset, once for all studies, for % of whole."
    ),
]  # fmt: skip
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", help=f"{NETWORK_HELP} Repeatable.", show_default="convnet, resnet18, vit",
    ),
]  # fmt: skip


@study.command()
def labels(
    workspace: WorkspacePath, ipc: Ipc = None, seeds: Seeds = 1, own_teachers: OwnTeachers = False,
    whole: Whole = True, name: Name = None, overrides: Overrides = None,
) -> None:  # fmt: skip
    """Compare hard, target (SLA), last and learned labels: the paper's Figure 4 and Table 3.

    Examples:

        tesla study labels my-run --no-whole --set distill.iterations=20 --set teachers.count=2 --set evaluate.epochs=50

        tesla study labels my-run --ipc 1
    """
    from engine.tools.studies import runs

    plan = study_plan(seeds, own_teachers, whole)
    answer(workspace, name or "labels", lambda opened, called: runs.labels(opened, called, ipc, overrides or (), plan))


@study.command(name="ipc")
def images_per_class(
    workspace: WorkspacePath,
    ipc: Annotated[
        list[int] | None, typer.Option("--ipc", min=1, help="Images per class. Repeatable.", show_default="1 and 10")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A distill.method. Repeatable.", show_default="all"),
    ] = None,
    seeds: Seeds = 1,
    own_teachers: OwnTeachers = False,
    whole: Whole = True,
    name: Name = None,
    overrides: Overrides = None,
) -> None:
    """Compare methods by images per class: the rows of the paper's Table 1.

    Examples:

        tesla study ipc my-run --ipc 1 --method random --method herding --no-whole

        tesla study ipc my-run --ipc 1 --ipc 10 --method random --method dm --method tesla
    """
    from engine.errors import UsageError
    from engine.settings import method_names
    from engine.tools.studies import runs

    known = method_names()
    for wrong in (word for word in method or () if word not in known):
        raise UsageError(f"Unknown method {wrong!r}.", f"Methods: {', '.join(known)}.")
    methods, counts = tuple(dict.fromkeys(method or known)), tuple(sorted(set(ipc or (1, 10))))
    plan = study_plan(seeds, own_teachers, whole)
    answer(
        workspace,
        name or "ipc",
        lambda opened, called: runs.ipc(opened, called, methods, counts, overrides or (), plan),
    )


@study.command()
def lr(
    workspace: WorkspacePath, ipc: Ipc = None, seeds: Seeds = 1, own_teachers: OwnTeachers = False,
    whole: Whole = True, name: Name = None, overrides: Overrides = None,
) -> None:  # fmt: skip
    """Track the learned student_lr from 0.1, 1 and 10 times its initial value: the paper's Figure 7.

    Examples:

        tesla study lr my-run --no-whole --set distill.iterations=20 --set teachers.count=2 --set evaluate.epochs=50

        tesla study lr my-run --ipc 1
    """
    from engine.tools.studies import runs

    plan = study_plan(seeds, own_teachers, whole)
    answer(workspace, name or "lr", lambda opened, called: runs.lr(opened, called, ipc, overrides or (), plan))


@study.command()
def gradient(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    steps: Annotated[
        list[int] | None,
        typer.Option("--steps", min=1, help="T. Repeatable.", show_default="1 and fractions of distill.steps"),
    ] = None,
    epoch: Annotated[
        list[int] | None,
        typer.Option("--epoch", min=0, help="Start epoch. Repeatable.", show_default="first, middle and last drawn"),
    ] = None,
    seeds: Seeds = 1,
    own_teachers: OwnTeachers = False,
    whole: Whole = True,
    name: Name = None,
    overrides: Overrides = None,
) -> None:
    """Compare the paper's gradient with the exact one: by T and start epoch, and in accuracy.

    Examples:

        tesla study gradient my-run --steps 1 --steps 5 --no-whole --set distill.iterations=20 --set evaluate.epochs=50

        tesla study gradient my-run --ipc 1 --steps 1 --steps 10 --steps 50
    """
    from engine.tools.studies.gradient import gradient as compared

    plan = study_plan(seeds, own_teachers, whole)
    answer(
        workspace,
        name or "gradient",
        lambda opened, called: compared(opened, called, ipc, steps or (), epoch or (), overrides or (), plan),
    )


@study.command()
def start(
    workspace: WorkspacePath, ipc: Ipc = None, seeds: Seeds = 1, own_teachers: OwnTeachers = False,
    whole: Whole = True, name: Name = None, overrides: Overrides = None,
) -> None:  # fmt: skip
    """Compare start epochs (early, late, all, growing) and initial labels (one-hot, teacher): DATM's two ideas.

    Runs each variant with the exact and the paper's gradient: twelve runs.

    Examples:

        tesla study start my-run --no-whole --set distill.iterations=5 --set teachers.count=2 --set evaluate.epochs=20

        tesla study start my-run --ipc 10
    """
    from engine.tools.studies import starts

    plan = study_plan(seeds, own_teachers, whole)
    answer(workspace, name or "start", lambda opened, called: starts.start(opened, called, ipc, overrides or (), plan))


@study.command(name="sla-only")
def sla_only(workspace: WorkspacePath, ipc: Ipc = None, name: Name = None, overrides: Overrides = None) -> None:
    """Measure what teacher labels alone gain on unchanged images: the paper's Figure 5.

    Examples:

        tesla study sla-only my-run --set teachers.count=2 --set evaluate.epochs=50

        tesla study sla-only my-run --ipc 1
    """
    from engine.tools.studies import evaluations

    answer(
        workspace, name or "sla-only", lambda opened, called: evaluations.sla_only(opened, called, ipc, overrides or ())
    )


@study.command()
def cross(
    workspace: WorkspacePath,
    run: Runs = None,
    network: Networks = None,
    name: Name = None,
    overrides: Overrides = None,
) -> None:
    """Evaluate runs with networks other than the one they were distilled with: the paper's Table 2.

    Example:

        tesla study cross my-run --run quick --network convnet --network mlp
    """
    from engine.tools.studies import evaluations

    networks = tuple(dict.fromkeys(network or evaluations.NETWORKS))
    answer(
        workspace,
        name or "cross",
        lambda opened, called: evaluations.cross(opened, named_runs(opened, run), networks, overrides or ()),
    )


@study.command()
def ranking(
    workspace: WorkspacePath, run: Runs = None, whole: Whole = True, name: Name = None, overrides: Overrides = None
) -> None:
    """Measure hard label recovery and improvement over random, the two measures of DD-Ranking.

    Example:

        tesla study ranking my-run --run quick
    """
    from engine.tools.studies.ranking import ranking as ranked

    answer(
        workspace, name or "ranking",
        lambda opened, called: ranked(opened, called, named_runs(opened, run), overrides or (), whole),
    )  # fmt: skip


@study.command()
def augment(workspace: WorkspacePath, run: Runs = None, name: Name = None, overrides: Overrides = None) -> None:
    """Evaluate runs with DSA, AutoAugment, RandAugment and no augmentation: the paper's App. A.9.

    The runs' own results do not change.

    Example:

        tesla study augment my-run --run quick
    """
    from engine.tools.studies.augment import augment as compared

    answer(
        workspace, name or "augment",
        lambda opened, called: compared(opened, called, named_runs(opened, run), overrides or ()),
    )  # fmt: skip


@study.command()
def gallery(workspace: WorkspacePath, run: Runs = None, name: Name = None) -> None:
    """Write contact sheets of synthetic images, a hundred classes per page: the paper's Figures 8 to 19.

    Example:

        tesla study gallery my-run --run quick
    """
    from rich.console import Console

    from engine.runs.gallery import decoded_images
    from engine.runs.selection import checkpoint_to_use
    from engine.runs.workspace import Workspace
    from engine.settings.decoders import formation_words
    from engine.tools.studies.written import study_folder
    from tesla_tui.render.contact_sheet import contact_sheets
    from tesla_tui.render.words import literal

    console = Console()
    opened = Workspace(workspace)
    folder = study_folder(opened, opened.run(name or "gallery").name)
    for chosen in named_runs(opened, run):
        settings = chosen.frozen().settings
        at = checkpoint_to_use(chosen, settings, None)
        found = decoded_images(opened, chosen, at)
        title = f"{chosen.name}: {settings.dataset.name}, {settings.distill.method}, IPC {settings.distill.ipc}, "
        title += f"iteration {at}"
        if words := formation_words(settings.distill.formation):
            title += f", {words}"
        pages = contact_sheets(found.pixels, found.classes, settings.distill.ipc, title, folder / chosen.name)
        others = f" and {len(pages) - 1} more" if pages[1:] else ""
        console.print(f"{literal(title)}: [bold]{literal(pages[0])}[/]{others}")
