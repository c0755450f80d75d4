"""Every setting: its unit, range, meaning, and what it affects. The docstring of a field is its help text everywhere.

Names are public: they are spelled the same in tesla.toml, on the command line (`--set distill.steps=20`) and on screen.
To add a setting, add a field here, with its docstring and an `Affects`; everything else reads the schema.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from engine.settings.affects import ANY_TIME, BY_METHOD, REAL_IMAGES, ROUNDING, THE_RUN, Affects, Section
from engine.settings.datasets import own_datasets
from engine.settings.decoders import DECODERS
from engine.settings.methods import method_words, own_methods
from engine.settings.plugins import NAME

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
"""What is counted. The bound keeps every product of two of them an integer that PyTorch can hold."""
SmallInt = Annotated[int, Field(ge=1, le=2**16)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e6)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Op = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
MethodName = Annotated[str, Field(pattern=rf"^{NAME.pattern}$", json_schema_extra={"enum": list(own_methods())})]
"""A name alone; `check_method` refuses one that does not exist. A run whose plugin was removed can still be seen."""


class DatasetSettings(Section):
    """The real dataset."""

    name: Annotated[
        str,
        Field(min_length=1, description=f"{', '.join(own_datasets())} (see `path`), or a hub id owner/name."),
        REAL_IMAGES,
    ] = "digits"
    path: Annotated[str | None, REAL_IMAGES] = None
    """Local files instead of a download: a class-per-folder tree, idx files of (Fashion-)MNIST, or Parquet files."""
    config: Annotated[str | None, REAL_IMAGES] = None
    """Configuration of a dataset that has several. Unset: its only one, or its default."""
    train_split: Annotated[str | None, REAL_IMAGES] = None
    """Split to train on; all: everything, whatever its split. Unset: train."""
    test_split: Annotated[str | None, REAL_IMAGES] = None
    """Split to test on; none: a fifth of the training images instead. Unset: test, else validation."""
    image_column: Annotated[str | None, REAL_IMAGES] = None
    """Column of a table with the images. Unset: the only one that holds images."""
    label_column: Annotated[str | None, REAL_IMAGES] = None
    """Column of a table with the classes. Unset: the only one that holds classes."""
    classes: Annotated[str | None, REAL_IMAGES] = None
    """A text file with a class per line, in the order of their numbers: `name`, or `name = new name`; classes that it
    does not list are left out. Unset: all, in the order of the dataset."""
    value_range: Annotated[tuple[float, float] | None, REAL_IMAGES] = None
    """Values of black and white in pictures that are not 8-bit, such as [0, 4095]. Unset: from the pictures."""
    fit: Annotated[Literal["crop", "pad", "stretch"], REAL_IMAGES] = "crop"
    """How pictures become square: crop their longer side, pad the shorter side with black, or stretch."""
    recursive: Annotated[bool, REAL_IMAGES] = False
    """Whether a class folder's pictures include those of the folders in it."""
    invalid_labels: Annotated[Literal["error", "drop"], REAL_IMAGES] = "error"
    """On images without a valid class (-1, missing): stop with an error, or leave them out."""
    resolution: Annotated[Annotated[int, Field(ge=4, le=1024)] | None, REAL_IMAGES] = None
    """Side of the square images, pixels. Unset: the images' own size (32 where sizes differ)."""
    zca: Annotated[bool, Affects(teachers="zca", imported="zca", random="zca")] = False
    """ZCA whitening as the network's input space instead of per-channel mean/std normalisation."""
    holdout: Annotated[float, Field(ge=0, le=0.5), Affects(teachers="holdout", random="holdout")] = 0.1
    """Share of the training images kept from the teachers, to select the best checkpoint on. 0: use the last."""
    on_bad_file: Annotated[Literal["error", "skip"], REAL_IMAGES] = "error"
    """On a corrupt or non-image file in a folder dataset: stop with an error, or skip the file."""


class NetworkSettings(Section):
    """The network of teachers and students."""

    name: Annotated[
        str, Field(min_length=1), Affects(teachers="network.name", imported="network.name", random="network.name")
    ] = "convnet"
    """convnet, convnet-batchnorm, convnet-layernorm, convnet-nonorm, resnet18, vgg11, alexnet, lenet, mlp, vit,
    vit-benchmark, or an import path `package.module:callable`."""
    width: Annotated[
        SmallInt | None,
        Affects(teachers="network.width", imported="network.width", distilled="width", random="network.width"),
    ] = None
    """Channels of the network's blocks. Unset: the network's own default (ConvNet: 128)."""
    depth: Annotated[
        SmallInt | None,
        Affects(teachers="network.depth", imported="network.depth", distilled="depth", random="network.depth"),
    ] = None
    """Number of blocks. Unset: from the resolution (ConvNet: halve down to 4 pixels)."""


