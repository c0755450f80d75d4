"""Where the exact gradient keeps its parameters: the fewest replays, and copies that are waited for."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.matching import WHOLE, matching_sweeps, sweeps
from engine.matching.checkpoints import CheckpointTrace
from engine.matching.host_offload import Arrival, HostTrace
from engine.matching.parameter_store import resolve_store
from engine.matching.rank_shares import Parts
from engine.networks import flatten_parameters
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.generators import run_to_end


@cache
def fewest(count: int, slots: int) -> int:
    """Steps taken to walk `count` steps back with `slots` vectors besides the first: every split tried."""
    if count <= 1:
        return 0
    if slots == 0:
        return count * (count - 1) // 2
    return min(m + fewest(count - m, slots - 1) + fewest(m, slots) for m in range(1, count))


def walk(steps: int, slots: int) -> tuple[int, int]:
    """Replayed steps of a whole walk, and the most vectors that the trace held at once."""
    trace = CheckpointTrace(steps, slots)
    for step in range(steps):
        trace.put(step, torch.tensor(step))
    most = len(trace._spine)
    replayed, expected = 0, steps - 1
    for step, theta in trace.backward(lambda theta, step: theta + 1):
        most = max(most, len(trace._spine))
        if theta is None:
            replayed += 1
            continue
        assert (step, int(theta)) == (expected, expected)
        expected -= 1
    assert expected == -1
    return replayed, most


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 8, 11])
def test_no_placement_replays_less(slots: int) -> None:
    for steps in (2, 3, 7, 12, 20, 33, 50):
        replayed, most = walk(steps, slots)
        # The first walk leaves vectors up to the last of the spine, whose steps the recursion counts.
        low, spine = 0, CheckpointTrace(steps, slots)._wanted
        low = max(spine)
        assert replayed == fewest(steps, slots) - low
        assert most <= slots + 1


@pytest.mark.parametrize("steps", [20, 50, 100, 200])
def test_with_room_no_step_is_replayed_more_than_once(steps: int) -> None:
    store, slots = resolve_store("checkpoint", steps, 10**6, 10**10, "cpu")
    assert store == "checkpoint"
    assert slots == math.isqrt(2 * steps)
    assert walk(steps, slots)[0] < steps


def test_a_store_stays_small_beside_the_graph_unless_it_is_small_anyway() -> None:
    # 158 MB of graph, 2 MB of parameters: ConvNetD3 width 128 at 3x32x32, batch 100.
    assert resolve_store("checkpoint", 100, 2_017_680, 158_000_000, "cpu") == ("checkpoint", 10)
    assert resolve_store("checkpoint", 100, 10_000_000, 60_000_000, "cpu")[1] == 4
    assert resolve_store("checkpoint", 100, 100_000, 4_000_000, "cpu")[1] == 14
    assert resolve_store("auto", 100, 2_017_680, 158_000_000, "cpu")[0] == "checkpoint"
    assert resolve_store("auto", 100, 2_017_680, 158_000_000, "cuda")[0] == "host"
    assert resolve_store("auto", 10, 2_017_680, 158_000_000, "cuda")[0] == "device"


class LateLane:
    """Copies nothing until it is waited for, and then everything before it, as a stream of its own may."""

    def __init__(self) -> None:
        self._queue: list[Callable[[], object]] = []

    def buffer(self, steps: int, like: Tensor) -> Tensor:
        return torch.full((steps, like.numel()), torch.nan, dtype=like.dtype)

    def send(self, target: Tensor, theta: Tensor) -> None:
        self._queue.append(lambda: target.copy_(theta))

    def fetch(self, source: Tensor) -> Arrival:
        theta = torch.full_like(source, torch.nan)
        self._queue.append(lambda: theta.copy_(source))
        position = len(self._queue)

        def arrive() -> Tensor:
            for copy in self._queue[:position]:
                copy()
            return theta

        return arrive


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_parked_vectors_are_waited_for_and_the_next_is_on_its_way(steps: int) -> None:
    lane = LateLane()
    trace = HostTrace(steps, torch.zeros(3), lane)
    thetas = [torch.full((3,), float(step)) for step in range(steps)]
    for step, theta in enumerate(thetas):
        trace.put(step, theta)
    back = trace.backward(lambda theta, step: theta)
    for expected in reversed(range(steps)):
        step, theta = next(back)
        assert step == expected
        assert theta is not None
        assert torch.equal(theta, thetas[step])
        # Sent: all. Asked for so far: this one and, while it is being used, the one before.
        assert len(lane._queue) == steps + min(steps, steps - expected + 1)
    assert next(back, None) is None


def test_ranks_with_unequal_parts_choose_the_same_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(Ranks):
        """A rank whose part of the batch is smaller than the first one's, which is told."""

        def led(self, value: Any) -> Any:
            return 10 * value

    seen: list[int] = []
    real = sweeps.make_trace

    def noted(store: Any, steps: int, start: Tensor, graph_bytes: int) -> Any:
        seen.append(graph_bytes)
        return real(store, steps, start, graph_bytes)

    monkeypatch.setattr(sweeps, "make_trace", noted)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    start = flatten_parameters(model)
    arguments: dict[str, Any] = {
        "start": start, "target": start + 1, "images": torch.ones(2, 1, 2, 2), "labels": torch.full((2, 3), 1 / 3),
        "student_lr": 0.1, "schedule": [(torch.arange(2), lambda images: images)],
    }  # fmt: skip
    for shares in (WHOLE, Parts(Second(), [1.0])):
        run_to_end(matching_sweeps(model, **arguments, shares=shares))
    assert seen[0] > 0
    assert seen[1] == 10 * seen[0]
