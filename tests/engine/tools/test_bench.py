"""The yardstick computes what it says, FLOPs are those of a hand count, and rows are filled by real measurements."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from engine.matching import matching_gradient
from engine.networks import build_network, flatten_parameters
from engine.runtime.rng import forked_global_rng
from engine.tools.bench.cases import (
    Compute,
    Configuration,
    Shape,
    configuration,
    configurations,
    with_authors_allocator,
)
from engine.tools.bench.flops import CountedFlops, forward_flops, needed_flops
from engine.tools.bench.gradient import GradientBench
from engine.tools.bench.iteration import problem
from engine.tools.bench.measuring import MemoryMeter, Stopwatch
from engine.tools.bench.reference_implementation import reference_gradient, reference_network
from engine.tools.bench.switches import has_allocators
from engine.tools.bench.turns import spread
from tests.live_bytes import LiveBytes

TINY = Shape(width=4, depth=2, channels=3, resolution=8, classes=5, batch=6)
CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [TINY, Shape(network="vit", width=8, depth=1, resolution=8, classes=5, batch=6)])
def test_published_is_the_gradient_of_paper(shape: Shape) -> None:
    inputs = problem(Configuration(shape, "published", 4), CPU)
    inputs = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in inputs.items()}
    with forked_global_rng(0):
        ours = build_network(shape.network, **shape.size()).double()
        theirs = reference_network(shape.network, **shape.size()).double()
    wanted = matching_gradient(ours, **inputs, mode="paper")
    images, student_lr = reference_gradient(theirs, **inputs)
    assert float((images - wanted.images).norm() / wanted.images.norm()) < 1e-9
    assert float((student_lr - wanted.student_lr).abs() / wanted.student_lr.abs()) < 1e-9


@pytest.mark.parametrize("size", [{"channels": 1, "resolution": 28}, {"channels": 3, "resolution": 32}])
def test_reference_network_has_our_parameters(size: dict[str, int]) -> None:
    networks = []
    for make in (build_network, reference_network):
        with forked_global_rng(3):
            networks.append(make("convnet", classes=7, width=4, depth=3, **size).eval())
    ours, theirs = networks
    assert torch.equal(flatten_parameters(ours), flatten_parameters(theirs))
    images = torch.randn(2, size["channels"], size["resolution"], size["resolution"])
    torch.testing.assert_close(ours(images), theirs(images))


def test_forward_flops_are_those_of_a_hand_count() -> None:
    # 2 operations x batch x pixels x outputs x inputs x 9 for a convolution; two blocks halve 8 to 4 to 2.
    first = 2 * 6 * 64 * 4 * 3 * 9
    second = 2 * 6 * 16 * 4 * 4 * 9
    linear = 2 * 6 * (4 * 2 * 2) * 5
    assert forward_flops(TINY) == (first + second + linear, first)


@pytest.mark.parametrize("mode", ["published", "unrolled", "paper", "exact"])
@pytest.mark.parametrize("steps", [1, 3])
def test_needed_flops_against_what_eager_code_does(mode: str, steps: int) -> None:
    chosen = Configuration(TINY, mode, steps)
    inputs = problem(chosen, CPU)
    gradient: Callable[[], object]
    if mode == "published":
        gradient = partial(reference_gradient, reference_network("convnet", **TINY.size()), **inputs)
    else:
        model = build_network("convnet", **TINY.size())
        gradient = partial(matching_gradient, model, **inputs, mode=mode, store="device")
        gradient()  # the first call with a model compares two forward passes
    with CountedFlops() as counter:
        gradient()
    # What eager code does beside: a product in the double backward that nobody asked for; exact works out g once more.
    done = counter.total / needed_flops(chosen)
    assert 1 <= done < (1.2 if mode == "exact" else 1.05)


def test_flops_are_counted_once_for_compiled_and_stored_variants() -> None:
    every = configurations(
        [TINY], ["exact"], [3], stores=["device", "checkpoint"], modules=["own", "plain"], computes=[Compute(threads=1)]
    )
    assert [chosen.label for chosen in every] == [
        "exact (device)", "exact (checkpoint)", "exact (device) compiled", "exact (checkpoint) compiled",
        "exact (device, plain) compiled", "exact (checkpoint, plain) compiled",
    ]  # fmt: skip
    assert len({row.flops for row in GradientBench(every, 1).rows}) == 1
    assert all(configuration(chosen.arguments()) == chosen for chosen in every)


def test_eager_plain_modules_only_where_nothing_is_compiled() -> None:
    def labels(**more: Any) -> list[str]:
        return [one.label for one in configurations([TINY], ["paper", "exact"], [1], **more)]

    assert labels(modules=["plain"]) == ["paper", "paper compiled", "exact (plain) compiled"]
    assert labels(modules=["plain"], compiled=False) == ["paper", "exact (plain)"]
    other = Shape(network="vit", width=8, depth=1, resolution=8, classes=5, batch=6)
    assert not any(one.modules == "plain" for one in configurations([other], ["exact"], [1], modules=["plain"]))


def test_published_is_measured_with_its_authors_allocator_besides() -> None:
    computes = [Compute(memory=memory) for memory in ("fast", "flat")]
    chosen = with_authors_allocator(
        configurations([TINY], ["published", "exact"], [1], compiled=False, computes=computes)
    )
    assert [one.label for one in chosen] == [
        "published", "published (default alloc.)", "published (flat alloc.)", "exact", "exact (flat alloc.)",
    ]  # fmt: skip
    bench = GradientBench(chosen, 1)
    for row, seconds in zip(bench.rows, (4.0, 16.0, 6.0, 1.0, 3.0), strict=True):
        row.samples, row.cpu_samples = [seconds], [10 * seconds + 10]
    published, theirs, flat, exact, exact_flat = bench.rows
    assert [bench.ratio(row) for row in (published, theirs, flat)] == [1, None, 1]
    assert (bench.ratio(exact), bench.ratio(exact, "default")) == (1 / 4, 1 / 16)
    assert (bench.ratio(exact_flat), bench.ratio(exact_flat, "default")) == (3 / 6, 3 / 16)
    assert bench.ratio(exact, cpu=True) == 20 / 50
    with_theirs = configurations(
        [TINY], ["published", "exact"], [1], compiled=False, computes=[Compute(memory="default")]
    )
    assert with_authors_allocator(with_theirs) == with_theirs


def test_other_switches_are_not_compared() -> None:
    computes = [Compute(precision=kind) for kind in ("float32", "tf32")]
    bench = GradientBench(configurations([TINY], ["published", "exact"], [1], compiled=False, computes=computes), 1)
    for row, seconds in zip(bench.rows, (4.0, 2.0, 1.0, 1.5), strict=True):
        row.samples = [seconds]
    assert [bench.ratio(row) for row in bench.rows] == [1, 1, 1 / 4, 1.5 / 2]


def test_published_keeps_one_vector_a_step() -> None:
    """As its authors' code does: with the step size in every graph it would keep the gradients, too."""
    shape = Shape(width=32, depth=1, channels=1, resolution=8, classes=5, batch=1)
    peaks = []
    for steps in (2, 6):
        inputs = problem(Configuration(shape, "published", steps), CPU)
        network = reference_network("convnet", **shape.size())
        with LiveBytes(*network.parameters()) as held:
            reference_gradient(network, **inputs)
        peaks.append(held.peak)
    vector = inputs["start"].nbytes
    assert vector < (peaks[1] - peaks[0]) / 4 < 1.5 * vector