class TeacherSettings(Section):
    """Teacher trajectories, trained on the real data."""

    kind: Annotated[Literal["sgd", "ftd"], Affects(teachers="kind", unnamed=("sgd",), by_method=True)] = "sgd"
    """sgd: plain steps. ftd: sharpness-aware ones (GSAM), which make flatter trajectories (FTD, DATM); each costs two
    gradients."""
    count: Annotated[PositiveInt, BY_METHOD] = 100
    """Trajectories in the buffer."""
    epochs: Annotated[PositiveInt, BY_METHOD] = 50
    """Epochs of a whole trajectory; only those a distillation can reach are trained."""
    lr: Annotated[PositiveFloat, Affects(teachers="lr", by_method=True)] = 0.01
    """Learning rate (no momentum, no weight decay, no schedule)."""
    batch: Annotated[PositiveInt, Affects(teachers="batch", by_method=True)] = 256
    """Images per step."""
    rho: Annotated[PositiveFloat, Affects(teachers="rho", unnamed=(0.01,), by_method=True)] = 0.01
    """Radius of a sharpness-aware step, for teachers.kind = ftd."""
    alpha: Annotated[NonNegativeFloat, Affects(teachers="alpha", unnamed=(0.4,), by_method=True)] = 0.4
    """GSAM's alpha, for teachers.kind = ftd: how much of the plain gradient's part that is perpendicular to the
    sharpness-aware one is taken away (FTD: 0.4; DATM: 0.3; 0: plain SAM)."""
    buffer: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None,
        Affects(teachers="buffer", unnamed=(None,), by_method=True),
    ] = None
    """Teacher buffer from `tesla import-buffers` to use instead of training teachers. Unset: train them."""
    seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**63)] | None,
        Affects(teachers="seed", distilled="teachers.seed", random="teachers.seed", unnamed=(None,)),
    ] = None
    """Seed of the teachers and of the held-out part, for runs of several seeds that share them. Unset: seed."""


class AugmentSettings(Section):
    """Differentiable augmentation (DSA) of teachers, matching and evaluation."""

    ops: Annotated[tuple[Op, ...], Affects(teachers="augment", distilled="ops", random="ops")] = get_args(Op)
    """Operations; one is drawn for each batch. An empty list switches augmentation off."""


