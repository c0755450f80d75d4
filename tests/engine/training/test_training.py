"""One SGD step, eager and compiled, against a loop written out; and what is decided by cost."""

import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.data.augment import draw_augment
from engine.events import EvaluationDone, Event, Notice, Progress, TeacherEpoch
from engine.networks import FlatNetwork, flatten_parameters, initialised_network
from engine.networks.flat import load_parameters
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.threads import SingleWorker
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.training import teachers as teaching
from engine.training import trainer as training
from engine.training.evaluation import RULE, evaluate_distilled, planned_steps, train_on_small
from engine.training.labels import class_index, hard_labels
from engine.training.sgd import CompiledTrainer, EagerTrainer, SgdRule, Stepped, Trainer, compiled_step, sgd_step
from engine.training.task import Task
from engine.training.teachers import train_teachers
from engine.training.training_set import SmallSet
from tests.conftest import TINY

# PyTorch's own, when the compiler is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def task_with(workspace: Workspace, *overrides: str) -> Task:
    return run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *overrides]).settings))[0]


def naive(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], lrs: list[float], momentum: float, weight_decay: float
) -> Tensor:
    """SGD as the formula says, parameter by parameter."""
    velocities = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for (images, labels), lr in zip(batches, lrs, strict=True):
        logits = model(images)
        loss = -(labels * logits.log_softmax(dim=1)).sum() / len(images)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, velocity, gradient in zip(model.parameters(), velocities, gradients, strict=True):
                velocity.mul_(momentum).add_(gradient + weight_decay * parameter)
                parameter.sub_(lr * velocity)
    return flatten_parameters(model)


def small_network() -> nn.Module:
    return initialised_network("convnet", seed=1, channels=1, classes=10, resolution=8, width=8, depth=1).double()


@pytest.mark.slow
@pytest.mark.parametrize("rule", [SgdRule(), RULE])
def test_every_trainer_takes_the_steps_of_the_formula(workspace: Workspace, rule: SgdRule) -> None:
    images = task_with(workspace).train.images.encoded(torch.arange(20)).double()
    labels = torch.rand(20, 10, dtype=torch.float64).softmax(dim=1)
    batches = [(images[:12], labels[:12]), (images[12:], labels[12:])] * 3
    lrs = [0.1] * 3 + [0.01] * 3
    expected = naive(small_network(), batches, lrs, rule.momentum, rule.weight_decay)
    network, theta = FlatNetwork(small_network()), flatten_parameters(small_network())
    compiled = {12: compiled_step(network, rule)}
    trainers: list[Trainer] = [
        EagerTrainer(small_network(), rule),
        CompiledTrainer(network, theta, rule, {}),
        CompiledTrainer(network, theta, rule, compiled),  # batches of 8 are not compiled
    ]
    for trainer in trainers:
        for (x, y), lr in zip(batches, lrs, strict=True):
            loss, logits = trainer.step(x.movedim(1, 3).contiguous().movedim(3, 1), y, lr)
        assert (trainer.theta() - expected).norm() <= 1e-10 * (expected - theta).norm()
        assert not loss.requires_grad and not logits.requires_grad
        assert float(loss) == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-12)


def plain_evaluation(task: Task, small: SmallSet, repeat: int) -> float:
    """The protocol, written as published code does it; by default with the momentum kept when the rate falls."""
    settings = task.settings
    model = task.fresh_network(counted_seed(settings.seed, "evaluate-init", repeat))
    optimiser = torch.optim.SGD(model.parameters(), lr=small.lr, momentum=0.9, weight_decay=5e-4)
    for epoch in range(settings.evaluate.epochs):
        if epoch == (settings.evaluate.epochs + 1) // 2:
            if settings.evaluate.reset_momentum:
                optimiser = torch.optim.SGD(model.parameters(), lr=small.lr, momentum=0.9, weight_decay=5e-4)
            optimiser.param_groups[0]["lr"] *= 0.1
        generator = counted_generator(settings.seed, "evaluate", repeat, epoch)
        for index in torch.randperm(len(small.images), generator=generator).split(settings.evaluate.batch):
            batch = small.images[index]
            batch = draw_augment(generator, settings.augment.ops, batch.shape)(batch)
            loss = -(small.labels[index] * model(batch).log_softmax(dim=1)).sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    images = task.test.images.encoded(torch.arange(len(task.test)))
    with torch.no_grad():
        return float((model(images).argmax(dim=1) == task.test.labels).double().mean())


