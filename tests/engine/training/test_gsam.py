"""FTD's teachers: sharpness-aware steps against a loop written out, in every trainer; stopped, shared and planned."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.data import Dataset
from engine.events import Notice, Progress, TeacherEpoch
from engine.networks import FlatNetwork, flatten_parameters, initialised_network
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.tools.plan.calculate import calculate
from engine.tools.plan.machines import MACHINES
from engine.training.gsam import ascent, flat_direction
from engine.training.sgd import CompiledTrainer, EagerTrainer, SgdRule, Trainer, compiled_step, eager_trainer
from engine.training.teachers import teacher_rule, train_teachers
from engine.training.trainer import trainer, training_words
from tests.conftest import TINY

# PyTorch's own, when the compiler is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

FTD = ("teachers.kind=ftd", "teachers.rho=0.05")


def small_network() -> nn.Module:
    return initialised_network("convnet", seed=1, channels=1, classes=10, resolution=8, width=8, depth=1).double()


def naive(model: nn.Module, batches: list[tuple[Tensor, Tensor]], lr: float, rule: SgdRule) -> Tensor:
    """GSAM as its authors' code takes a step, parameter by parameter."""
    parameters = list(model.parameters())
    buffers = [torch.zeros_like(p) for p in parameters]

    def gradients(images: Tensor, labels: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(model(images), labels), parameters))

    def norm(parts: list[Tensor]) -> float:
        return sum(float((part**2).sum()) for part in parts) ** 0.5

    for images, labels in batches:
        before = [p.detach().clone() for p in parameters]
        first = gradients(images, labels)
        length = norm([p.abs() * g for p, g in zip(before, first, strict=True)])
        with torch.no_grad():
            for p, g in zip(parameters, first, strict=True):
                p += p**2 * g * rule.rho / (length + 1e-12)
        second = gradients(images, labels)
        inner = sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))
        cosine = inner / (norm(first) * norm(second) + 1e-12)
        for p, old, a, b, velocity in zip(parameters, before, first, second, buffers, strict=True):
            vertical = a - cosine * norm(first) * b / (norm(second) + 1e-12)
            with torch.no_grad():
                p.copy_(old)
                velocity.mul_(rule.momentum).add_(b - rule.alpha * vertical + rule.weight_decay * p)
                p -= lr * velocity
    return flatten_parameters(model)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [SgdRule(rho=0.5, alpha=0.4), SgdRule(0.9, 5e-4, rho=0.1, alpha=0.0)])
def test_every_trainer_takes_the_steps_of_the_authors_code(rule: SgdRule) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(20, 1, 8, 8, dtype=torch.float64, generator=generator)
    labels = torch.randint(10, (20,), generator=generator)
    batches = [(images[:12], labels[:12]), (images[12:], labels[12:])] * 3
    expected = naive(small_network(), batches, 0.1, rule)
    network, theta = FlatNetwork(small_network()), flatten_parameters(small_network())
    plain = naive(small_network(), batches, 0.1, SgdRule(rule.momentum, rule.weight_decay))
    assert (plain - expected).norm() > 1e-3 * (expected - theta).norm()
    trainers: list[Trainer] = [
        eager_trainer(small_network(), rule),
        CompiledTrainer(network, theta, rule, {12: compiled_step(network, rule)}),  # batches of 8 are not compiled
    ]
    for learner in trainers:
        for x, y in batches:
            loss, logits = learner.step(x, y, 0.1)
        assert (learner.theta() - expected).norm() <= 1e-10 * (expected - theta).norm()
        assert float(loss) == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-12)  # at theta, not at theta + e


def test_a_step_is_what_its_formula_says() -> None:
    theta, g, steep = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, -2.0], [3.0, 1.0], [0.0, 5.0]))
    e = ascent(theta, g, 0.1)
    torch.testing.assert_close(e, 0.1 * torch.tensor([3.0, 4.0], dtype=torch.float64) / 13**0.5)
    torch.testing.assert_close((e / theta).norm(), torch.tensor(0.1, dtype=torch.float64))  # the adaptive radius
    torch.testing.assert_close(flat_direction(g, steep, 0.4), torch.tensor([-1.2, 5.0], dtype=torch.float64))
    assert torch.equal(flat_direction(g, steep, 0.0), steep)
    nothing = torch.zeros(2)
    assert torch.equal(flat_direction(nothing, nothing, 0.4), nothing) and not ascent(theta, 0 * g, 0.1).any()