class DistillSettings(Section):
    """How the synthetic images are made."""

    method: Annotated[MethodName, Field(description=method_words()), THE_RUN] = "tesla"
    ipc: Annotated[PositiveInt, Affects(random="ipc")] = 1
    """Synthetic images per class."""
    iterations: Annotated[int, Field(ge=0), ANY_TIME] = 5000
    """Updates of the synthetic images (dc, dsa, dm: random networks). Can be raised on an existing run. Methods that
    choose real images, and whole, make none."""
    steps: Annotated[PositiveInt, BY_METHOD] = 20
    """T, matching steps: student SGD steps per iteration."""
    teacher_epochs: Annotated[PositiveInt, BY_METHOD] = 2
    """M, teacher epochs between start and target."""
    min_start_epoch: Annotated[int, Field(ge=0, le=10**9), BY_METHOD] = 0
    """Start epochs are drawn from min_start_epoch .. max_start_epoch - 1."""
    max_start_epoch: Annotated[PositiveInt, BY_METHOD] = 5
    """First teacher epoch that no student starts from: start epochs are min_start_epoch .. max_start_epoch - 1."""
    current_max_start_epoch: Annotated[PositiveInt | Literal["max", "half"], BY_METHOD] = "max"
    """Curriculum (DATM): the initial max_start_epoch, which grows linearly (rounded) to its full value. half: half of
    the range. max: no curriculum, the whole range from the first iteration."""
    expansion_end: Annotated[PositiveInt | None, BY_METHOD] = None
    """Iteration at which the curriculum reaches the whole range. Unset: distill.iterations when the run
    starts; raising them later keeps the whole range."""
    formation: Annotated[
        Annotated[int, Field(ge=1, le=16)],
        Affects(distilled="formation", random="formation", unnamed=(1,), by_method=True),
    ] = 1
    """f: every synthetic image holds f x f smaller ones, each enlarged to full size for a network (IDC). 1: none."""
    decoder: Annotated[
        Annotated[str, Field(json_schema_extra={"enum": list(DECODERS)})],
        Affects(distilled="decoder", random="decoder", unnamed=("formation",), by_method=True),
    ] = "formation"
    """How stored images become those that networks see; `formation` as distill.formation says."""
    batch: Annotated[PositiveInt | Literal["full"], BY_METHOD] = "full"
    """Images per matching step, or `full`: as many as are stored, so that an iteration costs the same with formation. A
    step draws them from all smaller ones."""
    gradient: Annotated[Literal["exact", "paper", "unrolled"], BY_METHOD] = "exact"
    """How dL/dimages is computed: exact, paper (TESLA's eq. 6) or unrolled (MTT; memory grows with steps)."""
    store: Annotated[Literal["auto", "device", "host", "checkpoint"], Affects(by_method=True, change="any time")] = (
        "auto"
    )
    """Where the exact gradient keeps the student's parameters of every step."""
    lr_images: Annotated[PositiveFloat, BY_METHOD] = 100.0
    """Learning rate of the images, for the gradient of the whole loss (published TESLA rates are for half of it)."""
    lr_student_lr: Annotated[float, Field(ge=0, allow_inf_nan=False), BY_METHOD] = 1e-5
    """Learning rate of student_lr."""
    student_lr: Annotated[PositiveFloat, BY_METHOD] = 0.01
    """Initial student step size, learned from there."""
    init: Annotated[Literal["real", "noise", "kmeans", "correct"], BY_METHOD] = "real"
    """First images: random real ones, noise, the real images nearest to each class's k-means centres, or (DATM) random
    real ones that a teacher classifies correctly: the first trajectory's, at the last epoch that is trained. With
    labels.init = teachers, the next trajectories are asked too where a class has too few."""
    momentum: Annotated[float, Field(ge=0, lt=1), BY_METHOD] = 0.5
    """Momentum of the images' and student_lr's updates."""
    max_loss: Annotated[PositiveFloat, BY_METHOD] = 10.0
    """An iteration whose matching loss is above this is skipped (1: no nearer to the target than at the start)."""
    max_jump: Annotated[PositiveFloat, BY_METHOD] = 1000.0
    """An iteration whose loss or image gradient is more than this many times its mean over the last 20 is skipped."""
    max_pixel: Annotated[PositiveFloat, BY_METHOD] = 1000.0
    """An iteration that would give a pixel beyond this is skipped; in the input space, real ones are about 1."""
    checkpoint_every: Annotated[PositiveInt, ANY_TIME] = 100
    """Iterations between checkpoints (one is also saved at every evaluation and stop)."""
    keep: Annotated[PositiveInt, ANY_TIME] = 3
    """Latest checkpoints kept, besides the best."""

    @property
    def first_max_start_epoch(self) -> int:
        """What max_start_epoch is at the first iteration."""
        least, most, first = self.min_start_epoch, self.max_start_epoch, self.current_max_start_epoch
        if first == "half":
            return max(least + 1, (least + most) // 2)
        return most if first == "max" else first


class PeerSettings(Section):
    """Settings of the methods that TESLA is compared with."""

    batch_real: Annotated[PositiveInt, BY_METHOD] = 256
    """Real images per step: of every class (dm, dsa, dc), or in all (frepo)."""
    outer_loops: Annotated[PositiveInt, BY_METHOD] = 1
    """Updates of the images for every random network (dsa, dc)."""
    inner_loops: Annotated[PositiveInt, BY_METHOD] = 1
    """Epochs the network is trained on the synthetic images between two updates of them (dsa, dc)."""
    network_lr: Annotated[PositiveFloat, BY_METHOD] = 0.01
    """Learning rate of the networks that are trained along the way: SGD (dsa, dc) or Adam (frepo)."""
    network_batch: Annotated[PositiveInt, BY_METHOD] = 1000
    """Synthetic images in a step of a network of the pool: all, or a random choice where there are more (frepo)."""
    pool: Annotated[PositiveInt, BY_METHOD] = 10
    """Networks in training at the same time (frepo)."""
    pool_steps: Annotated[PositiveInt, BY_METHOD] = 100
    """Age in steps beyond which a network of the pool is replaced by a new one. The first networks count as of ages
    0, pool_steps / pool, 2 pool_steps / pool ..., so that they are not all replaced at once (frepo)."""
    ridge: Annotated[PositiveFloat, BY_METHOD] = 1e-6
    """Regularisation of the kernel regression, as a share of the mean of the kernel's diagonal (frepo)."""
    label_margin: Annotated[NonNegativeFloat, BY_METHOD] = 1.0
    """Weight of the label margin in the loss: minus the mean lead of a synthetic label's greatest value over its
    second, of which 1/classes counts. 0: none (frepo)."""
    mirror: Annotated[bool | None, BY_METHOD] = None
    """Whether mirrored copies of the synthetic images join the regression. Unset: where augment.ops has flip
    (frepo)."""
    lr_end: Annotated[float, Field(ge=0, le=1), BY_METHOD] = 1.0
    """Share of distill.lr_images that is left at iteration decay_end; the rate falls to it as half a cosine, and
    stays there. 1: a constant rate (frepo)."""
    decay_end: Annotated[PositiveInt | None, BY_METHOD] = None
    """Iteration at which the rate has fallen to lr_end. Unset: distill.iterations when the run starts; raising them
    later adds iterations with the last rate (frepo)."""


class LabelSettings(Section):
    """Labels of the synthetic images."""

    kind: Annotated[
        Literal["hard", "target", "last", "learned", "given"], Affects(distilled="labels.kind", by_method=True)
    ] = "hard"
    """hard: one-hot. target: the teacher's soft labels at the target epoch (SLA). last: at its last epoch.
    learned: by gradient. given: those of an imported set (`tesla import-images`), which is not distilled further."""
    ship: Annotated[Literal["mean", "last-iteration"], Affects(distilled="labels.ship", by_method=True)] = "mean"
    """Labels of the finished set, for the kinds target and last: the mean over teachers and reachable epochs, or those
    of the last iteration's teacher."""
    lr: Annotated[PositiveFloat, Affects(distilled="labels.lr", by_method=True)] = 0.1
    """Learning rate of learned labels."""
    init: Annotated[
        Literal["one-hot", "teacher", "teachers"],
        Affects(distilled="labels.init", unnamed=("one-hot",), by_method=True),
    ] = "one-hot"
    """Start of learned labels. one-hot. teacher: the first trajectory's logits on the first images, at the last epoch
    that is read. teachers (DATM): the mean logits of all trajectories, at the last epoch of teachers.epochs, which are
    trained for it. A teacher counts for the images that it classifies correctly; where none does, one-hot."""
    momentum: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, BY_METHOD] = None
    """Momentum of learned labels' updates (DATM: 0.9). Unset: distill.momentum."""
    parameters: Annotated[
        Literal["logits", "probabilities"], Affects(distilled="labels.parameters", unnamed=("logits",), by_method=True)
    ] = "logits"
    """Parameters of learned labels: logits (one-hot: 10 at the class, 0 elsewhere), or raw probabilities, which may
    leave 0..1 (App. A.7; less stable): the finished set has the nearest probabilities."""
    loss: Annotated[
        Literal["cross-entropy", "mse"], Affects(distilled="labels.loss", unnamed=("cross-entropy",), by_method=True)
    ] = "cross-entropy"
    """Loss of the students in the matching steps: cross-entropy, or half the squared distance of logits to labels.
    Teachers and evaluations always train by cross-entropy."""


