"""FRePo against plain loops in float64, written from its paper and from what its authors' code does."""

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import UsageError
from engine.events import Progress
from engine.methods.frepo import (
    FREPO,
    centred,
    label_margin,
    learning_rate,
    mirrors,
    probabilities_of,
    regression_loss,
    scaled,
)
from engine.methods.peer_state import PeerState
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator, counted_seed
from engine.settings import Settings, resolve_settings
from engine.settings.schema import PeerSettings
from engine.training.task import Task
from tests.conftest import TINY
from tests.engine.methods.test_losses import NO_BUFFER, float64_task, noise
from tests.runs import newest


def test_regression_loss_is_ridge_regression_in_the_kernel() -> None:
    synthetic, real = noise(4, 6), noise(5, 6, seed=1)
    targets, real_targets = noise(4, 3, seed=2), noise(5, 3, seed=3)
    kernel = torch.tensor([[sum((a * b).tolist()) for b in synthetic] for a in synthetic], dtype=torch.float64)
    cross = torch.tensor([[sum((a * b).tolist()) for b in synthetic] for a in real], dtype=torch.float64)
    ridge = 0.1 * sum(float(kernel[i, i]) for i in range(4)) / 4
    weights = torch.linalg.inv(kernel + ridge * torch.eye(4, dtype=torch.float64)) @ targets
    naive = sum(0.5 * float(((real_targets[i] - cross[i] @ weights) ** 2).sum()) for i in range(5)) / 5
    assert float(regression_loss(synthetic, targets, real, real_targets, 0.1)[0]) == pytest.approx(naive, rel=1e-10)


def test_the_margin_is_the_lead_of_a_label_up_to_one_over_the_classes() -> None:
    targets = noise(6, 4) / 4
    naive, wanted = 0.0, torch.zeros_like(targets)
    for number, row in enumerate(targets.tolist()):
        second, first = sorted(row)[-2:]
        naive += min(first - second, 1 / 4) / 6
        if first - second < 1 / 4:
            wanted[number, row.index(first)] = 1 / 6
            wanted[number, row.index(second)] = -1 / 6
    asked = targets.clone().requires_grad_()
    margin = label_margin(asked)
    assert float(margin.detach()) == pytest.approx(naive, rel=1e-12)
    assert torch.equal(torch.autograd.grad(margin, asked)[0], wanted)
    assert 0 < int((wanted != 0).any(dim=1).sum()) < 6  # labels on both sides of the bound


def test_only_the_labels_of_synthetic_images_are_scaled() -> None:
    hard = torch.eye(40, dtype=torch.float64)
    assert torch.equal(centred(hard).diagonal(), torch.full((40,), 1 - 1 / 40, dtype=torch.float64))
    assert torch.allclose(scaled(hard), centred(hard) / 2)
    assert torch.allclose(probabilities_of(scaled(hard)), hard, atol=1e-12)


def test_the_rate_falls_as_half_a_cosine_and_stays() -> None:
    published = ("distill.method=frepo", "dataset.name=cifar10")
    settings = resolve_settings(overrides=[*published, "distill.iterations=200"]).settings
    assert (settings.peers.decay_end, settings.peers.lr_end) == (200, 0.1)
    for iteration, share in ((0, 1.0), (50, 0.1 + 0.9 * (0.5 + math.sqrt(0.125))), (100, 0.55), (200, 0.1), (999, 0.1)):
        assert learning_rate(settings, iteration) == pytest.approx(3e-4 * share, rel=1e-12)
    constant = resolve_settings(overrides=[*published, "peers.lr_end=1"]).settings
    assert constant.peers.decay_end is None
    assert learning_rate(constant, 10**6) == 3e-4


def test_a_rate_that_falls_needs_an_end() -> None:
    with pytest.raises(ValueError, match=r"peers\.lr_end = 0\.1 lets the learning rate fall; set peers\.decay_end"):
        Settings(peers=PeerSettings(lr_end=0.1))


