"""`frepo`, neural feature regression with pooling (Zhou, Nezhadarya & Ba, NeurIPS 2022, Alg. 1).

With features f of a network from a pool, S synthetic and T real images, the images and labels follow the gradient of

    1/2 mean_T || y_T - K_TS (K_SS + lambda tr(K_SS)/N I)^-1 y_S ||^2  -  mean_S min(lead(y_S), 1/K)

with K_AB = f(A) f(B)^t and lead(y) the greatest value of a label less its second, and the network then takes one step
on the synthetic set. Networks of the pool are of different ages; one that is too old is replaced by a new one.

As in the authors' code (github.com/yongchaoz/FRePo, lib/datadistillation/frepo.py and script/distill.py): both terms;
real labels one-hot and centred, synthetic ones also divided by sqrt(K / 10) and learned; mirrored copies of S in the
regression; LAMB with a cosine; features in evaluation mode, with the running statistics of a network with batch norm;
the pool's ages, order and replacement; Adam on half the squared error for its networks. docs/baselines.md lists field
by field what is equal and what is not.
"""

import math
from collections.abc import Generator

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.events import Event, Progress
from engine.methods.adam import Moments, adam_direction, lamb_direction
from engine.methods.method import Method, immediate
from engine.methods.peer_loop import Proposal, stepping
from engine.methods.peer_state import PeerState, fresh_state, hard
from engine.methods.peer_state import restore_state as restored
from engine.networks.features import Features
from engine.networks.flat import flatten_parameters, load_parameters
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.transfer import to_device
from engine.settings import Settings
from engine.training.labels import hard_labels, nearest_probabilities
from engine.training.real_images import initial_images
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer


def regression_loss(
    synthetic: Tensor, targets: Tensor, real: Tensor, real_targets: Tensor, ridge: float
) -> tuple[Tensor, Tensor]:
    """Half the mean squared error of the kernel regression, a scalar, and its predictions `(B, K)`.

    Args:
        synthetic: features `(N, F)`.
        targets: of the synthetic images, `(N, K)`.
        real: features `(B, F)`.
        real_targets: `(B, K)`.
        ridge: lambda, as a share of the mean of the kernel's diagonal.
    """
    kernel = synthetic @ synthetic.T
    identity = torch.diag(torch.ones_like(kernel.diagonal()))
    regularised = kernel + ridge * kernel.diagonal().mean() * identity
    # `_ex`: error checks would wait for the device in every iteration. The loop sees non-finite values.
    # On the host for MPS, which has no kernel for its backward pass.
    place = "cpu" if regularised.device.type == "mps" else regularised.device
    solution = torch.linalg.solve_ex(regularised.to(place), targets.to(place))[0].to(real)
    predicted = (real @ synthetic.T) @ solution
    return 0.5 * (real_targets - predicted).square().sum(dim=1).mean(), predicted


def label_margin(targets: Tensor) -> Tensor:
    """Mean over synthetic labels `(N, K)` of the lead of the greatest value over the second, of which 1/K counts."""
    first, second = targets.topk(2, dim=1).values.unbind(dim=1)
    return (first - second).clamp(max=1 / targets.shape[1]).mean()


def centred(probabilities: Tensor) -> Tensor:
    """Targets `(B, K)` of real images: p - 1/K."""
    return probabilities - 1 / probabilities.shape[1]


def scaled(probabilities: Tensor) -> Tensor:
    """First targets `(N, K)` of synthetic images: (p - 1/K) / sqrt(K / 10)."""
    return centred(probabilities) / math.sqrt(probabilities.shape[1] / 10)


def probabilities_of(targets: Tensor) -> Tensor:
    """The probabilities `(N, K)` nearest to those of synthetic targets."""
    classes = targets.shape[1]
    return nearest_probabilities(targets * math.sqrt(classes / 10) + 1 / classes)


