"""Labels of the synthetic images: `hard`, `target` (SLA), `last`, `learned`.

`target` labels are the teacher's own outputs: softmax(f(theta*; x)) on the un-augmented images, detached. The teacher
changes from iteration to iteration, so the exported labels are defined separately: see `mean_labels`.
"""

from collections.abc import Callable, Generator, Iterable

import torch
from torch import Tensor

from engine.networks.dropout import without_dropout
from engine.networks.flat import FlatNetwork
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.runtime.generators import map_events
from engine.settings import Settings

LOGIT = 10.0
"""Initial logit of an image's own class for learned labels, 0 elsewhere (TESLA, App. A.7)."""

CHUNK = 512
"""Images per forward pass when labels are assigned, at most."""

CHUNK_PIXELS = 2**19
"""Pixels (B x H x W) per forward pass, at most: larger images go in smaller chunks, so that labels take less memory
than a matching step. A constant, not the free memory: networks with batch statistics see the chunk."""


def class_index(classes: int, ipc: int, device: torch.device | None = None) -> Tensor:
    """Class of every synthetic image, `(classes * ipc,)`: images are ordered by class."""
    return torch.arange(classes, device=device).repeat_interleave(ipc)


def hard_labels(index: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot probabilities `(N, K)`."""
    # Not `one_hot`, which makes a table of integers, twice this size, first.
    table = torch.zeros((len(index), classes), dtype=dtype, device=index.device)
    return table.scatter_(1, index[:, None], 1.0)


def initial_logits(index: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Logits `(N, K)` that learned labels start from."""
    return hard_labels(index, classes, dtype) * LOGIT


def labels_from_teachers(settings: Settings) -> bool:
    """Whether the labels of a finished set are what its teachers say, so that they are needed to measure or export."""
    return settings.needs_teachers and settings.labels.kind in ("target", "last")


def are_raw(settings: Settings) -> bool:
    """Whether labels are learned as probabilities, without a softmax."""
    return settings.labels.kind == "learned" and settings.labels.parameters == "probabilities"


def nearest_probabilities(values: Tensor) -> Tensor:
    """The probabilities `(N, K)` nearest to any numbers `(N, K)`, row by row (Duchi et al. 2008, Fig. 1).

    A row with a NaN or +inf has none: it stays not finite, for the check of the iteration's numbers to find.
    """
    ordered = values.sort(dim=1, descending=True).values
    counts = torch.arange(1, values.shape[1] + 1, device=values.device)
    # PyTorch promises no order of additions for another device's cumsum.
    sums = ordered.cumsum(dim=1) if ordered.device.type == "cpu" else running_sums(ordered)
    thresholds = (sums - 1) / counts
    # Nothing is above a NaN: without the bound such a row would ask for index -1.
    last = ((ordered > thresholds).sum(dim=1, keepdim=True) - 1).clamp_(min=0)
    return (values - thresholds.gather(1, last)).clamp_(min=0)


def running_sums(rows: Tensor) -> Tensor:
    """Sums `(N, K)` of each row up to each column, added in a fixed order: over distances that double."""
    distance = 1
    while distance < rows.shape[1]:
        rows = torch.cat([rows[:, :distance], rows[:, distance:] + rows[:, :-distance]], dim=1)
        distance *= 2
    return rows


@torch.no_grad()
def labelling(
    network: FlatNetwork, theta: Tensor, images: Tensor, ranks: Ranks = ALONE, *, logits: bool = False
) -> Generator[int, None, Tensor]:
    """Probabilities `(N, K)` that the network with parameters `theta` gives `images`, in chunks; ranks divide the work.

    With `logits`, the values before the softmax. Dropout is off.

    Networks with running statistics keep training mode: snapshots hold parameters only, so a snapshot's own
    statistics are those of the batch.

    Yields:
        The images of this rank that are done, after every chunk.
    """
    mine = images[ranks.part(len(images))]
    size = _chunk(images)

    def answers(part: Tensor) -> Tensor:
        with without_dropout(network.model):
            found = network(theta, part)
        return found if logits else found.softmax(dim=1)

    first = answers(mine[:size])
    # Written in place: joining the parts would hold every label twice.
    labels = first.new_empty((len(mine), first.shape[1]))
    labels[:size] = first
    del first
    for begin in range(size, len(mine), size):
        yield begin
        labels[begin : begin + size] = answers(mine[begin : begin + size])
    yield len(mine)
    return ranks.whole(labels, len(images))


def _chunk(images: Tensor) -> int:
    """Images `(N, C, H, W)` per forward pass."""
    return max(1, min(CHUNK, CHUNK_PIXELS // images[0, 0].numel()))


def _after(count: int, images: int) -> Callable[[int], float]:
    """Images that one snapshot has labelled, as snapshots, after `count` whole ones."""
    return lambda done: count + done / images


def mean_labels(
    network: FlatNetwork, thetas: Iterable[Tensor], images: Tensor, ranks: Ranks = ALONE
) -> Generator[float, None, Tensor]:
    """Mean of the teachers' probabilities `(N, K)` over many snapshots.

    A function of the images and the buffer alone: it does not depend on which teacher the last iteration drew. Ranks
    divide the work where there is a chunk for each. Chunks stay whole, so that every label has the bits of one process.

    Yields:
        The snapshots that are done, with fractions.

    Raises:
        ValueError: no snapshots.
    """
    total, count, size = torch.zeros(()), 0, _chunk(images)
    chunks = -(-len(images) // size)
    divided = chunks >= ranks.size
    part = ranks.part(chunks) if divided else slice(0, chunks)
    mine = images[part.start * size : part.stop * size]
    for theta in thetas:
        labels = yield from map_events(labelling(network, theta.to(images), mine), _after(count, len(mine)))
        total = labels if count == 0 else total.add_(labels)
        count += 1
    if count == 0:
        raise ValueError("mean_labels needs at least one snapshot.")
    total.div_(count)
    return ranks.whole(total, len(images), first=part.start * size) if divided else total
