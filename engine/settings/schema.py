"""Every setting with its unit, range and meaning. The docstring under a field is its help text everywhere.

Names are public: they are spelled the same in tesla.toml, on the command line (`--set distill.steps=20`) and on screen.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.settings.datasets import own_datasets
from engine.settings.methods import MethodTraits, method_traits, method_words, own_methods
from engine.settings.plugins import NAME

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
"""What is counted. The bound keeps every product of two of them an integer that PyTorch can hold."""
SmallInt = Annotated[int, Field(ge=1, le=2**16)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]

MethodName = Annotated[str, Field(pattern=rf"^{NAME.pattern}$", json_schema_extra={"enum": list(own_methods())})]
"""A name alone; `check_method` refuses one that does not exist. A run whose plugin is gone can still be seen."""


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values never change after validation, `"5"` is not 5."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)


class DatasetSettings(Section):
    """The real dataset."""

    name: Annotated[
        str, Field(min_length=1, description=f"{', '.join(own_datasets())} (see `path`), or a hub id owner/name.")
    ] = "digits"
    path: str | None = None
    """Local files instead of a download: a class-per-folder tree, idx files of (Fashion-)MNIST, or Parquet files."""
    resolution: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Side of the square images, pixels. Unset: the images' own size (32 where sizes differ)."""
    zca: bool = False
    """ZCA whitening as the network's input space instead of per-channel mean/std normalisation."""
    holdout: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the training images kept from the teachers, to select the best checkpoint on. 0: ship the last."""
    on_bad_file: Literal["error", "skip"] = "error"
    """What a corrupt or non-image file in a folder dataset does."""


class NetworkSettings(Section):
    """The network of teachers and students."""

    name: Annotated[str, Field(min_length=1)] = "convnet"
    """convnet, resnet18, vit, or an import path `package.module:callable`."""
    width: SmallInt | None = None
    """Channels of the network's blocks. Unset: the network's own default (ConvNet: 128)."""
    depth: SmallInt | None = None
    """Number of blocks. Unset: from the resolution (ConvNet: halve down to 4 pixels)."""


class TeacherSettings(Section):
    """Teacher trajectories, trained on the real data by plain SGD."""

    count: PositiveInt = 100
    """Trajectories in the buffer."""
    epochs: PositiveInt = 50
    """Epochs of a whole trajectory; only those a distillation can reach are trained."""
    lr: PositiveFloat = 0.01
    """Learning rate (no momentum, no weight decay, no schedule)."""
    batch: PositiveInt = 256
    """Images per step."""
    buffer: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """Name of a teacher buffer that `tesla import-buffers` made, to use instead of training. Unset: train them."""


class AugmentSettings(Section):
    """Differentiable augmentation (DSA) of teachers, matching and evaluation."""

    ops: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = (
        "color", "crop", "cutout", "flip", "scale", "rotate",
    )  # fmt: skip
    """Operations one of which is drawn for each batch. An empty list switches augmentation off."""


class DistillSettings(Section):
    """How the synthetic images are made."""

    method: Annotated[MethodName, Field(description=method_words())] = "tesla"
    ipc: PositiveInt = 1
    """Synthetic images per class."""
    iterations: Annotated[int, Field(ge=0)] = 5000
    """Updates of the synthetic images (dc, dsa, dm: random networks). May be raised on an existing run. Selections and
    whole make none."""
    steps: PositiveInt = 20
    """T, matching steps: student SGD steps per iteration."""
    teacher_epochs: PositiveInt = 2
    """M, teacher epochs between start and target."""
    min_start_epoch: Annotated[int, Field(ge=0, le=10**9)] = 0
    """Start epochs are drawn from min_start_epoch .. max_start_epoch - 1."""
    max_start_epoch: PositiveInt = 5
    """... so this is the first teacher epoch that no student starts from."""
    current_max_start_epoch: PositiveInt | Literal["max", "half"] = "max"
    """Curriculum (DATM): what max_start_epoch is at first; it grows linearly, rounded, to its own value. half: half of
    the range. max: no curriculum, the whole range from the first iteration."""
    expansion_end: PositiveInt | None = None
    """The iteration at which the curriculum has grown to the whole range. Unset: distill.iterations as they are when
    the run begins; raising them later goes on with the whole range."""
    batch: PositiveInt | Literal["full"] = "full"
    """Synthetic images per matching step, or `full`."""
    gradient: Literal["exact", "paper", "unrolled"] = "exact"
    """How dL/dimages is computed: exact, paper (TESLA's eq. 6) or unrolled (MTT; memory grows with steps)."""
    store: Literal["auto", "device", "host", "checkpoint"] = "auto"
    """Where the exact gradient keeps the student's parameters of every step."""
    lr_images: PositiveFloat = 100.0
    """Learning rate of the images, for the gradient of the whole loss (published TESLA rates are for half of it)."""
    lr_student_lr: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-5
    """Learning rate of student_lr."""
    student_lr: PositiveFloat = 0.01
    """Initial student step size, learned from there."""
    init: Literal["real", "noise", "kmeans", "correct"] = "real"
    """First images: random real ones, noise, the real images nearest to each class's k-means centres, or (DATM) random
    real ones that a teacher classifies correctly: the first trajectory's, at the last epoch that is read."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Momentum of the images' and student_lr's updates."""
    max_loss: PositiveFloat = 10.0
    """An iteration whose matching loss is above this is skipped (1: no nearer to the target than at the start)."""
    max_jump: PositiveFloat = 1000.0
    """... or whose loss or image gradient is more than this many times their mean over the last 20 iterations."""
    max_pixel: PositiveFloat = 1000.0
    """... or that would give a pixel beyond this, in the network's input space, where real ones are about 1."""
    checkpoint_every: PositiveInt = 100
    """Iterations between checkpoints (one is also saved at every evaluation and stop)."""
    keep: PositiveInt = 3
    """Latest checkpoints kept, besides the best."""

    @property
    def first_max_start_epoch(self) -> int:
        """What max_start_epoch is at the first iteration."""
        least, most, first = self.min_start_epoch, self.max_start_epoch, self.current_max_start_epoch
        if first == "half":
            return max(least + 1, (least + most) // 2)
        return most if first == "max" else first


class PeerSettings(Section):
    """What the methods that TESLA is compared with read besides."""

    batch_real: PositiveInt = 256
    """Real images per step: of every class (dm, dsa, dc), or in all (frepo)."""
    outer_loops: PositiveInt = 1
    """Updates of the images for every random network (dsa, dc)."""
    inner_loops: PositiveInt = 1
    """Epochs the network is trained on the synthetic images between two updates of them (dsa, dc)."""
    network_lr: PositiveFloat = 0.01
    """Learning rate of the networks that are trained on the way: SGD (dsa, dc) or Adam (frepo)."""
    pool: PositiveInt = 10
    """Networks in training at the same time (frepo)."""
    pool_steps: PositiveInt = 100
    """Steps after which a network of the pool is replaced by a new one (frepo)."""
    ridge: PositiveFloat = 1e-6
    """Regularisation of the kernel regression, as a share of the mean of the kernel's diagonal (frepo)."""


class LabelSettings(Section):
    """Labels of the synthetic images."""

    kind: Literal["hard", "target", "last", "learned", "given"] = "hard"
    """hard: one-hot. target: the teacher's soft labels at the target epoch (SLA). last: at its last epoch.
    learned: by gradient. given: those of an imported set (`tesla import-images`), which is not distilled further."""
    ship: Literal["mean", "last-iteration"] = "mean"
    """Which `target` or `last` labels go with a dataset: the mean over teachers and reachable epochs, or those of the
    last iteration's teacher."""
    lr: PositiveFloat = 0.1
    """Learning rate of learned labels."""
    init: Literal["one-hot", "teacher"] = "one-hot"
    """What learned labels start from: one-hot, or (DATM) what a teacher answers on the first images, where that is
    their class: the first trajectory's, at the last epoch that is read."""
    parameters: Literal["logits", "probabilities"] = "logits"
    """What learned labels are made of: logits (one-hot: 10 at the class, 0 elsewhere); or raw probabilities, which
    nothing keeps between 0 and 1 (App. A.7; less stable): the nearest probabilities ship."""
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"
    """What students minimise in the matching steps: cross-entropy, or half the squared distance of logits to labels.
    Teachers and evaluations always train by cross-entropy."""


class EvaluateSettings(Section):
    """Training fresh networks on the synthetic images and measuring them on real ones."""

    every: PositiveInt = 500
    """Iterations between evaluations on the held-out part, which select the checkpoint."""
    epochs: PositiveInt = 1000
    """Epochs over the synthetic set; the learning rate falls to a tenth halfway."""
    repeats: PositiveInt = 5
    """Fresh networks for the final test accuracy."""
    selection_repeats: PositiveInt = 1
    """Fresh networks for each evaluation on the held-out part."""
    augment: Literal["dsa", "autoaugment", "randaugment", "none"] = "dsa"
    """Augmentation in evaluations: DSA with the operations of augment.ops, AutoAugment, RandAugment, or none."""
    whole_epochs: PositiveInt = 30
    """Epochs over the training images, for the method whole."""
    networks: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Networks of the final test. Unset: the teachers' network."""
    baseline: bool = True
    """Also evaluate random real images at the same IPC."""


class ComputeSettings(Section):
    """The machine."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type of images and parameters."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Fuse the matching and training steps with torch.compile, checked against eager. auto: where a run is long enough
    to win clearly more than the minute that compiling takes."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of products in the matching steps: tf32 (CUDA) and bf16 are faster and coarser; parameters, adjoint and sums stay
    float32."""
    threads: SmallInt | Literal["auto"] = "auto"
    """CPU threads. Results are bit-identical only for an equal number."""
    memory: Literal["auto", "fast", "flat"] = "auto"
    """CPU allocator: fast keeps freed memory for the next tensor, flat returns it (lower peak, slower). auto: fast."""
    room: Literal["refuse", "warn"] = "refuse"
    """When a stage will write more than there is room for on the disk: refuse to begin it, or warn and begin."""
    micro_batch: PositiveInt | Literal["auto", "off"] = "auto"
    """Images of a matching step that are differentiated at once; their sum is the whole batch's gradient but for
    rounding. auto: all, and half as many whenever memory runs out. off: all, whatever happens."""
    deterministic: bool = True
    """Deterministic kernels where PyTorch has them (accelerators; the CPU always is)."""


class Settings(Section):
    """All settings of a run."""

    dataset: DatasetSettings = DatasetSettings()
    network: NetworkSettings = NetworkSettings()
    teachers: TeacherSettings = TeacherSettings()
    augment: AugmentSettings = AugmentSettings()
    distill: DistillSettings = DistillSettings()
    peers: PeerSettings = PeerSettings()
    labels: LabelSettings = LabelSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compute: ComputeSettings = ComputeSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of every random draw."""

    @property
    def needs_teachers(self) -> bool:
        """Whether teachers are trained for this run."""
        return self.traits.teachers

    @property
    def traits(self) -> MethodTraits:
        """What is known of the method of this run."""
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
        return self.teachers.epochs if self.labels.kind == "last" else self.reachable_epochs

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.needs_teachers and self.teachers.epochs < self.reachable_epochs:
            raise ValueError(
                f"teachers.epochs = {self.teachers.epochs} is too short: distill.max_start_epoch = "
                f"{self.distill.max_start_epoch} and distill.teacher_epochs = {self.distill.teacher_epochs} read up to "
                f"epoch {self.reachable_epochs}. Raise teachers.epochs or lower one of the two."
            )
        if self.needs_teachers:
            self._check_starts()
        elif self.distill.init == "correct" and self.traits.iterates:
            raise ValueError(
                f"distill.init = correct asks a teacher; distill.method = {self.distill.method} trains none. Take "
                "distill.init = real, noise or kmeans."
            )
        if self.traits.whole_gradient and self.distill.gradient == "paper":
            raise ValueError(
                f"distill.gradient = paper is TESLA's eq. 6; distill.method = {self.distill.method} follows the "
                "whole gradient. "
                "Take exact or unrolled (the same numbers), or distill.method = tesla."
            )
        if self.dataset.name == "folder" and self.dataset.path is None:
            raise ValueError("dataset.name = folder needs dataset.path, the class-per-folder tree.")
        return self

    def _check_starts(self) -> None:
        """The range of start epochs, and the curriculum in it."""
        distill = self.distill
        least, most, first = distill.min_start_epoch, distill.max_start_epoch, distill.current_max_start_epoch
        if least >= most:
            raise ValueError(
                f"distill.min_start_epoch = {least} leaves no start epoch below distill.max_start_epoch = {most}. "
                f"Lower the one or raise the other: they are drawn from min_start_epoch .. max_start_epoch - 1."
            )
        if first == "max":
            return
        if first != "half" and not least < first <= most:
            raise ValueError(
                f"distill.current_max_start_epoch = {first} must be above distill.min_start_epoch = {least} and at "
                f"most distill.max_start_epoch = {most}: the curriculum begins with start epochs from min_start_epoch "
                ".. current_max_start_epoch - 1 (max: no curriculum)."
            )
        if distill.expansion_end is None:
            raise ValueError(
                f"distill.current_max_start_epoch = {first} begins a curriculum; distill.expansion_end must say at "
                "which iteration it has grown to distill.max_start_epoch."
            )