def learning_rate(settings: Settings, iteration: int) -> float:
    """Learning rate of images and labels in an iteration, from 0: down half a cosine to a share, then constant."""
    rate, least, end = settings.distill.lr_images, settings.peers.lr_end, settings.peers.decay_end
    if end is None:
        return rate
    return rate * (least + (1 - least) * (1 + math.cos(math.pi * min(iteration, end) / end)) / 2)


def mirrors(settings: Settings) -> bool:
    """Whether mirrored copies of the synthetic images join the regression: as set, else where images are flipped."""
    chosen = settings.peers.mirror
    return "flip" in settings.augment.ops if chosen is None else chosen


def initial_state(task: Task) -> PeerState:
    """First images, their targets, and a pool of new networks that count as of different ages."""
    images, targets = initial_images(task), scaled(hard(task))
    carried = {"targets": targets}
    for name, tensor in (("images", images), ("targets", targets)):
        carried[f"first_{name}"] = torch.zeros_like(tensor)
        carried[f"second_{name}"] = torch.zeros_like(tensor)
    peers = task.settings.peers
    carried["pool_ages"] = torch.arange(peers.pool) * (peers.pool_steps // peers.pool)
    carried["pool_updates"] = torch.zeros(peers.pool, dtype=torch.int64)  # an age is not yet an update of Adam
    for member in range(peers.pool):
        carried.update(_new_network(task, member, 0))
    state = fresh_state(task, images, **carried)
    state.labels = probabilities_of(targets)
    return state


def restore_state(tensors: dict[str, Tensor], counters: dict[str, int], task: Task) -> PeerState:
    """The state in a checkpoint; one of an earlier version is read, but not continued (see `propose`)."""
    state = restored(tensors, counters, task)
    state.labels = probabilities_of(state.carried["targets"])
    return state


def _new_network(task: Task, member: int, iteration: int) -> dict[str, Tensor]:
    model = task.fresh_network(counted_seed(task.settings.seed, "frepo-network", member, iteration))
    theta = flatten_parameters(model)
    zero = torch.zeros_like(theta)
    new = {f"pool_{member}": theta, f"pool_{member}_first": zero, f"pool_{member}_second": zero.clone()}
    return {**new, **_kept_statistics(model, member)}


def _statistics(model: nn.Module) -> list[Tensor]:
    """The buffers of a network that training changes, but for counts."""
    return [buffer for buffer in model.buffers() if buffer.is_floating_point()]


def _kept_statistics(model: nn.Module, member: int) -> dict[str, Tensor]:
    """The running statistics `(S,)` of a network of the pool; nothing for a network without."""
    found = _statistics(model)
    return {f"pool_{member}_statistics": torch.cat([part.reshape(-1) for part in found])} if found else {}


@torch.no_grad()
def _network(task: Task, carried: dict[str, Tensor], member: int) -> nn.Module:
    """A network of the pool as it is carried."""
    model = task.fresh_network(0)
    load_parameters(model, carried[f"pool_{member}"])
    if own := _statistics(model):
        sizes = [part.numel() for part in own]
        for part, kept in zip(own, carried[f"pool_{member}_statistics"].split(sizes), strict=True):
            part.copy_(kept.view_as(part))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9  # a batch counts for nine tenths, as published: 100 steps are few
    return model


def propose(task: Task, carried: dict[str, Tensor], iteration: int) -> Generator[float, None, Proposal]:
    """One update of images and labels against a network of the pool, and one step of that network. See `Propose`.

    Raises:
        UsageError: the state is from a version with another `frepo`.
    """
    if "pool_updates" not in carried:
        raise UsageError(
            "This run was started by an earlier version of tesla, whose frepo had another loss, learning rate and "
            "pool; the iterations that are missing would be those of another method.",
            "Start another run with --run NAME. What this one has made can still be evaluated and exported.",
        )
    peers, settings = task.settings.peers, task.settings
    generator = counted_generator(settings.seed, "frepo", iteration)
    member = int(torch.randint(peers.pool, (), generator=generator))
    index = torch.randperm(len(task.train), generator=generator)[: peers.batch_real]
    model = _network(task, carried, member).eval().requires_grad_(False)
    features = Features(model)
    with torch.no_grad():
        real = features(task.train.images.encoded(index))
        real_targets = centred(hard_labels(task.train.targets(index), task.classes, task.dtype))
    yield 0.5
    images = carried["images"].detach().requires_grad_()
    targets = carried["targets"].detach().requires_grad_()
    with torch.enable_grad():
        seen, wanted = images, targets
        if mirrors(settings):
            seen, wanted = torch.cat([images, images.flip(-1)]), torch.cat([targets, targets])
        loss, _ = regression_loss(features(seen), wanted, real, real_targets, peers.ridge)
        loss = loss - peers.label_margin * label_margin(targets)
        gradients = torch.autograd.grad(loss, (images, targets))
    changed: dict[str, Tensor] = {}
    for name, gradient in zip(("images", "targets"), gradients, strict=True):
        moments = Moments(carried[f"first_{name}"], carried[f"second_{name}"])
        direction, moments = lamb_direction(carried[name], gradient, moments, iteration + 1)
        changed[name] = carried[name] - learning_rate(settings, iteration) * direction
        changed[f"first_{name}"], changed[f"second_{name}"] = moments
    yield 0.8
    changed.update(_trained(task, model, carried, member, changed["images"], changed["targets"], iteration))
    labels = probabilities_of(changed["targets"])
    return Proposal(changed, loss.detach(), gradients[0].norm(), labels)


def _trained(
    task: Task, model: nn.Module, carried: dict[str, Tensor], member: int,
    images: Tensor, targets: Tensor, iteration: int,
) -> dict[str, Tensor]:  # fmt: skip
    """The member of the pool after a step of Adam on the synthetic set, or the new network that takes its place."""
    peers = task.settings.peers
    ages, updates = carried["pool_ages"].clone(), carried["pool_updates"].clone()
    counts = {"pool_ages": ages, "pool_updates": updates}
    if int(ages[member]) > peers.pool_steps:  # on the host
        ages[member] = updates[member] = 0
        return {**counts, **_new_network(task, member, iteration + 1)}
    ages[member] += 1
    updates[member] += 1
    if len(images) > peers.network_batch:
        generator = counted_generator(task.settings.seed, "frepo-batch", iteration)
        index = to_device(torch.randperm(len(images), generator=generator)[: peers.network_batch], images.device)
        images, targets = images[index], targets[index]
    model.train().requires_grad_(True)
    with torch.enable_grad():
        loss = 0.5 * (model(images) - targets).square().sum(dim=1).mean()
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])
    moments = Moments(carried[f"pool_{member}_first"], carried[f"pool_{member}_second"])
    direction, moments = adam_direction(gradient, moments, int(updates[member]))
    return {
        **counts,
        f"pool_{member}": carried[f"pool_{member}"] - peers.network_lr * direction,
        f"pool_{member}_first": moments.first,
        f"pool_{member}_second": moments.second,
        **_kept_statistics(model, member),
    }


def export_labels(task: Task, buffer: TeacherBuffer, state: PeerState, at: Progress) -> Generator[Event, None, Tensor]:
    """The learned labels as probabilities `(N, K)`."""
    yield from ()
    return probabilities_of(state.carried["targets"])


FREPO = Method(
    name="frepo",
    init_state=immediate(initial_state),
    restore_state=restore_state,
    make_step=stepping(propose),
    export_labels=export_labels,
    reads=(
        "distill.init", "distill.lr_images", "distill.student_lr",
        "peers.batch_real", "peers.decay_end", "peers.label_margin", "peers.lr_end", "peers.mirror",
        "peers.network_batch", "peers.network_lr", "peers.pool", "peers.pool_steps", "peers.ridge",
    ),
)  # fmt: skip