@pytest.mark.slow
def test_rows_are_filled_in_turns_and_what_fails_says_why() -> None:
    broken = Shape(network="no_such_module:Net", channels=3, resolution=8, classes=5, batch=6)
    compute = Compute(threads=1)
    chosen = configurations([TINY], ["published", "exact"], [1, 2], compiled=False, computes=[compute])
    bench = GradientBench(chosen, rounds=1)
    bench.rows[0].configuration = Configuration(broken, "published", 1)
    shares = [progress.done / progress.total for progress in bench.run()]
    assert shares == sorted(shares) and shares[-1] == 1
    failed, *good = bench.rows
    assert "no_such_module" in failed.note and failed.seconds is None
    for row in good:
        assert row.note == "" and not row.fell_back
        assert row.seconds is not None and row.seconds.low <= row.seconds.median <= row.seconds.high
        assert len(row.samples) == len(row.cpu_samples) == row.seconds.count >= 1
        assert row.peak_bytes is not None and row.base_bytes is not None and row.base_bytes > 2**20
        assert 0 < (bench.share(row) or 0) < 1
        assert row.switches == good[0].switches and row.switches["threads"] == 1
    published, exact = good[1:]
    assert published.seconds is not None and exact.seconds is not None
    assert bench.ratio(exact) == pytest.approx(exact.seconds.median / published.seconds.median)
    assert bench.load.words