@pytest.mark.parametrize(
    ("overrides", "mirrored"),
    [
        (("dataset.name=digits",), False),
        (("dataset.name=mnist", "distill.ipc=10"), False),
        (("dataset.name=fashion-mnist",), False),
        (("dataset.name=fashion-mnist", "distill.ipc=50"), False),
        (("dataset.name=fashion-mnist", "peers.mirror=true"), True),
        (("dataset.name=cifar10", "distill.ipc=50"), True),
        (("dataset.name=cifar100",), True),
        (("dataset.name=cifar100", "distill.ipc=10"), False),
        (("dataset.name=tiny-imagenet", "distill.ipc=10"), False),
        (("dataset.name=imagenet",), False),
        (("dataset.name=someone/birds",), True),
        (("dataset.name=someone/birds", "augment.ops=crop"), False),
        (("dataset.name=someone/birds", "peers.mirror=false"), False),
    ],
    ids=str,
)  # fmt: skip
def test_copies_are_mirrored_where_published_or_where_images_are_flipped(
    overrides: tuple[str, ...], mirrored: bool
) -> None:
    assert mirrors(resolve_settings(overrides=["distill.method=frepo", *overrides]).settings) == mirrored


def small_task(workspace: Workspace, *overrides: str) -> Task:
    """Four classes, so that the scale of labels is not 1."""
    (workspace.folder / "classes.txt").write_text("1\n3\n4\n8\n")
    return float64_task(
        workspace, "distill.method=frepo", "dataset.classes=classes.txt", "distill.ipc=2", "peers.batch_real=30",
        *overrides,
    )  # fmt: skip


def first_state(task: Task) -> PeerState:
    return cast(PeerState, run_to_end(FREPO.init_state(task, NO_BUFFER)))


def advance(task: Task, state: PeerState, iterations: int) -> PeerState:
    step = FREPO.make_step(task, NO_BUFFER, None)
    for _ in range(iterations):
        run_to_end(step(state))
    return state


class PlainLamb:
    """LAMB on one tensor (You et al. 2020, Alg. 2)."""

    def __init__(self, value: Tensor) -> None:
        self.value, self.m, self.v, self.t = value, torch.zeros_like(value), torch.zeros_like(value), 0

    def step(self, gradient: Tensor, rate: float) -> None:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        direction = self.m / (1 - 0.9**self.t) / ((self.v / (1 - 0.999**self.t)) ** 0.5 + 1e-6)
        self.value = self.value - rate * self.value.norm() / direction.norm() * direction


class PlainMember:
    """A network of the pool: a module and PyTorch's own Adam, which live on from step to step."""

    def __init__(self, task: Task, number: int, iteration: int, age: int) -> None:
        seed = counted_seed(task.settings.seed, "frepo-network", number, iteration)
        self.model, self.age = task.fresh_network(seed), age
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=3e-4)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.9

    def features(self, images: Tensor) -> Tensor:
        self.model.eval()
        found: Tensor = self.model.features(images).flatten(1)  # type: ignore[operator]
        return found

    def step(self, images: Tensor, targets: Tensor) -> None:
        self.model.train()
        self.age += 1
        self.optimiser.zero_grad()
        errors = (self.model(images) - targets) ** 2
        (errors.sum(dim=1) / 2).mean().backward()
        self.optimiser.step()


def plain_loss(task: Task, network: PlainMember, images: Tensor, targets: Tensor, index: Tensor) -> Tensor:
    """Of four classes, the synthetic images with their mirrored copies."""
    real = network.features(task.train.images.encoded(index)).detach()
    seen, wanted = torch.cat([images, images.flip(3)]), torch.cat([targets, targets])
    own = network.features(seen)
    kernel = own @ own.T
    regularised = kernel + 1e-3 * kernel.trace() / len(seen) * torch.eye(len(seen), dtype=torch.float64)
    predicted = real @ own.T @ torch.linalg.inv(regularised) @ wanted
    labels = F.one_hot(task.train.labels[index], 4).double() - 1 / 4
    regression = ((labels - predicted) ** 2).sum() / 2 / len(index)
    ordered = targets.sort(dim=1).values
    return regression - torch.minimum(ordered[:, -1] - ordered[:, -2], torch.tensor(1 / 4)).mean()