def run_evaluation(task: Task, small: SmallSet) -> tuple[EvaluationDone, list[Notice]]:
    events: list[Event] = []

    def kept():  # type: ignore[no-untyped-def]  # noqa: ANN202
        stage = evaluate_distilled(task, small, iteration=0, split="test", network="convnet", repeats=2)
        while True:
            try:
                event = next(stage)
            except StopIteration as end:
                return end.value
            events.append(event)
            yield event

    return run_to_end(kept()), [event for event in events if isinstance(event, Notice)]


@pytest.mark.slow
@pytest.mark.parametrize("compile_", ["off", "on"])
@pytest.mark.parametrize("published", [(), ("evaluate.batch=30", "evaluate.reset_momentum=true")])
def test_an_evaluation_is_the_published_loop(workspace: Workspace, compile_: str, published: tuple[str, ...]) -> None:
    # In float64, so that rounding does not grow to another answer on any test image.
    task = task_with(workspace, f"compute.compile={compile_}", "compute.dtype=float64", "network.depth=1",
                     "evaluate.epochs=12", *published)  # fmt: skip
    images = task.train.images.encoded(torch.cat([members[:3] for members in task.class_members]))
    small = SmallSet(images, hard_labels(class_index(10, 3), 10, task.dtype), 0.2)
    result, notices = run_evaluation(task, small)
    assert result.accuracies == [plain_evaluation(task, small, repeat) for repeat in (0, 1)]
    assert result.mean > 0.2
    assert [notice.level for notice in notices] == (["info"] if compile_ == "on" else [])  # compiled once for both
    assert run_evaluation(task, small)[1] == []