class FakeCuda:
    """What the clock and the meter ask `torch.cuda`, with the device they ask about."""

    def __init__(self) -> None:
        self.now = 0.0
        self.current = 0
        self.recorded: list[tuple[int, str]] = []
        self.allocated = {0: 7, 1: 100}
        self.segments = [
            {"device": 1, "segment_pool_id": (0, 0), "total_size": 1000, "allocated_size": 100},
            {"device": 1, "segment_pool_id": (0, 1), "total_size": 64, "allocated_size": 24},
            {"device": 0, "segment_pool_id": (0, 2), "total_size": 5000, "allocated_size": 0},
        ]

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    def event(self, enable_timing: bool) -> Any:
        assert enable_timing
        return FakeEvent(self)

    def memory_allocated(self, device: torch.device) -> int:
        return self.allocated[device.index]


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.at = cuda, 0.0

    def record(self, stream: str) -> None:
        self.cuda.recorded.append((self.cuda.current, stream))
        self.cuda.now += 250
        self.at = self.cuda.now

    def synchronize(self) -> None:
        assert self.at

    def elapsed_time(self, other: "FakeEvent") -> float:
        return other.at - self.at


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda = FakeCuda()
    monkeypatch.setattr(torch.cuda, "Event", cuda.event)
    monkeypatch.setattr(torch.cuda, "device", cuda.device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, cuda.memory_allocated)
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: cuda.segments)
    return cuda


def test_events_are_recorded_on_the_device_that_is_measured(fake_cuda: FakeCuda) -> None:
    watch = Stopwatch(torch.device("cuda:1"))
    assert watch.seconds() == 0.25
    assert fake_cuda.recorded == [(1, "stream of cuda:1")] * 2


def test_the_pool_of_a_cuda_graph_counts(fake_cuda: FakeCuda) -> None:
    meter = MemoryMeter(torch.device("cuda:1"))
    fake_cuda.allocated[1] = 130
    assert meter.peak() == 130 - 100 + (64 - 24)


def test_switches_are_the_same_for_every_mode() -> None:
    """In a process of its own: the allocator's policy is for good."""
    chosen = [
        Configuration(TINY, mode, 1, compute=Compute("cpu", 1, precision=precision)).arguments()
        for precision in ("auto", "float32", "tf32")
        for mode in ("published", "exact")
    ]
    script = """
import json, sys, torch
from engine.runtime import allocator
from engine.tools.bench.iteration import prepare
for arguments in json.loads(sys.argv[1]):
    found = prepare(**arguments)()["switches"]
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    print(json.dumps([allocator._chosen, found["allocator"], found["threads"], *tf32]))
"""
    command = [sys.executable, "-c", script, json.dumps(chosen)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    allocator = "fast" if has_allocators(CPU) else "system"
    wanted = [(True, False), (False, False), (True, True)]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        ["fast", allocator, 1, *tf32] for tf32 in wanted for _ in range(2)
    ]


def test_spread_of_few_and_of_many() -> None:
    assert spread([]) is None
    few = spread([3.0, 1.0])
    assert few is not None and (few.count, few.median, few.low, few.high) == (2, 2.0, 1.0, 3.0)
    many = spread([1.0, 2.0, 3.0, 4.0, 100.0])
    assert many is not None and (many.median, many.low, many.high) == (3.0, 2.0, 4.0)