@pytest.mark.parametrize("network", ["convnet", "convnet-batchnorm"])
def test_many_iterations_are_those_of_a_plain_loop(workspace: Workspace, network: str) -> None:
    task = small_task(
        workspace, f"network.name={network}", "network.width=4", "peers.pool=2", "peers.pool_steps=3",
        "peers.network_batch=5", "peers.mirror=true", "peers.ridge=1e-3", "distill.lr_images=0.05",
        "distill.iterations=12", "peers.decay_end=8",
    )  # fmt: skip
    state = first_state(task)
    labels = (F.one_hot(torch.arange(4).repeat_interleave(2), 4).double() - 1 / 4) / math.sqrt(4 / 10)
    assert torch.allclose(state.carried["targets"], labels)
    images, targets = PlainLamb(state.images.clone()), PlainLamb(labels)
    pool = [PlainMember(task, number, 0, age) for number, age in enumerate((0, 1))]
    replaced, losses = 0, []
    for iteration in range(12):
        generator = counted_generator(task.settings.seed, "frepo", iteration)
        number = int(torch.randint(2, (), generator=generator))
        index = torch.randperm(len(task.train), generator=generator)[:30]
        x, y = images.value.clone().requires_grad_(), targets.value.clone().requires_grad_()
        loss = plain_loss(task, pool[number], x, y, index)
        losses.append(float(loss.detach()))
        rate = 0.05 * (0.1 + 0.9 * (1 + math.cos(math.pi * min(iteration, 8) / 8)) / 2)
        for lamb, gradient in zip((images, targets), torch.autograd.grad(loss, (x, y)), strict=True):
            lamb.step(gradient, rate)
        if pool[number].age > 3:
            pool[number] = PlainMember(task, number, iteration + 1, 0)
            replaced += 1
        else:
            chosen = torch.randperm(8, generator=counted_generator(task.settings.seed, "frepo-batch", iteration))[:5]
            pool[number].step(images.value[chosen], targets.value[chosen])
    assert replaced >= 2
    advance(task, state, 12)
    assert torch.allclose(state.images, images.value, rtol=1e-6, atol=1e-8)
    assert torch.allclose(state.carried["targets"], targets.value, rtol=1e-6, atol=1e-8)
    assert float((targets.value - labels).norm()) > 0.01
    assert state.carried["pool_ages"].tolist() == [member.age for member in pool]
    for number, member in enumerate(pool):
        theta = torch.cat([part.detach().flatten() for part in member.model.parameters()])
        assert torch.allclose(state.carried[f"pool_{number}"], theta, rtol=1e-6, atol=1e-8)
        statistics = [part.flatten() for part in member.model.buffers() if part.is_floating_point()]
        assert (f"pool_{number}_statistics" in state.carried) == bool(statistics) == (network != "convnet")
        if statistics:
            own = state.carried[f"pool_{number}_statistics"]
            assert torch.allclose(own, torch.cat(statistics), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("key", "value"), [("mirror", "false"), ("label_margin", "0"), ("network_batch", "1000")])
def test_each_part_can_be_left_out_and_counts(workspace: Workspace, key: str, value: str) -> None:
    options = ("peers.pool=1", "peers.mirror=true", "peers.network_batch=5", "distill.lr_images=0.05")
    states = [
        advance(task, first_state(task), 6).carried
        for task in (small_task(workspace, *options), small_task(workspace, *options, f"peers.{key}={value}"))
    ]
    # The margin counts only once a lead is below 1/K, which it is not here: see the test of its gradient.
    assert torch.equal(states[0]["images"], states[1]["images"]) == (key == "label_margin")


