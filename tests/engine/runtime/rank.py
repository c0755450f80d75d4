"""What one rank of a test does: `python -m tests.engine.runtime.rank FUNCTION FOLDER`, as torchrun would start it.

Functions are called with the ranks and a folder; what they return is written to FOLDER/rank-R.json.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.errors import DivergedError, ExitCode, UsageError, WorkerLostError, WorkersStoppedError
from engine.events import EvaluationDone, Notice, Progress
from engine.matching import MatchingGradient, Parts, matching_sweeps
from engine.networks import FlatNetwork, flatten_parameters
from engine.networks.dropout import Dropout
from engine.runs.workspace import Workspace
from engine.runtime.distributed import watchdog
from engine.runtime.distributed.environment import this_place
from engine.runtime.distributed.process_group import joined
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.session.session import assist, drive
from engine.storage import beats
from engine.training import evaluation
from engine.training.evaluation import Evaluation, evaluate
from engine.training.labels import labelling, mean_labels
from engine.training.training_set import SmallSet
from tests.conftest import TINY
from tests.engine.matching.test_matching import Case, make_case

KINDS = {
    "hard": ("distill.iterations=20", "distill.ipc=2", "distill.batch=7"),
    "paper": ("distill.gradient=paper",),
    "target": ("labels.kind=target", "distill.batch=5", "distill.store=checkpoint"),
    "learned": ("labels.kind=learned", "labels.lr=100"),
    "formation": ("distill.formation=2", "distill.batch=7", "labels.kind=learned"),
    "skipping": ("distill.max_loss=0.001", "distill.iterations=12"),
}
"""Runs that two ranks and one rank must agree on."""


def divided(case: Case, ranks: Ranks, **changes: Any) -> MatchingGradient:
    """The gradient of a case, each rank computing its part of every batch."""
    arguments = {**case.arguments, **changes}
    schedule, weights = [], []
    for index, augment in arguments["schedule"]:
        part = ranks.part(len(index))
        schedule.append((index[part], augment.rows(part)))
        weights.append((part.stop - part.start) / len(index))
    arguments["schedule"] = schedule
    return run_to_end(matching_sweeps(case.model, **arguments, shares=Parts(ranks, weights)))


def with_dropout(ranks: Ranks) -> tuple[float, float]:
    """The slope of the matching loss along a direction where ranks draw masks of their own, and what the gradient says.

    The slope is a central difference.
    """
    case = make_case()
    case.model = nn.Sequential(case.model, Dropout(0.3))
    images = case.arguments["images"]
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    up, down = (divided(case, ranks, images=images + sign * 1e-6 * direction, seed=ranks.rank).loss for sign in (1, -1))
    found = divided(case, ranks, store="checkpoint", seed=ranks.rank)
    return ((up - down) / 2e-6).item(), (found.images * direction).sum().item()


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def numbers(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Gradients of batches of five (two images here, three there) against the whole; and what ranks exchange."""
    found: dict[str, Any] = {}
    for mode, store in (("exact", "device"), ("exact", "checkpoint"), ("paper", "auto")):
        case = make_case(steps=9)
        mine, whole = divided(case, ranks, mode=mode, store=store), case.gradient(mode=mode)
        for name in ("loss", "images", "labels", "student_lr"):
            found[f"{mode} {store} {name}"] = relative(getattr(mine, name), getattr(whole, name))
    found["slope"], found["dropout"] = with_dropout(ranks)
    case = make_case()
    network, images = FlatNetwork(case.model), case.arguments["images"]
    alone = run_to_end(labelling(network, case.arguments["start"], images))
    found["labels"] = relative(run_to_end(labelling(network, case.arguments["start"], images, ranks)), alone)
    found["led"] = ranks.led({"from": ranks.rank, "text": "é" * 1000})["from"]
    found["gathered"] = ranks.gathered(ranks.rank * 10)
    found["agreed"] = ranks.agreed([1.0 + ranks.rank * 1e-6, float("nan")])[0]
    try:
        ranks.agreed([1.0 + ranks.rank])
        found["apart"] = ""
    except WorkerLostError as error:
        found["apart"] = error.message
    return found


