"""Which checkpoint of a run is used: the one asked for, or the one that its held-out accuracies select."""

from collections.abc import Collection, Iterable

from engine.errors import UsageError, tesla
from engine.events import EvaluationDone
from engine.runs.judgement import Outcome, outcomes
from engine.runs.run import Run
from engine.settings import Settings
from engine.storage.reading import exists


def select(kept: Collection[int], results: Iterable[EvaluationDone], *, holdout: bool) -> int | None:
    """The iteration with the best held-out accuracy; without a held-out part the newest; None if none.

    Args:
        kept: iterations to choose from: those with a checkpoint.
        results: of the run's own protocol.
        holdout: whether there is a held-out part.
    """
    scored = [
        (result.mean, result.iteration)
        for result in results
        if result.split == "holdout" and result.subject == "distilled" and result.iteration in kept
    ]
    if holdout and scored:
        return max(scored)[1]
    return max(kept, default=None)


def selected_iteration(run: Run, settings: Settings) -> int | None:
    """Iteration of the checkpoint with the best held-out accuracy; without a held-out part the newest; None if none."""
    return select(set(run.checkpoints()), run.evaluations(settings), holdout=settings.dataset.holdout > 0)


def read_outcomes(run: Run, settings: Settings) -> tuple[Outcome, ...]:
    """What the selected checkpoint gained over random real images, for every network that measured it."""
    selected = selected_iteration(run, settings)
    tests = [result for result in run.evaluations(settings) if result.split == "test"]
    ours = [result for result in tests if result.subject == "distilled" and result.iteration == selected]
    random = [result for result in tests if result.subject == "random"]
    return outcomes(ours, random, unimproved=is_unimproved(run, settings, selected))


def is_unimproved(run: Run, settings: Settings, iteration: int | None) -> bool:
    """Whether this checkpoint is the one before the first update, and no later one has a higher held-out accuracy."""
    if iteration != 0 or exists(run.origin_file) or selected_iteration(run, settings) != 0:
        return False
    return any(
        result.iteration > 0 and result.split == "holdout" and result.subject == "distilled"
        for result in run.evaluations(settings)
    )


def checkpoint_to_use(run: Run, settings: Settings, iteration: int | None) -> int:
    """The requested checkpoint, or the selected one.

    Raises:
        UsageError: there is none, or not the requested one.
    """
    kept = run.checkpoints()
    chosen = selected_iteration(run, settings) if iteration is None else iteration
    if chosen is None:
        again = tesla("run", run.folder.parents[1], "--run", run.name)
        raise UsageError(f"The run {run.name} has no checkpoint yet.", f"Resume with: {again}")
    if chosen not in kept:
        raise UsageError(f"The run {run.name} has no checkpoint {chosen}.", f"It has: {', '.join(map(str, kept))}.")
    return chosen
