"""Plans for machines that are not there: the formula against what one H200 was measured to take."""

import pytest

from engine.errors import UsageError
from engine.settings import resolve_settings
from engine.tools.plan.calculate import calculate, check_calculable, matching_seconds, training_seconds
from engine.tools.plan.machines import MACHINES, find_machine

H200 = MACHINES["h200"]
CIFAR = (100 * 101_859_328, 206_886_800)
"""Forward operations and bytes of a graph: ConvNetD3 width 128, 100 images of 3x32x32, 100 classes."""
SMALL = (10 * 6_498_304, 4_161_540)
"""ConvNetD3 width 32, ten images of 1x32x32, 10 classes."""
IMAGENET = (100 * 428_769_280, 882_448_800)
"""ConvNetD4 width 128, 100 images of 3x64x64, 1000 classes."""
TEACHER = (256 * 101_859_328, 529_630_208)


@pytest.mark.parametrize(
    ("how", "shape", "precision", "measured"),
    [
        ("graph", CIFAR, "tf32", 2.64e-3),
        ("graph", CIFAR, "float32", 5.75e-3),
        ("compiled", IMAGENET, "tf32", 8.76e-3),
        ("compiled", IMAGENET, "float32", 21.8e-3),
        ("graph", SMALL, "float32", 1.9e-3),
        ("eager", SMALL, "float32", 18.5e-3),
        ("eager", CIFAR, "float32", 13.7e-3),
        ("eager", IMAGENET, "float32", 41.6e-3),
        ("eager", IMAGENET, "tf32", 22.4e-3),
    ],
)
def test_a_matching_step_as_measured(how: str, shape: tuple[float, float], precision: str, measured: float) -> None:
    assert matching_seconds(H200, how, *shape, precision) == pytest.approx(measured, rel=0.2)


@pytest.mark.parametrize(
    ("how", "precision", "images"),
    [("eager", "float32", 54_100), ("eager", "tf32", 57_900), ("compiled", "float32", 72_600),
     ("compiled", "tf32", 161_600)],
)  # fmt: skip
def test_teachers_as_measured(how: str, precision: str, images: int) -> None:
    assert 256 / training_seconds(H200, how, *TEACHER, precision) == pytest.approx(images, rel=0.2)


def test_small_steps_are_bound_by_launching_and_large_ones_by_the_machine() -> None:
    a100 = find_machine("A100 ")
    assert matching_seconds(a100, "graph", *SMALL) == matching_seconds(H200, "graph", *SMALL)
    ratio = matching_seconds(a100, "graph", *CIFAR) / matching_seconds(H200, "graph", *CIFAR)
    assert a100.title.startswith("NVIDIA A100") and 2 < ratio < 3.5  # 67 / 19.5 of the peak, 4.8 / 2.0 of the bandwidth
    assert matching_seconds(H200, "graph", *CIFAR, "tf32") < matching_seconds(H200, "graph", *CIFAR)


def test_a_machine_that_is_misspelt() -> None:
    with pytest.raises(UsageError) as caught:
        find_machine("a1000")
    assert "'a1000'" in caught.value.message
    assert "Did you mean a100?" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        find_machine("toaster")
    assert "Did you mean" not in (caught.value.hint or "")
    assert all(name in (caught.value.hint or "") for name in MACHINES)


def test_what_cannot_be_calculated() -> None:
    with pytest.raises(UsageError, match="dm has none"):
        check_calculable(resolve_settings(overrides=["distill.method=dm"]).settings)
    with pytest.raises(UsageError, match="float64"):
        check_calculable(resolve_settings(overrides=["compute.dtype=float64"]).settings)
    check_calculable(resolve_settings().settings)


def test_a_calculation_has_everything_that_a_measurement_has() -> None:
    network = {"parameters": 504_420, "flops": 101_859_328, "graph_bytes": 2_068_868, "evaluation_compiles": True}
    shapes = {
        "images": 5000, "batch": 100, "teacher_batch": 256, "trained_on": 5000, "values": 3072,
        "matching_compiles": True, "teachers_compile": False, "networks": {"convnet": network},
    }  # fmt: skip
    settings = resolve_settings(ipc=50, overrides=["dataset.name=cifar100", "compute.precision=tf32"]).settings
    found = calculate(H200, settings, shapes, teachers=True)
    (matching,) = found.matching
    assert matching["seconds"] / 50 == pytest.approx(matching_seconds(H200, "graph", *CIFAR, "tf32"), rel=0.01)
    assert matching["compiled"] and matching["seen"]
    assert matching["device"] == pytest.approx(890e6, rel=0.01)  # the peak of `exact` in float32
    assert "peak 494 TFLOP/s (tf32), 4.8 TB/s" in matching["basis"]
    assert found.teachers is not None and not found.teachers["compiled"]
    assert calculate(H200, settings, shapes, teachers=False).teachers is None
    apple = calculate(MACHINES["m-series"], settings, shapes, teachers=False)
    assert not apple.matching[0]["compiled"]  # not known to compile there
    assert apple.matching[0]["seconds"] > 10 * matching["seconds"]