def test_a_miscompiled_step_is_not_used(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: FlatNetwork, rule: SgdRule, cpu_kernels: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        right = sgd_step(network, rule)

        def step(*args: Tensor) -> Stepped:
            found = right(*args)
            return found._replace(theta=found.theta + 0.01 * (found.theta - args[0]))

        return step

    monkeypatch.setattr(training, "compiled_step", wrong)
    task = task_with(workspace, "compute.compile=on")
    images = task.train.images.encoded(torch.arange(10))
    result, notices = run_evaluation(task, SmallSet(images, torch.eye(10), 0.01))
    assert [notice.level for notice in notices] == ["info", "warning"]
    assert "update of a training step differs from eager by 1.0e-02" in notices[1].message
    eager = task_with(workspace, "compute.compile=off")
    assert result.accuracies == run_evaluation(eager, SmallSet(images, torch.eye(10), 0.01))[0].accuracies


def test_compiling_is_decided_by_the_work_of_the_whole_stage(workspace: Workspace) -> None:
    task = task_with(workspace)
    model = small_network()
    images = torch.zeros(100, 1, 8, 8, dtype=torch.float64)
    assert not training.worth_compiling(model, images, 100)
    assert training.worth_compiling(model, images, 100_000)
    wide = initialised_network("convnet", seed=1, channels=3, classes=10, resolution=32, width=64)
    big = torch.zeros(100, 3, 32, 32)
    assert training.worth_compiling(wide, big, 9000) and not training.worth_compiling(model, images, 9000)
    # 6 iterations, one evaluation every 3, the start, the baseline at 4 rates: 7 of 3 networks; then 2 of 2.
    assert planned_steps(task, "convnet", 10) == {10: 25 * 8}
    assert planned_steps(task, "vit", 10) == {10: 2 * 8}
    assert planned_steps(task, "convnet", 2 * 256 + 3) == {256: 2 * 25 * 8, 3: 25 * 8}
    assert planned_steps(task_with(workspace, "evaluate.batch=4"), "vit", 10) == {4: 2 * 2 * 8, 2: 2 * 8}


class RecordedTrainer:
    """What a protocol asks of a trainer."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float] | str] = []

    def step(self, images: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        self.asked.append((len(images), lr))
        return torch.zeros(()), torch.zeros(len(images), 10)

    def theta(self) -> Tensor:
        raise NotImplementedError

    def load(self, theta: Tensor) -> None:
        raise NotImplementedError

    def rest(self) -> None:
        self.asked.append("rest")


@pytest.mark.parametrize("resets", [True, False])
def test_the_rate_of_1001_epochs_falls_at_epoch_501(workspace: Workspace, resets: bool) -> None:
    task = task_with(workspace, "evaluate.epochs=1001", f"evaluate.reset_momentum={str(resets).lower()}",
                     "evaluate.augment=none", "evaluate.batch=7")  # fmt: skip
    learner = RecordedTrainer()
    for _ in train_on_small(task, learner, SmallSet(torch.zeros(10, 1, 8, 8), torch.eye(10), 0.5), 0):
        pass
    fall = 2 * 501  # two batches an epoch
    assert [learner.asked.pop(fall)] == ["rest"] if resets else "rest" not in learner.asked
    assert learner.asked == [(7, 0.5), (3, 0.5)] * 501 + [(7, 0.05), (3, 0.05)] * 500


def test_a_rested_trainer_is_a_new_one(workspace: Workspace) -> None:
    images = task_with(workspace).train.images.encoded(torch.arange(10)).double()
    labels = torch.arange(10)
    theta = flatten_parameters(small_network())
    trainers = EagerTrainer(small_network(), RULE), CompiledTrainer(FlatNetwork(small_network()), theta, RULE, {})
    for learner in trainers:
        learner.step(images, labels, 0.1)
        moved = learner.theta()
        learner.rest()
        learner.step(images, labels, 0.1)
        model = small_network()
        load_parameters(model, moved)
        fresh = EagerTrainer(model, RULE)
        fresh.step(images, labels, 0.1)
        torch.testing.assert_close(learner.theta(), fresh.theta(), rtol=0, atol=1e-12)


def test_networks_with_running_statistics_stay_eager(workspace: Workspace) -> None:
    task = task_with(workspace, "compute.compile=on")
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    batch = (task.train.images.encoded(torch.arange(10)), torch.eye(10))
    at = Progress(stage="", done=0, total=1, unit="networks")
    trainer = run_to_end(training.trainer(task, model, "mine", SgdRule(), [batch], {10: 10**9}, at))
    assert isinstance(trainer, EagerTrainer)


@pytest.mark.slow
def test_compiled_teachers_resume_to_the_same_bits_and_are_the_eager_ones(tmp_path: Path) -> None:
    rows = {}
    for name, compile_ in (("whole", "on"), ("stopped", "on"), ("eager", "off")):
        workspace = Workspace.create(tmp_path / name, resolve_settings(), set())
        overrides = [*TINY, f"compute.compile={compile_}", "network.depth=1", "teachers.count=1", "teachers.batch=259"]
        task, buffer = run_to_end(open_task(workspace, resolve_settings(overrides=overrides).settings))
        buffer.open()
        if name == "stopped":
            stage = train_teachers(task, buffer)
            for event in stage:
                assert not isinstance(event, Notice) or event.level == "info"
                if isinstance(event, TeacherEpoch):
                    next(stage)  # the first batch of the epoch after
                    break
            stage.close()
        warnings = [e for e in train_teachers(task, buffer) if isinstance(e, Notice) and e.level == "warning"]
        assert warnings == []
        rows[name] = torch.stack(buffer.read(0, 0, 1, 2))
    assert torch.equal(rows["whole"], rows["stopped"])
    assert not torch.equal(rows["whole"][0], rows["whole"][2])
    change = (rows["eager"] - rows["eager"][0])[1:]
    assert (rows["whole"][1:] - rows["eager"][1:]).norm() <= 1e-4 * change.norm()


def test_a_snapshot_that_cannot_be_written_ends_the_stage(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, buffer = run_to_end(open_task(workspace, resolve_settings(overrides=TINY).settings))
    buffer.open()
    real = teaching.TrajectoryWriter.append

    def full(self: teaching.TrajectoryWriter, *args: object) -> None:
        if self.record.rows == 1:
            raise OSError(28, "No space left on device")
        real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(teaching.TrajectoryWriter, "append", full)
    with pytest.raises(OSError, match="No space left"):
        list(train_teachers(task, buffer))
    monkeypatch.undo()
    for _ in train_teachers(task, buffer):
        pass
    assert buffer.epochs(0) == 2


def test_work_in_flight_is_waited_for_and_its_error_is_not_lost() -> None:
    gate, done = threading.Event(), []
    with SingleWorker("test") as work:
        work.submit(lambda: (gate.wait(5), done.append(1))[1])
        assert done == []  # beside the caller
        gate.set()
        work.submit(lambda: done.append(2))
    assert done == [1, 2]
    with pytest.raises(ZeroDivisionError), SingleWorker("test") as work:
        work.submit(lambda: done.append(1 // 0))


def test_load_and_theta_are_copies() -> None:
    model = small_network()
    theta = flatten_parameters(model)
    for trainer in (EagerTrainer(model, RULE), CompiledTrainer(FlatNetwork(model), theta, RULE, {})):
        taken = trainer.theta()
        taken.zero_()
        assert torch.equal(trainer.theta(), theta)
        trainer.load(theta * 2)
        assert torch.equal(trainer.theta(), theta * 2)
        load_parameters(model, theta)
