"""What networks reach on all training images: the upper bound beside the runs of a workspace."""

from engine.errors import TeslaError
from engine.events import EvaluationDone
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.settings import Settings


def whole_runs(workspace: Workspace) -> list[Run]:
    """The finished runs on the whole dataset."""
    found = (run for run in workspace.runs() if not run.broken and run.frozen().settings.traits.all_images)
    return [run for run in found if run_status(run).finished]


def is_beside(whole: Settings, settings: Settings) -> bool:
    """Whether a run on the whole dataset is the upper bound of runs with these settings."""

    def parts(of: Settings) -> tuple[object, ...]:
        return of.dataset, of.network, of.augment, of.evaluate.augment

    return parts(whole) == parts(settings)


def whole_tests(workspace: Workspace, run: Run) -> dict[str, EvaluationDone]:
    """Test accuracy of networks trained on the whole dataset, by network; empty if no run beside this one has it.

    Of several runs the one that trained longest counts.
    """
    try:
        settings = run.frozen().settings
    except TeslaError:
        return {}
    found = [other for other in whole_runs(workspace) if is_beside(other.frozen().settings, settings)]
    if not found:
        return {}
    longest = max(found, key=lambda other: other.frozen().settings.evaluate.whole_epochs)
    return {result.network: result for result in run_status(longest).test}