def test_the_margin_moves_labels_whose_lead_is_small(workspace: Workspace) -> None:
    with_margin, without = (small_task(workspace, "peers.pool=1", f"peers.label_margin={w}") for w in (1, 0))
    states = [first_state(task) for task in (with_margin, without)]
    for state in states:
        state.carried["targets"] = state.carried["targets"] / 10  # leads of 0.16 < 1/4
    leads = [
        float(label_margin(advance(task, state, 1).carried["targets"]))
        for task, state in zip((with_margin, without), states, strict=True)
    ]
    assert leads[0] > leads[1]


def test_the_pool_starts_at_staggered_ages_and_networks_take_one_step_more_than_theirs(workspace: Workspace) -> None:
    published = small_task(workspace, "network.width=4")
    state = first_state(published)
    assert state.carried["pool_ages"].tolist() == list(range(0, 100, 10))
    assert state.carried["pool_updates"].tolist() == [0] * 10
    one = small_task(workspace, "network.width=4", "peers.pool=1", "peers.pool_steps=2")
    state = first_state(one)
    seen = []
    for _ in range(5):
        advance(one, state, 1)
        seen.append((int(state.carried["pool_ages"][0]), bool(state.carried["pool_0_first"].any())))
    assert seen == [(1, True), (2, True), (3, True), (0, False), (1, True)]


def test_any_state_resumes_to_the_same_bits(workspace: Workspace) -> None:
    task = small_task(
        workspace, "compute.dtype=float32", "network.name=convnet-batchnorm", "network.width=4", "peers.pool=2",
        "peers.pool_steps=2", "peers.network_batch=3", "peers.mirror=true",
    )  # fmt: skip
    whole = advance(task, first_state(task), 7)
    for stop in range(1, 7):
        part = advance(task, first_state(task), stop)
        kept = {name: tensor.clone() for name, tensor in part.tensors().items()}
        resumed = cast(PeerState, FREPO.restore_state(kept, part.counters(), task))
        advance(task, resumed, 7 - stop)
        assert resumed.carried.keys() == whole.carried.keys()
        assert all(torch.equal(resumed.carried[name], whole.carried[name]) for name in whole.carried)


def test_a_state_of_an_earlier_version_opens_but_does_not_go_on(workspace: Workspace) -> None:
    task = small_task(workspace, "peers.pool=1")
    old = first_state(task).tensors()
    del old["pool_updates"]
    state = cast(PeerState, FREPO.restore_state(old, {"iteration": 3, "skipped": 0}, task))
    exported: Any = FREPO.export_labels
    at = Progress(stage="export", done=0, total=1, unit="files")
    labels = run_to_end(exported(task, NO_BUFFER, state, at))
    assert torch.allclose(labels, torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0))
    with pytest.raises(
        UsageError, match=r"started by an earlier version of tesla, whose frepo had another loss"
    ) as told:
        advance(task, state, 1)
    assert "--run NAME" in told.value.hint
    assert state.iteration == 3


@pytest.mark.slow
def test_raised_iterations_leave_the_rate_alone(tiny_run: Callable[..., Run], workspace: Workspace) -> None:
    options = (
        "distill.method=frepo", "distill.lr_images=0.01", "peers.batch_real=16", "peers.pool=2", "peers.pool_steps=2",
    )  # fmt: skip
    run = tiny_run("r", *options)  # 6 iterations
    before = newest(run)["images"]
    assert run.frozen().settings.peers.decay_end == 6
    assert run.frozen().origins["peers.decay_end"] == "distill.iterations"
    tiny_run("r", *options, "distill.iterations=9")
    assert run.frozen().settings.peers.decay_end == 6
    other = tiny_run("o", *options, "distill.iterations=9", "peers.decay_end=6")
    assert torch.equal(newest(other)["images"], newest(run)["images"])
    assert not torch.equal(newest(run)["images"], before)
    assert workspace.settings(overrides=(*TINY, *options, "distill.iterations=9")).settings.peers.decay_end == 9
    # Methods without a falling rate have no end of it.
    assert workspace.settings(overrides=TINY).settings.peers.decay_end is None