def test_running_statistics_see_no_second_pass() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).double()
    learner = eager_trainer(model, SgdRule(rho=0.1, alpha=0.4))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    learner.step(images, torch.arange(6), 0.1)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    with pytest.raises(ValueError, match="plain steps only"):
        EagerTrainer(model, SgdRule(rho=0.1))


def test_a_compiled_step_is_not_taken_for_one_of_another_rule() -> None:
    rules = [SgdRule(), SgdRule(rho=0.01, alpha=0.4), SgdRule(rho=0.02, alpha=0.4), SgdRule(rho=0.01, alpha=0.3)]
    assert len({training_words(rule) for rule in rules}) == len(rules)
    assert training_words(SgdRule()) == "training, momentum 0, decay 0"  # as caches of older versions have it


def test_which_teachers_runs_share(workspace: Workspace) -> None:
    dataset = cast(Dataset, SimpleNamespace(fingerprint="f1", name="digits"))

    def identity(*overrides: str) -> dict[str, object]:
        return workspace.buffer_identity(resolve_settings(overrides=list(overrides)).settings, dataset)

    assert identity("teachers.rho=0.5", "teachers.alpha=0.1") == identity()  # plain steps read neither
    ftd = identity("teachers.kind=ftd")
    assert ftd == {**identity(), "kind": "ftd"}
    assert identity("teachers.kind=ftd", "teachers.rho=0.5") == {**ftd, "rho": 0.5}
    assert identity("teachers.kind=ftd", "teachers.alpha=0.3") == {**ftd, "alpha": 0.3}


@pytest.mark.slow
@pytest.mark.parametrize("compile_", ["off", "on"])
def test_teachers_stopped_in_mid_epoch_are_the_same_bits(tmp_path: Path, compile_: str) -> None:
    rows = {}
    for name, kind in (("whole", FTD), ("stopped", FTD), ("plain", ())):
        workspace = Workspace.create(tmp_path / name, resolve_settings(), set())
        # Two batches of one size where they are compiled: how long that takes is not the point.
        overrides = [*TINY, *kind, f"compute.compile={compile_}", "network.depth=1", "teachers.count=1",
                     "dataset.holdout=0", "teachers.batch=719", "teachers.lr=0.1"]  # fmt: skip
        task, buffer = run_to_end(open_task(workspace, resolve_settings(overrides=overrides).settings))
        buffer.open()
        if name == "stopped":
            stage = train_teachers(task, buffer)
            for event in stage:
                if isinstance(event, TeacherEpoch):
                    next(stage)  # the first batch of the epoch after
                    break
            stage.close()
            assert list(buffer.folder.glob("*.position.safetensors"))
        warnings = [e for e in train_teachers(task, buffer) if isinstance(e, Notice) and e.level == "warning"]
        assert warnings == []  # the compiled step agrees with the formula
        rows[name] = torch.stack(buffer.read(0, 0, 1, 2))
    assert torch.equal(rows["whole"], rows["stopped"])
    assert torch.equal(rows["whole"][0], rows["plain"][0])  # the same network, images and augmentations
    assert not torch.equal(rows["whole"][1:], rows["plain"][1:])


def test_the_trainer_of_teachers_has_their_rule(workspace: Workspace) -> None:
    task, _ = run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *FTD]).settings))
    rule = teacher_rule(task.settings)
    assert rule == SgdRule(rho=0.05, alpha=0.4) and rule.gradients == 2
    assert teacher_rule(resolve_settings().settings) == SgdRule()
    batch = (task.train.images.encoded(torch.arange(10)), task.train.targets(torch.arange(10)))
    at = Progress(stage="", done=0, total=1, unit="networks")
    learner = run_to_end(trainer(task, task.fresh_network(0), "convnet", rule, [batch], {10: 1}, at))
    assert isinstance(learner, CompiledTrainer)  # the functional form, with nothing compiled


def test_a_plan_counts_two_gradients_a_step() -> None:
    network = {"parameters": 504_420, "flops": 101_859_328, "graph_bytes": 2_068_868, "evaluation_compiles": False}
    shapes = {
        "images": 5000, "batch": 100, "teacher_batch": 256, "trained_on": 5000, "values": 3072,
        "matching_compiles": False, "teachers_compile": False, "networks": {"convnet": network},
    }  # fmt: skip
    seconds = {}
    for kind in ("sgd", "ftd"):
        settings = resolve_settings(ipc=50, overrides=["dataset.name=cifar100", f"teachers.kind={kind}"]).settings
        found = calculate(MACHINES["h200"], settings, shapes, teachers=True).teachers
        assert found is not None
        seconds[kind] = found["seconds_per_image"]
    assert seconds["ftd"] == pytest.approx(2 * seconds["sgd"])
