"""Every peer's own loss and step against plain loops written from its paper's formula, in float64."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import UsageError
from engine.methods.adam import Moments, adam_direction, lamb_direction
from engine.methods.dc import gradient_distance
from engine.methods.dm import mean_distance
from engine.methods.frepo import probabilities_of, scaled
from engine.methods.herding import herd
from engine.methods.k_center import centers
from engine.methods.peer_loop import Proposal
from engine.methods.peer_state import PeerState
from engine.methods.registry import METHODS
from engine.methods.siamese import real_of_class, siamese
from engine.networks.features import Features
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator, counted_seed
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.training.labels import nearest_probabilities, running_sums
from engine.training.task import Task
from tests.conftest import TINY
from tests.operators import Operators


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def float64_task(workspace: Workspace, *overrides: str) -> Task:
    """A task on digits whose settings are those of a method."""
    drop = ("distill.lr_images", "distill.iterations")
    settings = resolve_settings(
        overrides=[*(t for t in TINY if not t.startswith(drop)), "compute.dtype=float64", *overrides]
    ).settings
    return run_to_end(open_task(workspace, settings))[0]


NO_BUFFER: Any = None
"""Peers train no teachers."""


def after_one(task: Task) -> tuple[PeerState, PeerState]:
    """The first state of the task's method, and the one after an iteration."""
    method = METHODS[task.settings.distill.method]
    before, state = (run_to_end(method.init_state(task, NO_BUFFER)) for _ in range(2))
    assert isinstance(state, PeerState)
    assert isinstance(before, PeerState)
    run_to_end(method.make_step(task, NO_BUFFER, None)(state))
    return before, state


def test_mean_distance_is_the_sum_over_features() -> None:
    real, synthetic = noise(5, 3), noise(2, 3, seed=1)
    naive = sum(
        (sum(float(row[f]) for row in real) / 5 - sum(float(row[f]) for row in synthetic) / 2) ** 2 for f in range(3)
    )
    assert float(mean_distance(real, synthetic)) == pytest.approx(naive, rel=1e-12)


def test_gradient_distance_is_one_minus_cosine_by_output_node() -> None:
    shapes = [(3, 2, 3, 3), (3,), (4, 5)]
    real = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    own = [noise(*shape, seed=9 + i) for i, shape in enumerate(shapes)]
    naive = 0.0
    for a, b in ((real[0], own[0]), (real[2], own[2])):  # a vector (bias, affine norm) does not count
        for node in range(len(a)):
            x, y = a[node].flatten().tolist(), b[node].flatten().tolist()
            dot = sum(p * q for p, q in zip(x, y, strict=True))
            lengths = math.sqrt(sum(p * p for p in x)) * math.sqrt(sum(q * q for q in y))
            naive += 1 - dot / (lengths + 1e-6)
    assert float(gradient_distance(real, own)) == pytest.approx(naive, rel=1e-12)