class EvaluateSettings(Section):
    """Training fresh networks on the synthetic images and measuring them on real ones."""

    every: Annotated[PositiveInt, ANY_TIME] = 500
    """Iterations between evaluations on the held-out part, which select the checkpoint."""
    epochs: Annotated[PositiveInt, Affects(distilled="epochs", random="epochs", change="any time")] = 1000
    """Epochs over the synthetic set; the learning rate falls to a tenth after half of them, (epochs + 1) // 2."""
    batch: Annotated[PositiveInt, Affects(distilled="batch", random="batch", unnamed=(256,), change="any time")] = 256
    """Images per step."""
    reset_momentum: Annotated[
        bool, Affects(distilled="reset_momentum", random="reset_momentum", unnamed=(False,), change="any time")
    ] = False
    """Whether the momentum is cleared when the learning rate falls: published code makes a new optimiser there."""
    repeats: Annotated[PositiveInt, Affects(distilled="repeats", random="repeats", change="any time")] = 5
    """Fresh networks for the final test accuracy."""
    selection_repeats: Annotated[PositiveInt, Affects(distilled="repeats", random="repeats", change="any time")] = 3
    """Fresh networks for each evaluation on the held-out part."""
    augment: Annotated[
        Literal["dsa", "autoaugment", "randaugment", "none"],
        Affects(distilled="augment", random="augment", unnamed=("dsa",), change="any time"),
    ] = "dsa"
    """Augmentation in evaluations: DSA with the operations of augment.ops, AutoAugment, RandAugment, or none."""
    whole_epochs: Annotated[PositiveInt, Affects(distilled="epochs", change="any time")] = 30
    """Epochs over the training images, for the method whole."""
    networks: Annotated[Annotated[tuple[str, ...], Field(min_length=1)] | None, ANY_TIME] = None
    """Networks of the final test. Unset: the teachers' network."""
    baseline: Annotated[bool, ANY_TIME] = True
    """Also evaluate random real images at the same IPC."""
    random_lr: Annotated[
        PositiveFloat | Literal["tuned"],
        Affects(distilled="random.lr", random="lr", unnamed=(0.01,), change="any time"),
    ] = "tuned"
    """Learning rate for random real images, the baseline and the method random. tuned: the one of 0.003, 0.01, 0.03 and
    0.1 with the best held-out accuracy (0.01 without a held-out part)."""
    other_networks_lr: Annotated[
        Literal["same", "tuned"],
        Affects(distilled="other_networks_lr", random="other_networks_lr", unnamed=("same",), change="any time"),
    ] = "same"
    """Learning rate of test networks other than the teachers'. same: that of the teachers' network (learned with the
    images; random_lr for random real images). tuned: for each of these networks, and for random real images apart, the
    best on held-out images of 0.003, 0.01, 0.03, 0.1 and the learned one (not for the method whole)."""


