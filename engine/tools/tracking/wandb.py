"""A run in W&B, whose curves are over `iteration` or `epoch`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UsageError, quoted
from engine.runs.run import Run
from engine.tools.tracking.follow import Tracker, failed, missing, service
from engine.tools.tracking.rows import RowTracker


@contextmanager
def open_wandb(run: Run, project: str) -> Iterator[Tracker]:
    """A tracker that sends a run to a project of W&B, where W&B's environment variables say (WANDB_MODE, ...).

    Raises:
        UsageError: the package is missing, W&B is switched off, or an earlier call wrote the run offline.
        TeslaError: there is no API key, or the server refuses or is out of reach.
    """
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise missing("wandb") from error
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True)
    with service("wandb", project, run) as named:
        try:
            known = wandb.setup(settings=quiet).settings  # silent: without a key it fails instead of asking
            if known.mode == "disabled":
                raise UsageError("WANDB_MODE=disabled switches W&B off.", "Unset it, or use WANDB_MODE=offline.")
            if known.mode == "offline" and (before := [*Path(known.wandb_dir).glob(f"offline-run-*-{named.key}")]):
                hint = f"Upload it with {quoted('wandb', 'sync', before[0])}, or delete the folder to write it again."
                raise UsageError(f"{before[0]} has this run already, and W&B cannot resume offline.", hint)
            name, config = named.title, named.config
            ours = wandb.init(project=project, id=named.key, name=name, config=config, resume="allow", settings=quiet)
            for curves in ("distillation", "accuracy", "accuracy_std", "teachers"):
                ours.define_metric(f"{curves}/*", step_metric="epoch" if curves == "teachers" else "iteration")
            where = str(ours.settings.sync_dir if ours.offline else ours.url)
            view = f"Upload them with: {quoted('wandb', 'sync', where)}" if ours.offline else ""
            yield RowTracker(ours.log, wandb.Image, lambda code: ours.finish(exit_code=code), ours.step, where, view)
        except wandb.Error as error:
            hint = "Log in with `wandb login`, or write to files with WANDB_MODE=offline."
            raise failed("W&B", error, hint) from error
