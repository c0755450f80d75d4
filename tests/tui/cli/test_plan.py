"""`tesla plan` through its front door: measured numbers, JSON, and loud words where something does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.runs.workspace import Workspace
from engine.session.session import teach
from engine.tools.plan import measurements
from tests.conftest import TINY
from tests.engine.data.trees import make
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]

SETS = [word for text in (*TINY, "evaluate.repeats=1") for word in ("--set", text)]
QUICK = ("--seconds", 0.2)


def stage(plan: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in plan["time"] if part["name"] == name)


@pytest.mark.slow
def test_a_plan_of_digits_is_measured_and_added_up(tesla: Tesla, tmp_path: Path) -> None:
    tesla("init", "ws")
    code, out, _ = tesla("plan", "ws", "--ipc", 2, "--json", *SETS, *QUICK)
    assert code == 0
    plan = json.loads(out)
    assert (plan["run"], plan["images"], plan["iterations_left"], plan["teachers_left"]) == ("ipc-2", 20, 6, 2)
    assert plan["shortages"] == []
    memory = {part["name"]: part for part in plan["memory"]}
    assert memory["synthetic images"]["bytes"] == 20 * 64 * 4
    assert memory["Python, PyTorch, the program"]["bytes"] > 100e6
    assert memory["one step's graph and scratch"]["how"] == "measured"
    assert memory["dataset, kept as bytes"]["bytes"] == 0
    assert memory["its file, mapped (given back when needed)"]["bytes"] == 1797 * 64
    # All four matching steps of the run were measured, with all of its images.
    assert 0 < plan["seconds_per_step"] * 4 == pytest.approx(plan["seconds_per_iteration"])
    assert stage(plan, "distillation")["seconds"] == pytest.approx(6 * plan["seconds_per_iteration"])
    assert stage(plan, "teachers")["seconds"] > 0
    assert stage(plan, "test")["seconds"] > 0
    assert plan["seconds"] == pytest.approx(sum(part["seconds"] for part in plan["time"]))
    assert plan["disk"][0]["bytes"] == 3 * 3 * plan["parameters"] * 4
    assert plan["peaks"][0]["bytes"] < plan["peaks"][0]["free"]
    # Nothing of it stays.
    assert sorted(path.name for path in (tmp_path / "ws").iterdir()) == ["dataset.json", "tesla.toml"]


@pytest.mark.slow
def test_imagenet_is_planned_without_data_and_says_what_does_not_fit(tesla: Tesla) -> None:
    tesla("init", "im", "--dataset", "imagenet")
    small = ("dataset.resolution=8", "network.width=2", "network.depth=1", "distill.steps=2", "teachers.batch=64")
    sets = [word for text in (*small, "evaluate.repeats=1", "compute.threads=1") for word in ("--set", text)]
    code, out, _ = tesla("plan", "im", "--ipc", 1, *sets, *QUICK, "--memory", 0.1, "--disk", 0.1)
    assert code == 0
    words = one_paragraph(out)
    assert "1,000 images (IPC 1) of imagenet" in words
    assert "published sizes; benjamin-paine/imagenet-1k-64x64 is not downloaded yet" in words
    assert "total" in words
    assert "Does not fit" in words
    assert "of memory at the peak" in words
    assert "of disk at" in words
    assert "TESLA_CACHE" in words  # the decoded images are most of it


@pytest.mark.slow
def test_what_is_there_is_not_planned_again(tesla: Tesla, monkeypatch: pytest.MonkeyPatch) -> None:
    tesla("init", "ws")
    workspace = Workspace(Path("ws"))
    settings = workspace.settings(ipc=1, overrides=TINY).settings
    list(teach(workspace, settings))
    asked: list[str] = []
    real = measurements.run_isolated

    def noted(function: str, arguments: dict[str, Any], **more: Any) -> Any:
        asked.append(function.partition(":")[2])
        return real(function, arguments, **more)

    monkeypatch.setattr(measurements, "run_isolated", noted)
    plan = json.loads(tesla("plan", "ws", "--ipc", 1, "--json", *SETS, *QUICK)[1])
    assert plan["teachers_left"] == 0
    assert plan["origin"] == "the cached dataset"
    assert "teachers" not in asked
    assert not any(part["name"] == "teachers" for part in plan["time"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "doing"),
    [
        ("dc", "distillation"),
        ("frepo", "distillation"),
        ("herding", "choosing the images"),
        ("whole", "choosing the images"),
    ],
)
def test_a_method_without_teachers_is_measured_on_its_own_work(tesla: Tesla, method: str, doing: str) -> None:
    tesla("init", "ws")
    sets = (*SETS, "--set", f"distill.method={method}", "--set", "peers.batch_real=16", "--set", "peers.pool=2")
    if doing != "distillation":
        sets += ("--set", "distill.iterations=0")
    code, out, err = tesla("plan", "ws", "--ipc", 2, "--json", *sets, *QUICK)
    assert code == 0, err
    plan = json.loads(out)
    names = [part["name"] for part in plan["time"]]
    assert (plan["teachers_left"], plan["seconds_per_step"], plan["store"], plan["compiled"]) == (0, 0, "", False)
    assert "teachers" not in names
    assert not any(use["name"] == "teacher buffer" for use in plan["disk"])
    assert stage(plan, "test")["seconds"] > 0
    assert next(part for part in plan["memory"] if part["name"] == "images and what the method carries")["bytes"] >= (
        20 * 64 * 4
    )
    if doing == "distillation":
        assert 0 < plan["seconds_per_iteration"] * 6 == pytest.approx(stage(plan, "distillation")["seconds"])
        assert next(use for use in plan["disk"] if use["name"] == "checkpoints")["bytes"] >= 6 * 2 * 20 * 64 * 4
    else:
        assert names[0] == doing
        assert "evaluations that select" not in names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "dataset.name=someone/something"), "not known before it is downloaded"),
        (("--ipc", 5000), "distill.ipc = 5000 needs more images"),
        (("--set", "compute.device=cuda:7"), "is not available on this machine"),
        (("--device", "a10"), "There are no published figures for a device 'a10' here. Did you mean a100?"),
        (("--device", "h100", "--set", "distill.method=dm"), "dm has none"),
    ],
)
def test_what_cannot_be_planned_is_said_at_once(tesla: Tesla, arguments: tuple[object, ...], words: str) -> None:
    tesla("init", "ws")
    code, _, err = tesla("plan", "ws", *arguments)
    assert code == 2
    assert words in one_paragraph(err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "ipc", "gigabytes"), [("imagenet", 1, 4.6), ("imagenet", 10, 6.6), ("imagenet", 50, 14.3),
                                      ("cifar100", 50, 8.6)]
)  # fmt: skip
def test_the_disk_of_teachers_and_a_machine_elsewhere(tesla: Tesla, dataset: str, ipc: int, gigabytes: float) -> None:
    tesla("init", "ws", "--dataset", dataset)
    code, out, err = tesla("plan", "ws", "--ipc", ipc, "--device", "a100", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["disk"][0]["name"] == "teacher buffer"
    assert plan["disk"][0]["bytes"] / 1e9 == pytest.approx(gigabytes, rel=0.05)
    assert plan["room"] == []  # that machine's disk is not known
    assert plan["calculated"].startswith("Calculated for the NVIDIA A100 SXM 80 GB: peak 19.5 TFLOP/s (float32)")
    assert (
        "efficiency 48% compiled and 34% eager" in plan["calculated"] and "Nothing was measured" in plan["calculated"]
    )
    assert plan["seconds_per_step"] > 0 and plan["peaks"][0]["free"] == 80 * 10**9
    assert {part["how"] for part in (*plan["time"], *plan["memory"])} == {"computed"}
    words = one_paragraph(tesla("plan", "ws", "--ipc", ipc, "--device", "m-series", "--disk", 1)[1])
    assert "Calculated for the Apple M2" in words
    assert "of disk at" in words


@pytest.mark.slow
def test_a_large_problem_is_planned_from_smaller_batches_in_the_time(tesla: Tesla) -> None:
    tesla("init", "im", "--dataset", "imagenet")
    sets = ("compute.threads=1", "compute.compile=off", "network.width=64")
    code, out, err = tesla("plan", "im", "--ipc", 50, "--json", "--seconds", 1, "--budget", 6,
                           *(word for text in sets for word in ("--set", text)))  # fmt: skip
    assert code == 0, err
    plan = json.loads(out)
    assert re.search(r"measured at \d+ of 500 images \(± (20|50) %\)", stage(plan, "distillation")["note"])
    assert re.search(r"measured at \d+ of 256 images", stage(plan, "teachers")["note"])
    step = next(part for part in plan["memory"] if part["name"] == "one step's graph and scratch")
    assert (step["how"], "of 500 images" in step["note"]) == ("extrapolated", True)
    assert 1e9 < step["bytes"] < 30e9
    assert "will take" not in err  # of the disk, as for teachers that nobody trains


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_compiled")
def test_compiled_steps_are_planned_without_the_compiler_s_cache(tesla: Tesla) -> None:
    tesla("init", "ws")
    sets = (*SETS, "--set", "compute.compile=on", "--set", "distill.iterations=3", "--set", "evaluate.baseline=false")
    cold = json.loads(tesla("plan", "ws", "--ipc", 1, "--json", "--seconds", 0.5, *sets)[1])
    compilation = stage(cold, "compilation")
    assert cold["compiled"] and (compilation["how"], compilation["seconds"] > 30) == ("computed", True)
    assert "compiled steps taken as" in stage(cold, "distillation")["note"]
    assert 0 < cold["seconds_per_iteration"] < 2  # compiling is in none of them


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("teachers.count=1", "network.width=8"),
        ("distill.steps=1", "distill.store=checkpoint"),
        ("distill.gradient=unrolled", "labels.kind=target"),
        ("distill.gradient=paper", "distill.batch=3", "labels.kind=learned", "teachers.batch=100000"),
        ("distill.method=dm", "dataset.holdout=0"),
    ],
)
def test_a_folder_of_sixty_photos_is_planned(tesla: Tesla, tmp_path: Path, changes: tuple[str, ...]) -> None:
    make(tmp_path / "in", *(f"{split}/{name}" for split in ("train", "test") for name in "abc"), count=20)
    tesla("init", "ws", "--dataset", "folder", "--set", f"dataset.path={tmp_path / 'in'}")
    more = [word for text in ("dataset.resolution=16", *changes) for word in ("--set", text)]
    code, out, err = tesla("plan", "ws", "--ipc", 2, "--json", *SETS, *more, *QUICK, "--disk", 0.000001)
    assert code == 0, err
    plan = json.loads(out)
    assert all(part["seconds"] > 0 for part in plan["time"] if part["name"] in ("teachers", "distillation", "test"))
    assert plan["seconds_per_iteration"] > 0
    assert all(part["bytes"] >= 0 for part in plan["memory"]) and plan["peaks"][0]["bytes"] > 10**8
    assert "of disk at" in plan["shortages"][0]["message"]  # and it is a plan all the same


@pytest.mark.slow
def test_a_run_half_done_is_planned_to_its_end(tesla: Tesla) -> None:
    tesla("init", "ws")
    half = (*SETS, "--set", "distill.iterations=3")
    assert tesla("run", "ws", "--ipc", 1, "--run", "r", *half)[0] == 0
    plan = json.loads(tesla("plan", "ws", "--run", "r", "--json", *QUICK, "--set", "distill.iterations=9")[1])
    assert (plan["teachers_left"], plan["iterations_left"]) == (0, 6)
    assert stage(plan, "distillation")["seconds"] == pytest.approx(6 * plan["seconds_per_iteration"])
