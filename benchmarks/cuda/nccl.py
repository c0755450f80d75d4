"""Two ranks that share the batches: over NCCL where there are two GPUs, over gloo in a rehearsal on the CPU."""

import json
import sys

import torch

from benchmarks.cuda.check import Check, relative, switches
from benchmarks.cuda.problems import matching_problem
from benchmarks.parallel import answer_of
from engine.matching import Parts, matching_gradient, matching_sweeps
from engine.networks import FlatNetwork
from engine.runtime.distributed.environment import this_place
from engine.runtime.distributed.process_group import joined
from engine.runtime.generators import run_to_end

RANKS = 2
MARK = "difference "
LIMIT = 1e-12
"""Float64."""


def run(check: Check, part: str) -> None:
    """The gradient of two processes against that of one."""
    if check.cuda and torch.cuda.device_count() < RANKS:
        check.rows.add("two ranks over NCCL", "one GPU", "", "not run")
        return
    command = [sys.executable, "-m", "benchmarks.cuda.nccl", check.device.type, str(int(check.tiny))]
    found = answer_of(command, RANKS, MARK)
    name = "NCCL" if check.cuda else "gloo"
    check.rows.at_most(f"two ranks over {name}, float64, gradient against one process", found["error"], LIMIT)


def _rank(kind: str, tiny: bool) -> None:
    """One of the ranks. Each has a part of every batch."""
    switches()
    place = this_place()
    device = torch.device("cuda", place.local_rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    model, inputs = matching_problem("convnet", (), device, torch.float64, tiny=tiny)
    whole = matching_gradient(model, **inputs)
    with joined(place) as ranks:
        schedule = []
        for index, augment in inputs["schedule"]:
            schedule.append((index[ranks.part(len(index))], augment))
        shares = [len(mine) / len(index) for (mine, _), (index, _) in zip(schedule, inputs["schedule"], strict=True)]
        inputs["schedule"] = schedule
        found = run_to_end(matching_sweeps(FlatNetwork(model), **inputs, shares=Parts(ranks, shares, labels=False)))
        if ranks.writes:
            print(MARK + json.dumps({"error": relative(found.images, whole.images)}))


if __name__ == "__main__":
    _rank(sys.argv[1], sys.argv[2] == "1")