def test_gradient_distance_has_a_finite_gradient_where_a_node_is_dead() -> None:
    own = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    gradient_distance([noise(3, 4)], [own]).backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_nearest_probabilities_are_nearest() -> None:
    hard = torch.eye(4, dtype=torch.float64)
    assert torch.allclose(probabilities_of(scaled(hard)), hard, atol=1e-12)
    found = probabilities_of(noise(6, 4))
    assert torch.allclose(found.sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert found.min() >= 0
    wanted = noise(6, 4) * math.sqrt(0.4) + 0.25
    grid = [
        torch.tensor([a, b, c, 20 - a - b - c], dtype=torch.float64) / 20
        for a, b, c in itertools.product(range(21), repeat=3)
        if a + b + c <= 20
    ]
    for row, own in zip(wanted, found, strict=True):
        best = min(float((row - point).norm()) for point in grid)
        assert float((row - own).norm()) <= best + 1e-12


@pytest.mark.parametrize("columns", [1, 2, 3, 10, 37, 64])
def test_running_sums_are_cumsums_and_of_no_operator_without_an_order(columns: int) -> None:
    rows = torch.randn((5, columns), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(running_sums(rows), rows.cumsum(dim=1), atol=1e-13)
    meta = torch.empty((2, columns), device="meta")
    with Operators() as seen:
        nearest_probabilities(meta)
    assert seen.names and not [name for name in seen.names if "cumsum" in name]


def test_a_row_that_is_not_finite_has_no_nearest_probabilities() -> None:
    good = [0.2, 0.3, 0.5]
    rows = torch.tensor([[math.nan, 0.0, 1.0], good, [math.inf, 0.0, 0.0]])
    found = nearest_probabilities(rows)
    assert torch.allclose(found[1], torch.tensor(good))
    assert not found[0].isfinite().all() and not found[2].isfinite().all()


def test_adam_is_that_of_pytorch() -> None:
    parameter = noise(3, 4)
    reference = parameter.clone().requires_grad_()
    optimiser = torch.optim.Adam([reference], lr=0.1)
    own, moments = parameter.clone(), Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
    for step in range(1, 6):
        gradient = noise(3, 4, seed=step)
        reference.grad = gradient.clone()
        optimiser.step()
        direction, moments = adam_direction(gradient, moments, step)
        own = own - 0.1 * direction
    assert torch.allclose(own, reference.detach(), rtol=1e-12)


def test_lamb_is_that_of_its_paper() -> None:
    """You et al. 2020, Alg. 2, number by number, without weight decay and with phi(z) = z."""
    parameter = noise(3, 4)
    own, moments = parameter.clone(), Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
    x, m, v = parameter.flatten().tolist(), [0.0] * 12, [0.0] * 12
    for t in range(1, 7):
        gradient = noise(3, 4, seed=t) * 10.0 ** (-t)  # down to the size of epsilon
        r = []
        for i, g in enumerate(gradient.flatten().tolist()):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            r.append(m[i] / (1 - 0.9**t) / (math.sqrt(v[i] / (1 - 0.999**t)) + 1e-6))
        trust = math.sqrt(sum(n * n for n in x)) / math.sqrt(sum(n * n for n in r))
        x = [n - 0.1 * trust * d for n, d in zip(x, r, strict=True)]
        direction, moments = lamb_direction(own, gradient, moments, t)
        own = own - 0.1 * direction
    assert torch.allclose(own.flatten(), torch.tensor(x, dtype=torch.float64), rtol=1e-12)
    assert float((own - parameter).norm()) > 0.1 * float(parameter.norm())


def test_lamb_moves_a_parameter_without_a_length_as_adam() -> None:
    zero = torch.zeros((3, 4), dtype=torch.float64)
    lamb, _ = lamb_direction(zero, noise(3, 4, seed=7), Moments(zero, zero), 1)
    adam, _ = adam_direction(noise(3, 4, seed=7), Moments(zero, zero), 1, epsilon=1e-6)
    assert torch.equal(lamb, adam)
    still, _ = lamb_direction(noise(3, 4), zero, Moments(zero, zero), 1)
    assert not still.any()


def test_herding_follows_the_mean_greedily() -> None:
    points = noise(12, 3)
    mean = points.mean(dim=0)
    chosen: list[int] = []
    for number in range(1, 6):
        rest = [i for i in range(12) if i not in chosen]
        chosen.append(min(rest, key=lambda i: float((mean - points[[*chosen, i]].sum(dim=0) / number).norm())))
    assert herd(points, 5).tolist() == chosen
    assert sorted(herd(points, 12).tolist()) == list(range(12))


def test_k_center_takes_the_farthest_from_all_chosen() -> None:
    points = noise(12, 3)
    chosen = [min(range(12), key=lambda i: float((points[i] - points.mean(dim=0)).norm()))]
    while len(chosen) < 5:
        chosen.append(max(range(12), key=lambda i: min(float((points[i] - points[j]).norm()) for j in chosen)))
    assert centers(points, 5).tolist() == chosen
    assert sorted(centers(torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]  # equal images, none twice


def naive_features(task: Task, model: torch.nn.Module, images: Tensor) -> Tensor:
    features: Tensor = model.features(images).flatten(1)  # type: ignore[operator]
    return features


def test_dm_takes_the_step_of_its_formula(workspace: Workspace) -> None:
    task = float64_task(workspace, "distill.method=dm", "distill.ipc=2", "peers.batch_real=9")
    before, after = after_one(task)
    model = task.fresh_network(counted_seed(task.settings.seed, "dm-network", 0)).train()
    images = before.images.clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for k in range(10):
        augment = siamese(task, "dm", 0, k)
        real = naive_features(task, model, augment(real_of_class(task, k, "dm", 0))).mean(dim=0)
        own = naive_features(task, model, augment(images[2 * k : 2 * k + 2])).mean(dim=0)
        loss = loss + ((real - own) ** 2).sum()
    optimiser = torch.optim.SGD([images], lr=1.0, momentum=0.5)
    loss.backward()
    optimiser.step()
    assert task.settings.distill.lr_images == 1.0
    assert torch.allclose(after.images, images.detach(), rtol=1e-10, atol=1e-12)
    assert not torch.equal(after.images, before.images)


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_dc_and_dsa_take_the_steps_of_their_algorithm(workspace: Workspace, method: str) -> None:
    settings = ("distill.ipc=2", "peers.batch_real=9", "peers.outer_loops=3", "peers.inner_loops=2")
    task = float64_task(workspace, f"distill.method={method}", *settings)
    before, after = after_one(task)
    model = task.fresh_network(counted_seed(task.settings.seed, f"{method}-network", 0)).train()
    parameters = list(model.parameters())
    network_optimiser = torch.optim.SGD(parameters, lr=0.01)
    images = before.images.clone().requires_grad_()
    optimiser = torch.optim.SGD([images], lr=0.1, momentum=0.5)
    for outer in range(3):
        loss = torch.zeros((), dtype=torch.float64)
        for k in range(10):
            augment = siamese(task, method, 0, outer, k) if method == "dsa" else (lambda batch: batch)
            real = augment(real_of_class(task, k, method, 0, outer))
            a = torch.autograd.grad(F.cross_entropy(model(real), torch.full((len(real),), k)), parameters)
            own = F.cross_entropy(model(augment(images[2 * k : 2 * k + 2])), torch.full((2,), k))
            b = torch.autograd.grad(own, parameters, create_graph=True)
            for x, y in zip(a, b, strict=True):
                if x.ndim > 1:
                    for node in range(len(x)):
                        lengths = x[node].norm() * y[node].norm()
                        loss = loss + 1 - (x[node] * y[node]).sum() / (lengths + 1e-6)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for inner in range(2 if outer < 2 else 0):
            order = torch.randperm(
                20, generator=counted_generator(task.settings.seed, f"{method}-order", 0, outer, inner)
            )
            batch = images.detach()[order]
            if method == "dsa":
                from engine.methods.dsa import batch_augment

                batch = batch_augment(task, 20, 0, outer, inner, 0)(batch)
            network_optimiser.zero_grad()
            F.cross_entropy(model(batch), order // 2).backward()
            network_optimiser.step()
    assert torch.allclose(after.images, images.detach(), rtol=1e-9, atol=1e-11)
    assert not torch.equal(after.images, before.images)


def test_a_siamese_augmentation_is_the_same_for_every_image(workspace: Workspace) -> None:
    task = float64_task(workspace)
    image = noise(1, 1, 8, 8)
    seen = set()
    for number in range(30):
        augment = siamese(task, "test", number)
        many = augment(image.expand(5, -1, -1, -1))
        assert torch.equal(many, many[:1].expand(5, -1, -1, -1))
        assert torch.equal(many[:2], augment(image.expand(2, -1, -1, -1)))
        seen.add(float(many.sum()))
    assert len(seen) > 20


def test_features_are_what_the_last_linear_layer_is_given(workspace: Workspace) -> None:
    for name in ("convnet", "resnet18", "vit"):
        task = float64_task(workspace, f"network.name={name}", "network.width=8")
        model = task.fresh_network(0).eval()
        images = noise(3, 1, 8, 8)
        found = Features(model)(images)
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        assert torch.allclose(last(found), model(images))
        assert found.shape == (3, last.in_features)
    with pytest.raises(UsageError, match="no linear layer"):
        Features(torch.nn.Conv2d(1, 1, 3))


def test_a_proposal_leaves_what_it_started_from(workspace: Workspace) -> None:
    from engine.methods import dc, dm, frepo
    from engine.methods.siamese import plain

    def none(*arguments: object) -> object:
        return plain

    def proposals(task: Task, state: PeerState) -> Proposal:
        if task.settings.distill.method == "dc":
            return run_to_end(dc.propose(task, state.carried, 0, purpose="dc", draw=none, draw_batch=none))  # type: ignore[arg-type]
        module = dm if task.settings.distill.method == "dm" else frepo
        return run_to_end(module.propose(task, state.carried, 0))

    for name in ("dm", "dc", "frepo"):
        task = float64_task(workspace, f"distill.method={name}", "peers.outer_loops=2")
        state = run_to_end(METHODS[name].init_state(task, NO_BUFFER))
        assert isinstance(state, PeerState)
        before = {key: tensor.clone() for key, tensor in state.carried.items()}
        changed = proposals(task, state).changed
        assert all(torch.equal(before[key], state.carried[key]) for key in before)
        assert not torch.equal(changed["images"], before["images"])
