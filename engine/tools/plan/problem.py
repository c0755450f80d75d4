"""A run in numbers: what every sum of a plan starts from."""

from dataclasses import dataclass
from typing import Any

from engine.data.decoder import decoder_of
from engine.matching.parameter_store import Store, resolve_store
from engine.settings import Settings
from engine.tools.plan.facts import Facts
from engine.tools.plan.report import Where

SOFT = ("target", "last")
"""Kinds of labels that teachers assign in every iteration."""

Found = dict[str, Any]
"""A measurement."""


@dataclass(frozen=True)
class Problem:
    """A run in numbers."""

    settings: Settings
    facts: Facts
    device: str
    """Type of the device."""
    parameters: int
    """P."""
    graph_bytes: int
    """Of one first-order graph over a whole batch; 0 for methods that match no trajectories."""
    state_bytes: int = 0
    """Of a checkpoint, where that is measured."""

    @property
    def images(self) -> int:
        """N."""
        return self.facts.classes * self.settings.distill.ipc

    @property
    def views(self) -> int:
        """Images that each decodes to."""
        return views_of(self.settings, self.facts.channels, self.facts.resolution)

    @property
    def batch(self) -> int:
        """B."""
        return matching_batch(self.settings, self.images, self.views)

    @property
    def element(self) -> int:
        """Bytes of a number."""
        return 8 if self.settings.compute.dtype == "float64" else 4

    @property
    def image_bytes(self) -> int:
        """Bytes of all synthetic images, N C H W numbers."""
        return self.images * self.facts.values * self.element

    @property
    def label_bytes(self) -> int:
        """Bytes of all labels, N K numbers."""
        return self.images * self.facts.classes * self.element

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint: as measured; else images and their velocity, and the same of learned labels."""
        if self.state_bytes:
            return self.state_bytes
        learned = 2 * self.label_bytes if self.settings.labels.kind == "learned" else 0
        return 2 * self.image_bytes + learned

    @property
    def host(self) -> Where:
        """Whose memory the program takes: the device's own where it is that of the host."""
        return "device" if self.device in ("cpu", "mps") else "host"

    @property
    def soft(self) -> bool:
        """Whether teachers assign the labels in every iteration."""
        return self.settings.needs_teachers and self.settings.labels.kind in SOFT

    @property
    def trained_on(self) -> int:
        """Images that evaluated networks are trained on."""
        return self.facts.train if self.settings.traits.all_images else self.images * self.views


def views_of(settings: Settings, channels: int, resolution: int) -> int:
    """Images that a stored one decodes to."""
    return decoder_of(settings.distill, (channels, resolution, resolution)).views


def matching_batch(settings: Settings, images: int, views: int) -> int:
    """Images in a matching step, where `images` are stored; see `Task.matching_batch`."""
    size = settings.distill.batch
    return images if size == "full" else min(size, images * views)


NEAR = 16
"""Times the measured size up to which scaling up is reliable."""


def step_note(size: int, whole: int) -> str:
    """How far to trust what was measured at a smaller batch; empty if it was not."""
    if size >= whole:
        return ""
    off = "20 %" if size * NEAR >= whole else "50 %"
    return f"measured at {size:,} of {whole:,} images (± {off})"


def step_units(gradient: str, steps: int) -> int:
    """Forward passes over a batch that the matching steps of an iteration cost.

    A first-order step costs 3, the derivatives 9 with a Hessian-vector product, 7 without, and 6 at the first step of
    `exact`, which needs neither it nor g (docs/performance.md).
    """
    if gradient == "exact":
        return 12 * steps - 3
    return (10 if gradient == "paper" else 9) * steps


def epochs_of(settings: Settings) -> int:
    """Epochs of an evaluation of the run's own set."""
    return settings.evaluate.whole_epochs if settings.traits.all_images else settings.evaluate.epochs


def kept_vectors(problem: Problem, store: Store, steps: int) -> tuple[str, int]:
    """Where the student's parameters are kept over `steps` steps, and how many vectors; empty for none."""
    if not problem.settings.needs_teachers or problem.settings.distill.gradient != "exact":
        return "", 0
    return resolve_store(
        store, steps, problem.parameters * problem.element, problem.graph_bytes, problem.device
    )  # fmt: skip


def used_bytes(problem: Problem, found: Found) -> int:
    """Bytes of the device that a measured stage took."""
    return int(found["host"] if problem.device == "cpu" else found["device"])
