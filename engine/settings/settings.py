"""The settings of a run: all sections together, and what follows from them."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from engine.settings.affects import THE_RUN, Affects, Section
from engine.settings.decoders import DECODERS
from engine.settings.methods import MethodTraits, method_traits
from engine.settings.schema import (
    AugmentSettings,
    ComputeSettings,
    DatasetSettings,
    DistillSettings,
    EvaluateSettings,
    LabelSettings,
    NetworkSettings,
    PeerSettings,
    TeacherSettings,
)


class Settings(Section):
    """All settings of a run; a contradiction between two of them is an error that says which, and what to change."""

    dataset: DatasetSettings = DatasetSettings()
    network: NetworkSettings = NetworkSettings()
    teachers: TeacherSettings = TeacherSettings()
    augment: AugmentSettings = AugmentSettings()
    distill: DistillSettings = DistillSettings()
    peers: PeerSettings = PeerSettings()
    labels: LabelSettings = LabelSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compute: ComputeSettings = ComputeSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63), Affects(teachers="seed", distilled="seed", random="seed")] = 0
    """Seed of every random draw."""
    profile: Annotated[str | None, THE_RUN] = None
    """The publication whose protocol is used as printed, instead of presets: mtt, tesla-paper, tesla-code, datm, frepo,
    dm, dsa or dc (docs/published.md). none: without the one that tesla.toml names."""

    @property
    def needs_teachers(self) -> bool:
        """Whether teachers are trained for this run."""
        return self.traits.teachers

    @property
    def teacher_seed(self) -> int:
        """Seed of the teachers and of the held-out part."""
        return self.seed if self.teachers.seed is None else self.teachers.seed

    @property
    def draws_random(self) -> bool:
        """Whether every network of an evaluation is trained on its own draw of real images (the method random)."""
        return self.distill.method == "random" and self.labels.kind != "given"

    @property
    def traits(self) -> MethodTraits:
        """What is known about the method of this run."""
        return method_traits(self.distill.method)

    @property
    def reachable_epochs(self) -> int:
        """The last teacher epoch a distillation can read: the greatest start epoch plus M."""
        return self.distill.max_start_epoch - 1 + self.distill.teacher_epochs

    @property
    def target_epochs(self) -> range:
        """Every teacher epoch that an iteration can have for its target."""
        return range(self.distill.min_start_epoch + self.distill.teacher_epochs, self.reachable_epochs + 1)

    @property
    def trained_epochs(self) -> int:
        """Epochs a trajectory of this run is trained for."""
        whole = self.labels.kind == "last" or self.labels_of_teachers
        return self.teachers.epochs if whole else self.reachable_epochs

    @property
    def labels_of_teachers(self) -> bool:
        """Whether learned labels start from all teachers."""
        return self.labels.kind == "learned" and self.labels.init == "teachers"

    @property
    def label_momentum(self) -> float:
        """Momentum of learned labels."""
        return self.distill.momentum if self.labels.momentum is None else self.labels.momentum

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_consistent(self)
        return self


def _check_consistent(settings: Settings) -> None:
    """Check what the range of a single setting cannot.

    Raises:
        ValueError: two settings contradict each other.
    """
    distill = settings.distill
    if settings.needs_teachers:
        _check_reach(settings)
        _check_starts(distill)
    elif distill.init == "correct" and settings.traits.iterates:
        raise ValueError(
            f"distill.init = correct needs a teacher; distill.method = {distill.method} trains none. Set "
            "distill.init = real, noise or kmeans."
        )
    if settings.evaluate.other_networks_lr == "tuned" and settings.dataset.holdout == 0:
        raise ValueError(
            "evaluate.other_networks_lr = tuned chooses rates on held-out images; dataset.holdout = 0 holds none out. "
            "Set evaluate.other_networks_lr = same, or dataset.holdout when you make the workspace."
        )
    if settings.peers.lr_end < 1 and settings.peers.decay_end is None:
        raise ValueError(
            f"peers.lr_end = {settings.peers.lr_end:g} lets the learning rate fall; set peers.decay_end to the "
            "iteration at which it has."
        )
    if settings.traits.whole_gradient and distill.gradient == "paper":
        raise ValueError(
            f"distill.gradient = paper is TESLA's eq. 6; distill.method = {distill.method} uses the whole gradient. "
            "Set exact or unrolled (the same numbers), or distill.method = tesla."
        )
    if settings.compute.device == "mps" and settings.compute.dtype == "float64":
        raise ValueError(
            "compute.dtype = float64 does not exist on compute.device = mps. Set float32, or compute.device = cpu."
        )
    _check_decoder(settings)
    if settings.dataset.name == "folder" and settings.dataset.path is None:
        raise ValueError("dataset.name = folder needs dataset.path, the class-per-folder tree.")


def _check_decoder(settings: Settings) -> None:
    distill = settings.distill
    if distill.decoder not in DECODERS:
        raise ValueError(f"distill.decoder = {distill.decoder} does not exist. Set one of {', '.join(DECODERS)}.")
    if distill.formation == 1 and distill.decoder == "formation":
        return
    if distill.formation > 1 and distill.decoder != "formation":
        raise ValueError(
            f"distill.formation = {distill.formation} is for distill.decoder = formation; {distill.decoder} decodes in "
            "its own way. Set distill.formation = 1."
        )
    what = (
        f"distill.formation = {distill.formation}" if distill.formation > 1 else f"distill.decoder = {distill.decoder}"
    )
    off = "distill.formation = 1" if distill.formation > 1 else "distill.decoder = formation"
    if not (settings.needs_teachers or distill.method == "random" or settings.labels.kind == "given"):
        raise ValueError(
            f"{what} is for methods that match trajectories, and for random; distill.method = {distill.method} stores "
            f"whole images. Set {off}."
        )
    if settings.labels.kind in ("target", "last"):
        raise ValueError(
            f"{what} needs labels that are stored with the images; labels.kind = {settings.labels.kind} are a "
            "teacher's for each image it sees. Set labels.kind = hard or learned."
        )


def _check_reach(settings: Settings) -> None:
    """Teachers are long enough for what is read of them."""
    distill, epochs = settings.distill, settings.teachers.epochs
    if epochs < settings.reachable_epochs:
        raise ValueError(
            f"teachers.epochs = {epochs} is too short: distill.max_start_epoch = {distill.max_start_epoch} and "
            f"distill.teacher_epochs = {distill.teacher_epochs} read up to epoch {settings.reachable_epochs}. Raise "
            "teachers.epochs or lower one of the two."
        )


def _check_starts(distill: DistillSettings) -> None:
    """The range of start epochs, and the curriculum in it."""
    least, most, first = distill.min_start_epoch, distill.max_start_epoch, distill.current_max_start_epoch
    if least >= most:
        raise ValueError(
            f"distill.min_start_epoch = {least} leaves no start epoch below distill.max_start_epoch = {most}. "
            f"Lower one or raise the other: start epochs are drawn from min_start_epoch .. max_start_epoch - 1."
        )
    if first == "max":
        return
    if first != "half" and not least < first <= most:
        raise ValueError(
            f"distill.current_max_start_epoch = {first} must be above distill.min_start_epoch = {least} and at "
            f"most distill.max_start_epoch = {most}: the curriculum starts with start epochs from min_start_epoch "
            ".. current_max_start_epoch - 1 (max: no curriculum)."
        )
    if distill.expansion_end is None:
        raise ValueError(
            f"distill.current_max_start_epoch = {first} starts a curriculum; set distill.expansion_end to "
            "the iteration at which it reaches distill.max_start_epoch."
        )
