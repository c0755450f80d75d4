"""AutoAugment, RandAugment or nothing instead of DSA in evaluations (TESLA, App. A.9)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.data.policies import PolicyAugment
from engine.data.space import InputSpace
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.exchange.export import exporting

RunIt = Callable[..., Run]
NAMES = ("autoaugment", "randaugment")


def space_of(channels: int) -> InputSpace:
    return InputSpace(
        "normalise", {"mean": torch.linspace(0.3, 0.6, channels), "std": torch.linspace(0.2, 0.4, channels)}
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_policy_is_a_function_of_images_and_seed_within_the_pixels_range(name: str, channels: int) -> None:
    space = space_of(channels)
    images = 3 * torch.randn(6, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    augment, other = (PolicyAugment(name, space, 12) for _ in range(2))  # type: ignore[arg-type]
    before = torch.get_rng_state()
    results = [augment(images, seed) for seed in range(40)]
    assert torch.equal(before, torch.get_rng_state())
    for seed, found in enumerate(results):
        assert found.shape == images.shape
        pixels = space.decode(found)
        assert float(pixels.min()) >= -1e-5
        assert float(pixels.max()) <= 1 + 1e-5
        assert torch.equal(found, other(images, seed))
    assert len({float(found.sum()) for found in results}) > 20
    clamped = space.encode(space.decode(images).clamp(0, 1))
    assert any(not torch.allclose(found, clamped, atol=1e-4) for found in results)


def test_whitened_images_come_back_whitened() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.eye(3 * 64) + 0.01 * torch.randn(3 * 64, 3 * 64, generator=generator)
    tensors = {"mean": torch.full((1, 3 * 64), 0.4), "matrix": matrix, "inverse": torch.linalg.inv(matrix)}
    space = InputSpace("zca", tensors)
    images = space.encode(torch.rand(4, 3, 8, 8, generator=generator))
    found = PolicyAugment("randaugment", space, 8)(images, 5)
    pixels = space.decode(found)
    assert found.shape == images.shape
    assert float(pixels.min()) >= -1e-3
    assert float(pixels.max()) <= 1 + 1e-3


@pytest.mark.slow
def test_evaluations_with_other_augmentations_are_other_measurements(
    tiny_run: RunIt, workspace: Workspace, tmp_path: Path
) -> None:
    first = ("distill.method=k-means", "distill.iterations=0", "evaluate.epochs=20", "distill.ipc=2")
    found = {}
    for name in ("dsa", "none", *NAMES):
        run = tiny_run("r", *first, f"evaluate.augment={name}")  # the same run: evaluations may change
        found[name] = next(r.accuracies for r in run.evaluations() if r.subject == "distilled")
        again = {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
        tiny_run("r", *first, f"evaluate.augment={name}")
        assert again == {path: path.stat().st_mtime_ns for path in (run.folder / "evaluations").iterdir()}
    assert len({tuple(accuracies) for accuracies in found.values()}) == 4
    run_to_end(exporting(workspace, run, tmp_path / "out"))
    assert "measured with randaugment" in (tmp_path / "out" / "README.md").read_text()
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["training"]["measured_with"] == "randaugment"
    assert (recipe["environment"]["torch"], recipe["environment"]["device"]) == (torch.__version__, "cpu")


def test_none_is_dsa_without_operations(tiny_run: RunIt) -> None:
    first = ("distill.method=k-means", "distill.iterations=0", "evaluate.baseline=false")
    none = tiny_run("none", *first, "evaluate.augment=none")
    empty = tiny_run("empty", *first, "augment.ops=[]")
    assert none.evaluations()[0].accuracies == empty.evaluations()[0].accuracies


def test_a_result_measured_before_there_was_a_choice_is_not_measured_again(tiny_run: RunIt) -> None:
    run = tiny_run("r", "distill.iterations=1")
    for path in (run.folder / "evaluations").iterdir():
        protocol = json.loads(path.read_text())["protocol"]
        assert "augment" not in protocol
        assert set(protocol.get("labels", {})) <= {"kind", "ship", "lr"}
