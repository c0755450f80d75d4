"""`frepo`, neural feature regression with pooling (Zhou, Nezhadarya & Ba, NeurIPS 2022, Alg. 1).

With features f of a network from a pool, S synthetic and T real images, the images and labels follow the gradient of

    1/2 mean_T || y_T - K_TS (K_SS + lambda tr(K_SS)/N I)^-1 y_S ||^2 ,   K_AB = f(A) f(B)^t

and the network then takes one step on the synthetic set. Networks of the pool are of different ages; one that has
taken `peers.pool_steps` steps is replaced by a new one.

Recalled from paper and published code: labels one-hot, centred and divided by sqrt(K / 10), learned with the images by
LAMB, lr 0.003; pool of 10, 100 steps, Adam with lr 3e-4 on the squared error; lambda 1e-6; 1024 real images. Not sure:
whether real images are augmented there; here they are not. Different here: the learning rate is constant (the paper
lets it fall over the iterations, which may be raised here), the network is that of the run (theirs is wider, with batch
norm), and labels are exported as probabilities, the nearest ones to what was learned.
"""

import math
from collections.abc import Generator

import torch
from torch import Tensor

from engine.events import Event, Progress
from engine.methods.adam import Moments, adam_direction, lamb_direction
from engine.methods.method import Method, immediate
from engine.methods.peer_loop import Proposal, stepping
from engine.methods.peer_state import PeerState, fresh_state, hard
from engine.methods.peer_state import restore_state as restored
from engine.networks.features import Features
from engine.networks.flat import flatten_parameters, load_parameters
from engine.runtime.rng import counted_generator, counted_seed
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


def centred(probabilities: Tensor) -> Tensor:
    """Regression targets `(N, K)` of class probabilities: (p - 1/K) / sqrt(K / 10)."""
    classes = probabilities.shape[1]
    return (probabilities - 1 / classes) / math.sqrt(classes / 10)


def probabilities_of(targets: Tensor) -> Tensor:
    """The probabilities `(N, K)` nearest to those of regression targets."""
    classes = targets.shape[1]
    return nearest_probabilities(targets * math.sqrt(classes / 10) + 1 / classes)


def initial_state(task: Task) -> PeerState:
    """First images, centred labels, and a pool of new networks."""
    images, targets = initial_images(task), centred(hard(task))
    carried = {"targets": targets}
    for name, tensor in (("images", images), ("targets", targets)):
        carried[f"first_{name}"] = torch.zeros_like(tensor)
        carried[f"second_{name}"] = torch.zeros_like(tensor)
    count = task.settings.peers.pool
    carried["pool_ages"] = torch.zeros(count, dtype=torch.int64)
    for member in range(count):
        carried.update(_new_network(task, member, 0))
    state = fresh_state(task, images, **carried)
    state.labels = probabilities_of(targets)
    return state


def restore_state(tensors: dict[str, Tensor], counters: dict[str, int], task: Task) -> PeerState:
    """The state in a checkpoint."""
    state = restored(tensors, counters, task)
    state.labels = probabilities_of(state.carried["targets"])
    return state


def _new_network(task: Task, member: int, iteration: int) -> dict[str, Tensor]:
    theta = flatten_parameters(task.fresh_network(counted_seed(task.settings.seed, "frepo-network", member, iteration)))
    zero = torch.zeros_like(theta)
    return {f"pool_{member}": theta, f"pool_{member}_first": zero, f"pool_{member}_second": zero.clone()}


def propose(task: Task, carried: dict[str, Tensor], iteration: int) -> Generator[float, None, Proposal]:
    """One update of images and labels against a network of the pool, and one step of that network. See `Propose`."""
    peers, settings = task.settings.peers, task.settings
    generator = counted_generator(settings.seed, "frepo", iteration)
    member = int(torch.randint(peers.pool, (), generator=generator))
    index = torch.randperm(len(task.train), generator=generator)[: peers.batch_real]
    model = task.fresh_network(0).train()
    load_parameters(model, carried[f"pool_{member}"])
    features = Features(model)
    with torch.no_grad():
        real = features(task.train.images.encoded(index))
        real_targets = centred(hard_labels(task.train.targets(index), task.classes, task.dtype))
    yield 0.5
    images = carried["images"].detach().requires_grad_()
    targets = carried["targets"].detach().requires_grad_()
    model.requires_grad_(False)
    with torch.enable_grad():
        loss, _ = regression_loss(features(images), targets, real, real_targets, peers.ridge)
        gradients = torch.autograd.grad(loss, (images, targets))
    changed: dict[str, Tensor] = {}
    for name, gradient in zip(("images", "targets"), gradients, strict=True):
        moments = Moments(carried[f"first_{name}"], carried[f"second_{name}"])
        direction, moments = lamb_direction(carried[name], gradient, moments, iteration + 1)
        changed[name] = carried[name] - settings.distill.lr_images * direction
        changed[f"first_{name}"], changed[f"second_{name}"] = moments
    yield 0.8
    model.requires_grad_(True)
    changed.update(_trained(task, model, carried, member, changed["images"], changed["targets"], iteration))
    labels = probabilities_of(changed["targets"])
    return Proposal(changed, loss.detach(), gradients[0].norm(), labels)


def _trained(
    task: Task, model: torch.nn.Module, carried: dict[str, Tensor], member: int,
    images: Tensor, targets: Tensor, iteration: int,
) -> dict[str, Tensor]:  # fmt: skip
    """The member of the pool after a step of Adam on the synthetic set, or the new network that takes its place."""
    ages = carried["pool_ages"].clone()
    ages[member] += 1
    age = int(ages[member])  # on the host
    if age >= task.settings.peers.pool_steps:
        ages[member] = 0
        return {"pool_ages": ages, **_new_network(task, member, iteration + 1)}
    with torch.enable_grad():
        loss = (model(images) - targets).square().mean()
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])
    moments = Moments(carried[f"pool_{member}_first"], carried[f"pool_{member}_second"])
    direction, moments = adam_direction(gradient, moments, age)
    return {
        "pool_ages": ages,
        f"pool_{member}": carried[f"pool_{member}"] - task.settings.peers.network_lr * direction,
        f"pool_{member}_first": moments.first,
        f"pool_{member}_second": moments.second,
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
        "peers.batch_real", "peers.network_lr", "peers.pool", "peers.pool_steps", "peers.ridge",
    ),
)  # fmt: skip
