"""The arithmetic of a plan, against counts by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.data import DataRequest
from engine.errors import UsageError
from engine.runtime.generators import run_to_end
from engine.runtime.subprocesses import run_isolated
from engine.settings import resolve_settings
from engine.tools.plan.disk import disk_uses
from engine.tools.plan.durations import MATCHING_SHARE, durations, images_stepped, iteration_seconds, replays, span
from engine.tools.plan.facts import Facts, find_facts
from engine.tools.plan.fitting import peaks, shortages
from engine.tools.plan.memory import batch_bytes, line, memory_parts, step_bytes
from engine.tools.plan.peers import at_run_size, peer_parts, real_per_class
from engine.tools.plan.problem import Problem, step_note, step_units
from engine.tools.plan.report import DiskRoom, Limits, Part

IMAGENET = Facts(1000, 3, 64, 1_153_050, 128_117, 50_000, "published sizes")
P = 2_496_360


def problem(*overrides: str, device: str = "cpu", graph: int = 3_663_000_000) -> Problem:
    settings = resolve_settings(ipc=50, overrides=["dataset.name=imagenet", *overrides]).settings
    return Problem(settings, IMAGENET, device, P, graph)


def found(**values: Any) -> dict[str, Any]:
    """A measurement of two steps on two batches."""
    return {
        "base": 400_000_000, "host": 12_000_000_000, "device": 11_000_000_000, "steps": 2, "images": 1000,
        "state_bytes": 2 * 1000 * 12288 * 4, "seconds": 48.0, "compiling": 0.0, "label_seconds": 0.004,
        "graph_bytes": 3_663_000_000, "save_seconds": 0.5, "save_rate": 5e8, "batch": 500, "whole": 500,
        "parameters": P, **PLAIN, **values,
    }  # fmt: skip


PLAIN = {"compiled": False, "seen": False, "compiling": 0.0}
EVALUATION = {
    "host": 2_000_000_000, "device": 1_900_000_000, "images": 250, "seconds_per_epoch": 2.0, "size": 250, "whole": 250,
    "seconds_per_measured": 0.001, "seconds_besides": 0.5, "graph_bytes": 1_800_000_000, **PLAIN,
}  # fmt: skip
TEACHERS = {
    "host": 3_000_000_000, "device": 3_000_000_000, "seconds_per_image": 0.01, "snapshot_seconds": 0.5, "size": 256,
    "whole": 256, "graph_bytes": 2_000_000_000, "compiled": True, "seen": True, "compiling": 20.0,
}  # fmt: skip


def peer(**values: Any) -> dict[str, Any]:
    """A measurement of a method without teachers."""
    return {
        "base": 400_000_000, "host": 2_000_000_000, "device": 0, "first_seconds": 3.0, "seconds": 2.0, "whole": True,
        "state_bytes": 6000, "parameters": P, "save_seconds": 0.5, "save_rate": 5e8, "classes": 1000,
        "all_classes": 1000, "points": [(500, 1_200_000_000), (1000, 2_000_000_000)], **values,
    }  # fmt: skip


def by_name(parts: list[Part]) -> dict[str, int]:
    return {part.name: part.bytes for part in parts}


def test_memory_of_imagenet_by_hand() -> None:
    parts = memory_parts(problem(), [found()], TEACHERS, [EVALUATION], free=24 * 10**9)
    sizes = by_name(parts)
    images = 50_000 * 3 * 64 * 64 * 4
    assert images == 2_457_600_000
    assert sizes["synthetic images"] == sizes["their momentum"] == sizes["their gradient"] == images
    assert sizes["labels and their gradient"] == 2 * 50_000 * 1000 * 4
    # 14.2 GB of training images and 1.6 of held-out ones are read batch by batch on a CPU; 0.6 of test images are not.
    assert sizes["dataset, kept as bytes"] == 0
    assert sizes["its file, mapped (given back when needed)"] == 50_000 * 12288
    # 99 vectors of 10 MB are more than a quarter of the graph: 14 are kept, and the steps between are replayed.
    assert sizes["student parameters (checkpoint)"] == 14 * P * 4
    # What the small measurement held of its own is taken off: 1000 images' gradient and labels, one vector.
    assert sizes["one step's graph and scratch"] == 12_000_000_000 - 1000 * (12288 + 2000) * 4 - P * 4
    assert sizes["Python, PyTorch, the program"] == 400_000_000 - 2 * 1000 * 12288 * 4 - 1000 * 12288
    peak = peaks(parts, {"device": 24 * 10**9})[0]
    assert peak.stage == "distillation"
    assert peak.bytes == sum(part.bytes for part in parts if part.stage in ("always", "distillation"))


def test_evaluation_holds_what_distillation_keeps() -> None:
    large = {**EVALUATION, "host": 40_000_000_000}
    parts = memory_parts(problem(), [found()], None, [large], free=0)
    sizes = by_name(parts)
    peak = peaks(parts, {"device": 1})[0]
    carried = 3 * sizes["synthetic images"] + sizes["labels and their gradient"]
    assert (peak.stage, peak.bytes) == ("evaluation", sizes["Python, PyTorch, the program"] + carried + 40_000_000_000)


def test_a_device_of_its_own_has_a_host_beside_it() -> None:
    parts = memory_parts(problem("distill.store=host", device="cuda"), [found()], TEACHERS, [EVALUATION], 80 * 10**9)
    host = {part.name: part.bytes for part in parts if part.where == "host"}
    assert host["student parameters, pinned"] == 99 * P * 4
    assert by_name(parts)["student parameters (host)"] == 2 * P * 4
    assert [peak.where for peak in peaks(parts, {"device": 10**12, "host": 10**12})] == ["device", "host"]


def test_the_paper_s_gradient_keeps_no_parameters_and_unrolled_keeps_graphs() -> None:
    assert not any("student" in name for name in by_name(
        memory_parts(problem("distill.gradient=paper"), [found()], None, [EVALUATION], 0)))  # fmt: skip
    one = step_bytes(problem("distill.gradient=paper"), [found()])
    assert step_bytes(problem("distill.gradient=unrolled"), [found()]) == 50 * one


def test_a_step_is_scaled_by_the_line_through_two_smaller_ones() -> None:
    held, each = 1000 * (12288 + 2000) * 4, 15_000_000
    probes = [
        found(batch=16, host=held + 10**9 + 16 * each, steps=1, images=1000),
        found(batch=64, host=held + 10**9 + 64 * each, steps=1, images=1000),
    ]
    assert step_bytes(problem(), probes) == 10**9 + 500 * each
    # A few images say little about memory: never outside of what steps are known to take of a graph.
    assert step_bytes(problem(graph=20 * 10**9), probes) == int(1.9 * 20 * 10**9)
    assert step_bytes(problem(graph=5 * 10**8), probes) == 8 * 5 * 10**8


def test_a_step_measured_at_a_single_smaller_batch_is_scaled_too() -> None:
    held = 1000 * (12288 + 2000) * 4
    single = found(batch=5, host=held + 10**8, steps=1, images=1000)
    assert step_bytes(problem(), [single]) == 10**10
    assert step_bytes(problem(), [found(batch=5, host=held + 10**6, steps=1, images=1000)]) == int(1.9 * 3_663_000_000)


def test_training_is_scaled_by_the_line_through_two_smaller_ones() -> None:
    assert line([(16, 100)], 32) == 200
    assert line([(16, 100), (32, 180)], 256) == 100 + 240 * 5
    assert line([(16, 100), (32, 80)], 256) == 80  # noise: more images do not take less
    small = {**TEACHERS, "size": 32, "points": [(8, 10**9), (32, 13 * 10**8)]}
    assert batch_bytes(problem(), small) == 13 * 10**8 + 224 * 12_500_000
    part = next(p for p in memory_parts(problem(), [found()], small, [EVALUATION], 0) if p.stage == "teachers")
    assert (part.how, part.note) == ("extrapolated", "measured at 32 of 256 images (± 20 %)")
    assert step_note(4, 256) == "measured at 4 of 256 images (± 50 %)"
    assert step_note(256, 256) == ""


def test_disk_by_hand() -> None:
    uses = {use.name: use.bytes for use in disk_uses(problem(), 50, 0)}
    rows = 24 + 3 + 1  # epochs 0 .. max_start + M
    assert uses["teacher buffer"] == 51 * rows * P * 4
    assert uses["checkpoints"] == (3 + 3) * 2 * 50_000 * 12288 * 4
    assert uses["decoded dataset"] == (1_153_050 + 128_117 + 50_000) * (12288 + 8)
    assert "at most" in next(use.note for use in disk_uses(problem(), 0, 0) if use.name == "previews")
    assert {use.name: use.bytes for use in disk_uses(problem(), 0, 10**9)}["teacher buffer"] == 0
    learned = problem("labels.kind=learned")
    assert learned.checkpoint_bytes == 2 * 50_000 * (12288 + 1000) * 4


def test_images_stepped() -> None:
    assert images_stepped(3, 10, 10) == 30
    assert images_stepped(6, 10, 4) == 20  # 4 4 2 4 4 2
    assert images_stepped(4, 10, 4) == 14
    assert images_stepped(100, 50_000, 500) == 50_000


def test_time_by_hand() -> None:
    hard = problem("labels.kind=hard", "distill.store=device")
    seconds, step, how = iteration_seconds(hard, found(), 1)
    # Two steps cost 21 forward passes, a hundred 1197: the first one needs no Hessian-vector product.
    assert (seconds, step, how) == (pytest.approx(48 * 1197 / 21), pytest.approx(48 * 11.97 / 21), "extrapolated")
    assert [step_units("exact", 2), step_units("paper", 2), step_units("unrolled", 2)] == [21, 20, 18]
    # Soft labels are measured by themselves: those of all images come on.
    soft, soft_step, _ = iteration_seconds(problem("distill.store=device"), found(), 1)
    assert soft == pytest.approx(seconds + 200)
    assert soft_step == step
    # Replays: a quarter of a step each.
    replayed = iteration_seconds(problem("labels.kind=hard", "distill.store=checkpoint"), found(), 1)[0]
    assert replayed == pytest.approx(seconds * (1 + 0.25 * replays(100, 14) / 100))
    # A batch of 50 measured, 500 wanted.
    assert iteration_seconds(hard, found(images=100, batch=50), 10)[0] == pytest.approx(10 * seconds)
    same = found(steps=100, images=50_000, seconds=2000.0)
    assert iteration_seconds(hard, same, 1)[::2] == (2000, "measured")


@pytest.mark.parametrize("labels", ["hard", "target", "last", "learned"])
def test_no_step_takes_no_time(labels: str) -> None:
    """Labels that seem to take longer than the whole iteration, as two noisy times may say."""
    noisy = found(seconds=0.001, label_seconds=0.01)
    seconds, step, _ = iteration_seconds(problem(f"labels.kind={labels}", "distill.store=device"), noisy, 1)
    assert step == pytest.approx(0.001 * 11.97 / 21)
    assert seconds >= 100 * step


def test_steps_that_could_not_be_compiled_in_time() -> None:
    hard = problem("labels.kind=hard", "distill.store=device", "distill.iterations=10")
    eager, unseen = found(), found(compiled=True, compiling=100.0)
    slow, _, _ = iteration_seconds(hard, eager, 1)
    assert iteration_seconds(hard, unseen, 1)[0] == pytest.approx(MATCHING_SHARE * slow)
    assert iteration_seconds(hard, found(compiled=True, seen=True), 1)[0] == slow  # measured as they are
    times = {d.name: d for d in durations(hard, unseen, 1, None, {"convnet": EVALUATION}, (0, 10))}
    assert "(± 40 %)" in times["distillation"].note
    assert (times["compilation"].seconds, times["compilation"].how) == (100, "computed")
    cached = found(compiled=True)
    times = {d.name: d for d in durations(hard, cached, 1, None, {"convnet": EVALUATION}, (0, 10))}
    assert (times["compilation"].seconds, times["compilation"].note) == (0, "in the compiler's cache")
    assert any(part.name == "PyTorch's compiler" for part in memory_parts(hard, [unseen], None, [EVALUATION], 0))


def test_every_stage_s_time_by_hand() -> None:
    plain = problem("labels.kind=hard", "distill.store=device", "distill.iterations=1000", "evaluate.every=500")
    evaluations = {"convnet": {**EVALUATION, "compiled": True, "seen": True, "compiling": 15.0}}
    times = {d.name: d.seconds for d in durations(plain, found(), 1, TEACHERS, evaluations, (50, 1000))}
    assert times["teachers"] == pytest.approx(50 * 27 * (1_153_050 * 0.01 + 0.5))
    assert times["distillation"] == pytest.approx(1000 * 48 * 1197 / 21)
    assert times["compilation"] == 35
    assert "compilation" not in {d.name for d in durations(plain, found(), 1, None, {"convnet": EVALUATION}, (0, 1))}
    one = 1000 * 2.0 * 50_000 / 250 + 128_117 * 0.001 + 0.5
    assert times["evaluations that select"] == pytest.approx(
        (3 + 4) * 3 * one
    )  # 0, 500, 1000, and random images at 4 rates; 3 networks
    test = 5 * (1000 * 2.0 * 50_000 / 250 + 50_000 * 0.001 + 0.5)
    assert times["test"] == pytest.approx(2 * test)
    more = 2 * 50_000 * 12288 * 4 - found()["state_bytes"]
    assert times["checkpoints"] == pytest.approx(11 * (0.5 + more / 5e8))
    half = {d.name: d.seconds for d in durations(plain, found(), 1, None, evaluations, (0, 500))}
    assert half["distillation"] == pytest.approx(500 * 48 * 1197 / 21)
    assert "teachers" not in half
    assert half["evaluations that select"] == pytest.approx(2 * 3 * one)
    soft = problem("distill.iterations=1000", "distill.store=device")
    with_labels = {d.name: d.seconds for d in durations(soft, found(), 1, None, evaluations, (0, 1000))}
    assert with_labels["test"] == pytest.approx(2 * test + 100 * 50_000 * 0.004)


def test_flat_teachers_are_said_to_take_two_gradients() -> None:
    notes = {}
    for kind in ("sgd", "ftd"):
        spent = durations(problem(f"teachers.kind={kind}"), found(), 1, TEACHERS, {"convnet": EVALUATION}, (50, 1000))
        notes[kind] = next(d.note for d in spent if d.name == "teachers")
    assert "two gradients a step" in notes["ftd"] and "gradients" not in notes["sgd"]


def test_whitening_is_planned_until_the_cache_has_it() -> None:
    white = problem("dataset.zca=true")

    def parts(there: Problem) -> tuple[dict[str, Any], dict[str, int]]:
        spent = durations(there, found(), 1, None, {"convnet": EVALUATION}, (0, 1000))
        return {d.name: d for d in spent}, by_name(memory_parts(there, [found()], None, [EVALUATION], 0))

    times, memory = parts(white)
    fitted = times["fitting the whitening"]
    # A covariance of 1,153,050 images at 100 GFLOP/s, and the decomposition of a matrix of 12,288 x 12,288.
    assert fitted.seconds == pytest.approx(2 * 1_153_050 * 12_288**2 / 1e11 + 12_288**3 / 1e10)
    assert "12,288 numbers an image" in fitted.note and "of memory meanwhile" in fitted.note
    assert memory["whitening and its inverse"] == 2 * 12_288**2 * 4
    times, memory = parts(replace(white, facts=replace(IMAGENET, whitened=True)))
    assert "fitting the whitening" not in times and "whitening and its inverse" in memory
    times, memory = parts(problem())
    assert "fitting the whitening" not in times and "whitening and its inverse" not in memory


@pytest.mark.parametrize(
    ("overrides", "free", "words"),
    [
        (["distill.gradient=unrolled"], 30, "distill.gradient = exact"),
        (["distill.store=device"], 22, "distill.batch = "),
        ([], 19, "compute.memory = flat"),
        ([], 5, "Lower --ipc: 50000 images with momentum and gradient take 7.4 GB"),
    ],
)
def test_what_does_not_fit_is_said_with_the_setting_that_mends_it(overrides: list[str], free: int, words: str) -> None:
    wanted = problem(*overrides)
    parts = memory_parts(wanted, [found()], None, [EVALUATION], free * 10**9)
    most = peaks(parts, {"device": free * 10**9})
    (shortage,) = shortages(wanted, parts, most, [], [])
    assert "of memory at the peak (distillation)" in shortage.message
    assert words in shortage.hint


def test_the_batch_that_is_named_fits() -> None:
    wanted = problem()
    parts = memory_parts(wanted, [found()], None, [EVALUATION], 10 * 10**9)
    (shortage,) = shortages(wanted, parts, peaks(parts, {"device": 16 * 10**9}), [], [])
    batch = int(shortage.hint.partition("distill.batch = ")[2].split()[0].strip("."))
    step = by_name(parts)["one step's graph and scratch"]
    smaller = peaks(parts, {"device": 1})[0].bytes - step + step * batch / 500
    assert 0.8 * 16e9 < smaller < 16e9


def test_a_full_disk_is_said() -> None:
    wanted = problem()
    uses = [use for use in disk_uses(wanted, 50, 0) if use.place == "workspace"]
    needed = sum(use.bytes for use in uses)
    room = [DiskRoom("ws", needed, needed - 2 * 4_915_200_000)]
    (shortage,) = shortages(wanted, [], [], room, uses)
    assert "distill.keep to 1" in shortage.hint  # 2 checkpoints less, and some air
    many = problem("teachers.count=2000")
    uses = [use for use in disk_uses(many, 2000, 0) if use.place == "workspace"]
    room = [DiskRoom("ws", sum(use.bytes for use in uses), 400 * 10**9)]
    (shortage,) = shortages(many, [], [], room, uses)
    assert "Lower teachers.count to" in shortage.hint
    count = int(shortage.hint.partition("teachers.count to ")[2].split(",")[0])
    fewer = problem(f"teachers.count={count}")
    assert sum(use.bytes for use in disk_uses(fewer, count, 0) if use.place == "workspace") < 400 * 10**9
    assert shortages(wanted, [], [], [DiskRoom("ws", 1, 10)], uses) == []


def test_what_a_method_looks_at_in_a_class() -> None:
    assert real_per_class(problem("distill.method=k-center").settings, IMAGENET) == 1153
    assert real_per_class(problem("distill.method=dm").settings, IMAGENET) == 256
    assert real_per_class(problem("distill.method=dm", "peers.batch_real=16").settings, IMAGENET) == 50


def test_some_classes_are_scaled_up_to_all() -> None:
    some = peer(classes=20, points=[(10, 120_000_000), (20, 140_000_000)])
    iterating = at_run_size(some, problem("distill.method=dm").settings)
    assert (iterating["seconds"], iterating["first_seconds"], iterating["state_bytes"]) == (100, 150, 300_000)
    assert iterating["scratch"] == 140_000_000 + 980 * 2_000_000 - 6000
    assert not iterating["whole"]
    # A selection looks at one class after the other.
    assert at_run_size(some, problem("distill.method=k-center").settings)["scratch"] == 140_000_000 - 6000


def test_memory_and_time_of_a_peer_by_hand() -> None:
    settings = problem("distill.method=dm", "distill.iterations=1000", "evaluate.every=500").settings
    found = at_run_size(peer(), settings)
    wanted = Problem(settings, IMAGENET, "cpu", P, 0, state_bytes=found["state_bytes"])
    sizes = by_name(peer_parts(wanted, found, [EVALUATION], free=24 * 10**9))
    assert sizes["Python, PyTorch, the program"] == 400_000_000
    assert sizes["images and what the method carries"] == 6000
    assert sizes["one iteration's graph and scratch"] == 2_000_000_000 - 6000
    times = {d.name: d.seconds for d in durations(wanted, found, 1, None, {"convnet": EVALUATION}, (0, 1000))}
    assert times["distillation"] == pytest.approx(2000)
    assert "teachers" not in times
    assert wanted.checkpoint_bytes == 6000
    whole = replace(wanted, settings=problem("distill.method=whole", "evaluate.baseline=false").settings)
    times = {d.name: d.seconds for d in durations(whole, found, 1, None, {"convnet": EVALUATION}, (0, 0))}
    epochs = whole.settings.evaluate.whole_epochs
    one = epochs * 2.0 * 1_153_050 / 250 + 50_000 * 0.001 + 0.5
    assert times["test"] == pytest.approx(5 * one)
    assert times["choosing the images"] == 3


def test_sizes_are_known_before_a_download() -> None:
    facts = find_facts(problem().settings, DataRequest("imagenet"))
    assert (facts.classes, facts.channels, facts.resolution) == (1000, 3, 64)
    assert facts.train + facts.holdout == 1_281_167
    assert facts.holdout == round(0.1 * 1_281_167)
    assert facts.dataset is None
    digits = find_facts(resolve_settings().settings, DataRequest("digits"))
    assert digits.images == 1797


def test_published_sizes_do_not_answer_for_some_of_the_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tench\ngoldfish\n")
    with pytest.raises(UsageError, match=r"with dataset\.classes are not known before it is downloaded"):
        find_facts(problem().settings, DataRequest("imagenet", classes=tmp_path / "classes.txt"))


@pytest.mark.slow
def test_teachers_larger_than_any_disk_are_measured(tmp_path: Path) -> None:
    many = ["teachers.epochs=1000000000", "distill.max_start_epoch=999999000", "compute.compile=off"]  # 900 TB
    settings = resolve_settings(ipc=1, overrides=many).settings
    arguments = {"shape": (10, 1, 8), "images": 100, "folder": str(tmp_path), "enough": 0.1, "most": 5.0, "room": 10**9}
    measuring = run_isolated(
        "engine.tools.plan.measure:teachers", {"settings": settings.model_dump_json(), **arguments}
    )
    measured = run_to_end(measuring)
    assert measured["seconds_per_image"] > 0
    assert (measured["size"], measured["whole"]) == (64, 64)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10**7


def test_times_for_people() -> None:
    assert [span(s) for s in (0.25, 12, 200, 9000, 10**6)] == ["0.25 s", "12 s", "3.3 min", "2.5 h", "12 d"]
    assert Limits() == Limits(memory=None, disk=None)
