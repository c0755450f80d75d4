"""Choosing or making small sets of images: the start of a distillation, and the random baseline."""

import torch
from torch import Tensor

from engine.errors import UsageError
from engine.runtime.rng import counted_generator, counted_seed, forked_global_rng
from engine.settings import Settings
from engine.training.task import Task

KMEANS_ELEMENTS = 2**27
"""Images x centres x pixels one k-means may compare at once (half a gigabyte of float32)."""

CHUNK = 1024
"""Real images encoded at once."""


def starts_from_real(settings: Settings) -> bool:
    """Whether a run draws `distill.ipc` real images of every class, to start from or to choose."""
    return not settings.traits.iterates or settings.distill.init != "noise"


def check_ipc(task: Task) -> None:
    """Check that every class has the real images to draw: `distill.ipc` times the views of a stored image.

    Raises:
        UsageError: names the smallest class.
    """
    ipc, views = task.settings.distill.ipc, task.decoder.views
    sizes = [len(members) for members in task.class_members]
    smallest = min(range(len(sizes)), key=sizes.__getitem__)
    if sizes[smallest] < ipc * views:
        each = f" x {views} images each (distill.formation)" if views > 1 else ""
        raise UsageError(
            f"distill.ipc = {ipc}{each} is more than the smallest class has: {task.dataset.classes[smallest]!r} has "
            f"{sizes[smallest]} training images (after the held-out part).",
            _other_ways(task.settings, sizes[smallest], views),
        )


def _other_ways(settings: Settings, most: int, views: int) -> str:
    """What to do where the smallest class has `most` images and a stored one takes `views`."""
    if most >= views:
        fewer = f"Set --ipc {most // views} or fewer"
    else:
        fewer = "Set a smaller distill.formation" if views > 1 and most else "Lower dataset.holdout"
    if settings.labels.kind == "given" or not starts_from_real(settings):  # only the baseline draws them
        return f"{fewer}, or leave the baseline out with --set evaluate.baseline=false."
    if settings.traits.iterates:
        return f"{fewer}, or start from noise without a baseline: distill.init = noise, evaluate.baseline = false."
    return f"{fewer}."


def random_real(task: Task, ipc: int, purpose: str, *counters: int) -> Tensor:
    """Indices `(K * ipc,)` into the training images: `ipc` of every class without repetition, ordered by class."""
    return torch.cat([order[:ipc] for order in random_orders(task, purpose, *counters)])


def random_orders(task: Task, purpose: str, *counters: int) -> list[Tensor]:
    """For each class the indices of its training images in a random order."""
    generator = counted_generator(task.settings.seed, purpose, *counters)
    return [members[torch.randperm(len(members), generator=generator)] for members in task.class_members]


def initial_images(task: Task) -> Tensor:
    """First synthetic images `(K * ipc, C, H, W)` in the input space, on the device, ordered by class.

    Raises:
        ValueError: `distill.init = correct`, which needs a teacher (`engine.methods.teacher_init`).
    """
    distill = task.settings.distill
    if distill.init == "correct":
        raise ValueError("distill.init = correct needs a teacher: see begun_state.")
    if distill.init == "noise":
        generator = counted_generator(task.settings.seed, "init-noise")
        shape = (task.classes * distill.ipc, *task.image_shape)
        return torch.randn(shape, generator=generator).to(task.device, task.dtype)
    count = distill.ipc * task.decoder.views
    index = nearest_to_centres(task, count) if distill.init == "kmeans" else random_real(task, count, "init-real")
    return packed_images(task, index)


def packed_images(task: Task, index: Tensor) -> Tensor:
    """Stored images `(N, C, H, W)` from real ones by index `(N * views,)`: with `distill.formation` several in one."""
    return task.decoder.pack(real_images(task, index))


def real_images(task: Task, index: Tensor) -> Tensor:
    """Training images `(N, C, H, W)` by index in the input space, on the device, in separate memory.

    Encoding makes copies: in chunks, so that 50,000 images are held once and not four times.
    """
    images = torch.empty((len(index), *task.image_shape), dtype=task.dtype, device=task.device)
    for begin in range(0, len(index), CHUNK):
        images[begin : begin + CHUNK] = task.train.images.encoded(index[begin : begin + CHUNK])
    return images


def nearest_to_centres(task: Task, count: int) -> Tensor:
    """Indices `(K * count,)` of the training images nearest to `count` k-means centres of each class, by class."""
    return torch.cat([_nearest_to_centres(task, k, count) for k in range(task.classes)])


def _nearest_to_centres(task: Task, k: int, ipc: int) -> Tensor:
    """For each k-means centre of a class, in the input space, its nearest image; no image twice."""
    from kornia.contrib import KMeans

    members = task.class_members[k]
    pixels = task.dataset.channels * task.dataset.resolution**2
    generator = counted_generator(task.settings.seed, "init-kmeans", k)
    most = max(ipc, KMEANS_ELEMENTS // (ipc * pixels))
    members = members[torch.randperm(len(members), generator=generator)[:most]]
    # On the CPU, for the same choice on every device: Kornia moves an empty cluster with a draw from the global
    # generator of the points' device.
    points = task.train.images.encoded(members).flatten(1).cpu()
    with forked_global_rng(counted_seed(task.settings.seed, "init-kmeans-empty", k)):
        kmeans = KMeans(ipc, points[:ipc].clone(), tolerance=1e-3, max_iterations=30)
        kmeans.fit(points)
    distances = torch.cdist(kmeans.cluster_centers, points)
    chosen: list[Tensor] = []
    for centre in range(ipc):
        nearest = distances[centre].argmin()
        distances[:, nearest] = torch.inf
        chosen.append(nearest)
    return members[torch.stack(chosen)]
