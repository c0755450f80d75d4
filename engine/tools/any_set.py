"""Evaluating any small set with any network on the real images of a workspace, as a function of Python."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import UsageError
from engine.events import Event
from engine.matching.arguments import SUM
from engine.networks.dropout import count_dropout
from engine.networks.flat import flatten_parameters
from engine.runs.workspace import Workspace
from engine.runtime.out_of_memory import is_out_of_memory
from engine.runtime.rng import forked_global_rng
from engine.runtime.transfer import module_to_device
from engine.session.open_task import open_finished
from engine.settings import Settings
from engine.training.evaluation import evaluate_distilled
from engine.training.task import Task
from engine.training.training_set import SmallSet

NetworkFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Accuracy:
    """What networks reached that were trained on a set; all values 0..1."""

    mean: float
    std: float
    """Sample standard deviation over networks (n - 1); 0 for one network."""
    accuracies: tuple[float, ...]
    images: int
    """Real images they were measured on."""
    guessing: float
    """Accuracy of always answering the most frequent class."""


class AnySet(NamedTuple):
    """What a caller gives, not checked yet."""

    images: Tensor
    """`(N, C, H, W)`, as networks see them."""
    labels: Tensor
    """`(N, K)` probabilities, or `(N,)` class numbers."""
    student_lr: object
    """A positive number."""


def evaluating(
    workspace: Workspace, settings: Settings, given: AnySet,
    network: str | NetworkFactory | None, repeats: int | None, split: str,
) -> Generator[Event, None, Accuracy]:  # fmt: skip
    """Train networks on a set and measure them; the arguments are those of `engine.evaluate`. Use as `yield from`.

    Raises:
        UsageError: names the argument that does not fit.
    """
    task, _ = yield from open_finished(workspace, settings)
    name = network if isinstance(network, str) else task.network_name
    if isinstance(network, nn.Module):
        raise UsageError(
            "network is a module, but every repeat trains a new one.",
            "Give a function that makes it, such as lambda: Net().",
        )
    if not (network is None or isinstance(network, str) or callable(network)):
        raise UsageError(f"network is {network!r}; give a name, or a function that makes a module.")
    if network is not None and not isinstance(network, str):
        name = getattr(network, "__name__", "network")
        task = _WithNetwork(**vars(task), made=(name, network))
    small = SmallSet(*_checked(task, given.images, given.labels), _rate(given.student_lr))
    if split not in ("test", "holdout"):
        raise UsageError(f"split is {split!r}; it must be 'test' or 'holdout'.")
    if split == "holdout" and len(task.holdout) == 0:
        raise UsageError("split: this workspace holds nothing out.", "Set dataset.holdout, or use split='test'.")
    repeats = settings.evaluate.repeats if repeats is None else repeats
    if not isinstance(repeats, Integral) or repeats < 1:
        raise UsageError(f"repeats is {repeats!r}; it must be a whole number, 1 or more.")
    _check_network(task, name, small.images)
    done = yield from evaluate_distilled(task, small, iteration=0, split=split, network=name, repeats=int(repeats))
    return Accuracy(
        done.mean, done.std, tuple(done.accuracies), done.images, done.guessing or 0.0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class _WithNetwork(Task):
    """A task that knows one more network, by the name of the function that makes it."""

    made: tuple[str, NetworkFactory]

    def fresh_network(self, seed: int, name: str | None = None) -> nn.Module:
        if name != self.made[0]:
            return super().fresh_network(seed, name)
        with forked_global_rng(seed):
            model = self.made[1]()
        if not isinstance(model, nn.Module):
            raise UsageError(f"network: {name}() returned {type(model).__name__}, not a torch.nn.Module.")
        count_dropout(model, seed)
        return module_to_device(model, self.device, self.dtype)


def _checked(task: Task, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels on the device, as probabilities.

    Raises:
        UsageError: names the argument, what it is, and what it should be.
    """
    for what, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise UsageError(f"{what} is a {type(value).__name__}; it must be a tensor.")
        if value.layout != torch.strided or value.is_meta:
            raise UsageError(f"{what} is sparse, or without numbers; it must be an ordinary tensor.")
    shape = ("N", *task.image_shape)
    if images.ndim != 4 or images.shape[1:] != task.image_shape or not len(images):
        raise UsageError(f"images is {tuple(images.shape)}; this dataset needs ({', '.join(map(str, shape))}).")
    if not images.is_floating_point():
        raise UsageError(
            f"images is {images.dtype}, but networks see normalised images.",
            "Use DistilledSet.images, or normalise with the dataset's mean and standard deviation.",
        )
    if labels.ndim and len(labels) != len(images):
        raise UsageError(f"There are {len(images)} images and {len(labels)} labels.")
    if labels.ndim == 1 and not labels.is_floating_point():
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= task.classes:
            wrong = least if least < 0 else most
            raise UsageError(f"labels has class {wrong}; there are {task.classes} classes, from 0.")
        labels = F.one_hot(labels.long(), task.classes)
    if labels.ndim != 2 or labels.shape[1] != task.classes:
        raise UsageError(
            f"labels is {tuple(labels.shape)}; give (N, {task.classes}) probabilities or (N,) class numbers."
        )
    # A copy: what was made in inference mode has no gradient.
    images, labels = (values.detach().clone().to(task.device, task.dtype) for values in (images, labels))
    if not (images.isfinite().all() and labels.isfinite().all()):
        raise UsageError("images or labels have values that are not finite.")
    if labels.min() < 0 or (labels.sum(dim=1) - 1).abs().max() > SUM:
        raise UsageError(
            "labels are not probabilities: each row must be positive and sum to 1.",
            "Logits become probabilities with labels.softmax(dim=1).",
        )
    return images, labels


def _rate(student_lr: object) -> float:
    try:
        rate = float(student_lr)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UsageError(f"student_lr is {student_lr!r}; it must be a positive number.")
    return rate


def _check_network(task: Task, name: str, images: Tensor) -> None:
    """Refuse a network that does not fit, before one is trained."""
    network = task.fresh_network(0, name).eval()
    if network is task.fresh_network(0, name):
        raise UsageError(
            f"network: {name} gives the same module again, which has been trained by the repeat before.",
            "Give a function that makes a new one, such as lambda: Net().",
        )
    with torch.no_grad():
        try:
            flatten_parameters(network)
            found = network(images[:1])
        except Exception as error:  # a user's class decides what it raises
            if is_out_of_memory(error):
                raise
            said = f"network: {name} cannot take one image {tuple(images[:1].shape)}: {str(error).rstrip('.')}."
            raise UsageError(said) from error
    if not isinstance(found, Tensor) or found.shape != (1, task.classes):
        what = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise UsageError(f"network: {name} gives {what} for one image; it must give logits (1, {task.classes}).")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"network: all parameters of {name} have requires_grad = False, so there is nothing to train.")
