"""`dm`, distribution matching (Zhao & Bilen, "Dataset condensation with distribution matching", WACV 2023, Alg. 1).

For a new random network psi in every iteration, sum over the classes of

    || mean psi(A(real)) - mean psi(A(synthetic)) ||^2

with the embedding psi before the last layer, and one siamese augmentation A for each class. Networks are never
trained. Recalled from the published code: 256 real images a class, SGD with lr 1 and momentum 0.5.

Networks with batch norm see one class at a time here; the published code feeds them all classes at once.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from engine.methods.method import Method, immediate
from engine.methods.peer_loop import Proposal, momentum_step, stepping
from engine.methods.peer_state import PeerState, fresh_state, hard, restore_state
from engine.methods.siamese import real_of_class, siamese
from engine.networks.features import Features
from engine.runtime.rng import counted_seed
from engine.training.real_images import initial_images
from engine.training.task import Task


def mean_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Squared distance of the means of two sets of features `(B, F)`, a scalar."""
    return (real.mean(dim=0) - synthetic.mean(dim=0)).square().sum()


def propose(task: Task, carried: dict[str, Tensor], iteration: int) -> Generator[float, None, Proposal]:
    """One update against a new random network, class by class. See `Propose`."""
    images = carried["images"]
    ipc = task.settings.distill.ipc
    model = task.fresh_network(counted_seed(task.settings.seed, "dm-network", iteration)).train().requires_grad_(False)
    embed = Features(model)
    gradient = torch.empty_like(images)
    loss = torch.zeros((), dtype=task.dtype, device=task.device)
    for k in range(task.classes):
        rows = slice(k * ipc, (k + 1) * ipc)
        augment = siamese(task, "dm", iteration, k)
        with torch.no_grad():
            real = embed(augment(real_of_class(task, k, "dm", iteration)))
        synthetic = images[rows].detach().requires_grad_()
        with torch.enable_grad():
            distance = mean_distance(real, embed(augment(synthetic)))
            (gradient[rows],) = torch.autograd.grad(distance, synthetic)
        loss += distance.detach()
        yield (k + 1) / task.classes
    stepped, velocity = momentum_step(images, carried["velocity_images"], gradient, task)
    return Proposal({"images": stepped, "velocity_images": velocity}, loss / task.classes, gradient.norm())


def initial_state(task: Task) -> PeerState:
    """First images and no velocity."""
    images = initial_images(task)
    return fresh_state(task, images, velocity_images=torch.zeros_like(images))


DM = Method(
    name="dm",
    init_state=immediate(initial_state),
    restore_state=restore_state,
    make_step=stepping(propose),
    export_labels=immediate(hard),
    reads=("distill.init", "distill.lr_images", "distill.momentum", "distill.student_lr", "peers.batch_real"),
)
