"""`dc`, dataset condensation by gradient matching (Zhao, Mopuri & Bilen, ICLR 2021, Alg. 1), and the loop of `dsa`.

Every iteration takes a new random network. In each of its outer loops the images of every class follow the gradient of

    D(g_real, g_synthetic) = sum over layers and output nodes of  1 - <a, b> / (|a| |b| + 1e-6)

between the network's loss gradients on a batch of real and on the synthetic images of the class (eq. 9 and 10 of the
paper); then the network is trained on the synthetic images for the inner loops' epochs. Vectors (biases, affine norms)
are left out of D, as in the published code. Recalled from there: 256 real images a class, network lr 0.01 without
momentum, batches of 256 in the inner loops, none after the last outer loop.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.methods.dm import initial_state
from engine.methods.method import Method, immediate
from engine.methods.peer_loop import Proposal, momentum_step, stepping
from engine.methods.peer_state import hard, restore_state
from engine.methods.siamese import Augmentation, plain, real_of_class
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.transfer import to_device
from engine.training.labels import class_index
from engine.training.sgd import EagerTrainer, SgdRule
from engine.training.task import Task

BATCH = 256
"""Synthetic images per step of the inner loops."""
EPSILON = 1e-6

Draw = Callable[..., Augmentation]
"""`(task, purpose, *counters)`: the augmentation that a real and a synthetic batch share."""
DrawBatch = Callable[..., Augmentation]
"""`(task, count, *counters)`: the augmentation of a batch in an inner loop."""


def gradient_distance(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """D of two gradients, parameter by parameter in their own shapes `(outputs, ...)`; a scalar."""
    parts = []
    for a, b in zip(real, synthetic, strict=True):
        if a.ndim < 2:
            continue
        rows, columns = a.flatten(1), b.flatten(1)
        norms = rows.norm(dim=1) * columns.norm(dim=1)
        parts.append((1 - (rows * columns).sum(dim=1) / (norms + EPSILON)).sum())
    return torch.stack(parts).sum()


def propose(
    task: Task, carried: dict[str, Tensor], iteration: int, *, purpose: str, draw: Draw, draw_batch: DrawBatch
) -> Generator[float, None, Proposal]:
    """All outer loops of one random network. See `Propose`.

    Args:
        task: the task.
        carried: images and their velocity.
        iteration: how many were before.
        purpose: names the draws.
        draw: the augmentation of a pair of batches.
        draw_batch: the augmentation of a batch that the network is trained on.
    """
    peers, ipc = task.settings.peers, task.settings.distill.ipc
    model = task.fresh_network(counted_seed(task.settings.seed, f"{purpose}-network", iteration)).train()
    parameters = list(model.parameters())
    learner = EagerTrainer(model, SgdRule())
    classes = class_index(task.classes, ipc).to(task.device)
    images, velocity = carried["images"], carried["velocity_images"]
    loss = torch.zeros((), dtype=task.dtype, device=task.device)
    norm = torch.zeros_like(loss)
    steps = peers.outer_loops * task.classes + (peers.outer_loops - 1) * peers.inner_loops
    done = 0
    for outer in range(peers.outer_loops):
        gradient = torch.empty_like(images)
        for k in range(task.classes):
            rows = slice(k * ipc, (k + 1) * ipc)
            augment = draw(task, purpose, iteration, outer, k)
            real = augment(real_of_class(task, k, purpose, iteration, outer))
            synthetic = images[rows].detach().requires_grad_()
            with torch.enable_grad():
                target = classes[rows][:1].expand(len(real))
                real_gradient = torch.autograd.grad(F.cross_entropy(model(real), target), parameters)
                own = F.cross_entropy(model(augment(synthetic)), classes[rows])
                own_gradient = torch.autograd.grad(own, parameters, create_graph=True)
                distance = gradient_distance(real_gradient, own_gradient)
                (gradient[rows],) = torch.autograd.grad(distance, synthetic)
            loss += distance.detach()
            done += 1
            yield done / steps
        images, velocity = momentum_step(images, velocity, gradient, task)
        norm += gradient.norm()
        for inner in range(peers.inner_loops if outer + 1 < peers.outer_loops else 0):
            _train_epoch(task, learner, images, classes, purpose, draw_batch, iteration, outer, inner)
            done += 1
            yield done / steps
    count = peers.outer_loops
    return Proposal({"images": images, "velocity_images": velocity}, loss / (count * task.classes), norm / count)


def _train_epoch(
    task: Task, learner: EagerTrainer, images: Tensor, classes: Tensor, purpose: str, draw_batch: DrawBatch,
    *counters: int,
) -> None:  # fmt: skip
    generator = counted_generator(task.settings.seed, f"{purpose}-order", *counters)
    for number, index in enumerate(torch.randperm(len(images), generator=generator).split(BATCH)):
        there = to_device(index, task.device)
        augment = draw_batch(task, len(index), *counters, number)
        with torch.enable_grad():
            learner.step(augment(images[there]), classes[there], task.settings.peers.network_lr)


def _none(*arguments: object) -> Augmentation:
    return plain


READS = (
    "distill.init", "distill.lr_images", "distill.momentum", "distill.student_lr",
    "peers.batch_real", "peers.outer_loops", "peers.inner_loops", "peers.network_lr",
)  # fmt: skip

DC = Method(
    name="dc",
    init_state=immediate(initial_state),
    restore_state=restore_state,
    make_step=stepping(partial(propose, purpose="dc", draw=_none, draw_batch=_none)),
    export_labels=immediate(hard),
    reads=READS,
)