def runs(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Drive every kind of run in the workspace `folder/ws`; messages of those that end without an update."""
    workspace, refused = Workspace(folder / "ws"), dict[str, str]()
    for name, overrides in KINDS.items():
        run = workspace.run(f"{name}-{ranks.size}")
        effective = workspace.settings(overrides=(*TINY, *overrides), run=run)
        try:
            for _ in (drive if ranks.writes else assist)(workspace, run, effective, ranks=ranks):
                pass
        except DivergedError as error:
            refused[name] = error.message
    return refused


def evaluations(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Three evaluations, of 3 + 2 + 3 networks, and labels of two snapshots: what every rank gets of them.

    `networks` are digests of the parameters that this rank trained.
    """
    settings = Workspace(folder / "ws").settings(overrides=TINY).settings
    task, _ = run_to_end(open_task(Workspace(folder / "ws"), settings, ranks))
    images = task.train.images.encoded(torch.arange(20))
    labels = torch.full((20, 10), 0.1)
    small = SmallSet(images, labels, lr=0.01)
    wild = SmallSet(images, labels, lr=1e30)
    wanted = [
        Evaluation("distilled", 3, "holdout", task.network_name, 3, small),
        Evaluation("random", 0, "test", "mlp", 2),
        Evaluation("distilled", 6, "test", task.network_name, 3, wild),
    ]
    networks, loaded = list[str](), evaluation.load_parameters

    def noted(model: nn.Module, theta: Tensor) -> None:
        networks.append(hashlib.sha256(theta.numpy().tobytes()).hexdigest() if theta.isfinite().all() else "diverged")
        loaded(model, theta)

    evaluation.load_parameters = noted
    try:
        seen = list(evaluate(task, wanted))
    finally:
        evaluation.load_parameters = loaded
    network = task.flat_network()
    thetas = [flatten_parameters(task.fresh_network(seed)) for seed in range(2)]
    many = task.train.images.encoded(torch.arange(1100))  # three chunks
    shared = run_to_end(mean_labels(network, thetas, many, ranks))
    return {
        "accuracies": [event.accuracies for event in seen if isinstance(event, EvaluationDone)],
        "networks": networks,
        "labels": hashlib.sha256(shared.numpy().tobytes()).hexdigest(),
        "progress": [event.done for event in seen if isinstance(event, Progress)],
        "warnings": [event.message for event in seen if isinstance(event, Notice) and event.level == "warning"],
    }


def hosts(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """A run in a folder that both see; then folders that only one sees."""
    overrides = (*TINY, "labels.kind=target")
    workspace = Workspace(folder / "ws")
    run = workspace.run("hosts")
    for _ in (drive if ranks.writes else assist)(workspace, run, workspace.settings(overrides=overrides), ranks=ranks):
        pass
    cache = Path(os.environ["TESLA_CACHE"])
    apart = Workspace(cache.parent / "ws")
    try:
        run_to_end(open_task(apart, apart.settings(overrides=overrides).settings, ranks))
    except UsageError as error:
        return {
            "apart": error.message, "hint": error.hint, "decoded": len(list(cache.glob("datasets/*/manifest.json")))
        }  # fmt: skip
    return {"apart": ""}


def stops(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The first rank is asked to stop while networks of the evaluation of iteration 3 are trained."""
    workspace = Workspace(folder / "ws")
    run = workspace.run("stops")
    events = (drive if ranks.writes else assist)(workspace, run, workspace.settings(overrides=TINY), ranks=ranks)
    for event in events:
        if ranks.writes and isinstance(event, Progress) and event.stage == "evaluation" and 3 in run.checkpoints():
            events.close()
            raise WorkersStoppedError("This worker was asked to stop.", ExitCode.TERMINATED)
    return {}


def stands_still(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The last rank is stopped while the first waits for it."""
    return _lost(ranks, folder, signal.SIGSTOP)


def dies(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The last rank is killed while the first waits for it."""
    return _lost(ranks, folder, signal.SIGKILL)


def dies_while_the_other_computes(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The last rank is killed, and the first sends something only after the group was given up."""
    other = ranks.gathered(os.getpid())[-1]
    if not ranks.writes:
        while True:
            time.sleep(1)
    beats.LATE, watchdog.STUCK = 2.0, 0.5
    os.kill(other, signal.SIGKILL)
    (folder / "waited").write_text("0")
    while dist.is_initialized():
        time.sleep(0.1)
    ranks.sum_(torch.zeros(1))
    return {}


def _lost(ranks: Ranks, folder: Path, how: signal.Signals) -> dict[str, Any]:
    other = ranks.gathered(os.getpid())[-1]
    if not ranks.writes:
        while True:
            time.sleep(1)
    beats.LATE = 4.0
    begun = time.monotonic()
    os.kill(other, how)
    try:
        ranks.sum_(torch.zeros(1))
    finally:
        (folder / "waited").write_text(str(time.monotonic() - begun))
        os.kill(other, signal.SIGKILL)
    return {}


def fails(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """The last rank fails while the first waits for it."""
    if ranks.rank == ranks.size - 1:
        raise ValueError("a bug")
    ranks.sum_(torch.zeros(1))
    return {}


if __name__ == "__main__":
    torch.set_num_threads(1)
    function, folder = sys.argv[1], Path(sys.argv[2])
    with joined(this_place()) as joined_ranks:
        answer = globals()[function](joined_ranks, folder)
    (folder / f"rank-{joined_ranks.rank}.json").write_text(json.dumps(answer))