class ComputeSettings(Section):
    """The machine and how it is used."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"), ROUNDING] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    dtype: Annotated[Literal["float32", "float64"], Affects(teachers="dtype", random="dtype")] = "float32"
    """Floating-point type of images and parameters."""
    compile: Annotated[Literal["auto", "on", "off"], ROUNDING] = "auto"
    """Fuse the matching and training steps with torch.compile, checked against eager. auto: where a run is long enough
    to save clearly more than the minute that compiling takes."""

    @property
    def stays_eager(self) -> bool:
        """Whether nothing is compiled. PyTorch's compiler for MPS is a prototype: only where it is asked for."""
        return self.compile == "off" or (self.compile == "auto" and self.device == "mps")

    cpu_kernels: Annotated[Literal["auto", "off"], ROUNDING] = "auto"
    """Kernels for compiled steps on a CPU. auto: tesla's own convolutions, where they are faster. off:
    PyTorch's only; slower, with the same results but for rounding."""
    precision: Annotated[
        Literal["float32", "tf32", "bf16"],
        # Teachers never train in bfloat16, but in TF32 if the run does.
        Affects(teachers="precision", unnamed=("float32", "bf16")),
    ] = "float32"
    """Precision of convolutions and matrix products. float32: full precision everywhere. tf32: TF32 in the whole
    process, for teachers, matching steps and evaluations alike; no effect except on CUDA. bf16: bfloat16 in matching
    steps and in the labels that teachers give; teachers and evaluations stay float32. tf32 and bf16 are coarser;
    parameters, adjoint and sums stay float32."""
    threads: Annotated[SmallInt | Literal["auto"], ROUNDING] = "auto"
    """CPU threads. Results are bit-identical only for an equal number."""
    memory: Annotated[Literal["auto", "fast", "flat"], ANY_TIME] = "auto"
    """CPU allocator: fast keeps freed memory for the next tensor, flat returns it (lower peak, slower). auto: fast."""
    image_memory: Annotated[NonNegativeFloat | Literal["auto"], ROUNDING] = "auto"
    """Memory for real images, GB. Splits that fit are kept on the device (on a CPU: mapped, and shared by all workers);
    others are read batch by batch. auto: at most 1 on a CPU, 40 % of what is free on an accelerator."""
    room: Annotated[Literal["refuse", "warn"], ANY_TIME] = "refuse"
    """What to do when a stage would write more than fits on the disk: refuse to start it, or warn and start."""
    micro_batch: Annotated[PositiveInt | Literal["auto", "off"], ROUNDING] = "auto"
    """Images of a matching step that are differentiated at once; the gradients add up to the whole batch's but for
    rounding. auto: all, and half as many whenever memory runs out. off: always all."""
    deterministic: Annotated[bool, ROUNDING] = True
    """Deterministic kernels where PyTorch has them (accelerators; the CPU always is). An operator without one is still
    used, and named in a notice."""
