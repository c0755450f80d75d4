"""The yardstick computes what it says, FLOPs are those of a hand count, and rows are filled by real measurements."""

import pytest
import torch

from engine.matching import matching_gradient
from engine.networks import build_network, flatten_parameters
from engine.runtime.rng import forked_global_rng
from engine.tools.bench.cases import Compute, Configuration, Shape, configuration, configurations
from engine.tools.bench.flops import CountedFlops, forward_flops, needed_flops
from engine.tools.bench.gradient import GradientBench
from engine.tools.bench.iteration import problem
from engine.tools.bench.reference_implementation import reference_gradient, reference_network
from engine.tools.bench.turns import spread

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
    with CountedFlops() as counter:
        if mode == "published":
            reference_gradient(reference_network("convnet", **TINY.size()), **inputs)
        else:
            matching_gradient(build_network("convnet", **TINY.size()), **inputs, mode=mode, store="device")
    # What eager code does beside: a product in the double backward that nobody asked for; exact works out g once more.
    done = counter.total / needed_flops(chosen)
    assert 1 <= done < (1.2 if mode == "exact" else 1.05)


def test_flops_are_counted_once_for_compiled_and_stored_variants() -> None:
    every = configurations([TINY], ["exact"], [3], stores=["device", "checkpoint"], compute=Compute(threads=1))
    assert [chosen.label for chosen in every] == [
        "exact (device)", "exact (checkpoint)", "exact (device) compiled", "exact (checkpoint) compiled",
    ]  # fmt: skip
    assert len({row.flops for row in GradientBench(every, 1).rows}) == 1
    assert all(configuration(chosen.arguments()) == chosen for chosen in every)


@pytest.mark.slow
def test_rows_are_filled_in_turns_and_what_fails_says_why() -> None:
    broken = Shape(network="no_such_module:Net", channels=3, resolution=8, classes=5, batch=6)
    chosen = configurations([TINY], ["published", "exact"], [1, 2], compiled=False, compute=Compute(threads=1))
    bench = GradientBench(chosen, rounds=1)
    bench.rows[0].configuration = Configuration(broken, "published", 1)
    shares = [progress.done / progress.total for progress in bench.run()]
    assert shares == sorted(shares) and shares[-1] == 1
    failed, *good = bench.rows
    assert "no_such_module" in failed.note and failed.seconds is None
    for row in good:
        assert row.note == ""
        assert row.seconds is not None and row.seconds.low <= row.seconds.median <= row.seconds.high
        assert len(row.samples) == row.seconds.count >= 1
        assert row.peak_bytes is not None and row.base_bytes is not None and row.base_bytes > 2**20
        assert 0 < (bench.share(row) or 0) < 1
    published, exact = good[1:]
    assert published.seconds is not None and exact.seconds is not None
    assert bench.ratio(exact) == pytest.approx(exact.seconds.median / published.seconds.median)


def test_spread_of_few_and_of_many() -> None:
    assert spread([]) is None
    few = spread([3.0, 1.0])
    assert few is not None and (few.count, few.median, few.low, few.high) == (2, 2.0, 1.0, 3.0)
    many = spread([1.0, 2.0, 3.0, 4.0, 100.0])
    assert many is not None and (many.median, many.low, many.high) == (3.0, 2.0, 4.0)
