"""The groups of checks, in the order they start and are reported."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A module of this package with a function `run(check, part)`."""

    name: str
    title: str
    about: str
    """What is compared with what, for the reader of the page."""
    parts: tuple[str, ...] = ("",)
    """Each runs in a process of its own."""
    seconds: float = 120
    """Time limit of a part."""
    alone: bool = False
    """Times are measured: nothing else may run."""


GROUPS = (
    Group("doctor", "Machine", "What PyTorch and tesla see.", seconds=60),
    Group(
        "compiling",
        "Compiling the shapes of the speed tables",
        "The first call compiles, checks and falls back to eager with a warning. Seconds include other work on the "
        "machine; the error is that of the gradient against eager, two inputs. Later groups find these in the cache.",
        ("cifar exact float32", "cifar exact tf32", "cifar paper float32", "cifar paper tf32",
         "imagenet exact float32", "imagenet exact tf32", "teachers"),
        seconds=150,
    ),
    Group(
        "gradients",
        "Gradients",
        "Relative error of the gradient by the images, against the same on the CPU in float64 (T = 6, each "
        "augmentation once).",
        ("convnet", "resnet18", "vit", "activations"),
    ),
    Group(
        "compiled",
        "Compiled steps and CUDA graphs",
        "Replays with six different inputs against eager steps in the same precision, after the compiler's own check; "
        "then three sessions in one process.",
        ("float32 exact", "float32 paper", "tf32 exact", "bf16 exact", "vit exact", "sessions"),
        seconds=150,
    ),
    Group(
        "bits",
        "The same bits again",
        "Everything is computed several times, and compared bit by bit, with `compute.deterministic = true`.",
        ("gradients", "training", "sessions", "compiled sessions"),
    ),
    Group(
        "syncs",
        "Waiting for the GPU",
        "Calls that make the host wait, counted by `torch.cuda.set_sync_debug_mode` after a warm-up.",
    ),
    Group(
        "out_of_memory",
        "Out of memory",
        "The process may use only a share of what it needs: micro-batches halve until it fits.",
        ("matching", "errors"),
    ),
    Group("nccl", "Several GPUs", "Two ranks share a batch; the gradient is that of one process."),
    Group(
        "memory",
        "Memory against T",
        "Peak of PyTorch's allocator, ConvNetD3 width 128, batch 100, float32, eager.",
        ("published", "exact", "paper"),
    ),
    Group(
        "digits",
        "Digits end to end",
        "Teachers, distillation, evaluations and test at tiny settings; seconds include other work on the machine.",
        ("labels", "gradients", "networks", "peers", "selections"),
        seconds=150,
    ),
    Group("device_tests", "Tests on the device", "The test suite's tests that take `--device`.", seconds=150),
    Group(
        "speed",
        "Time per iteration and peak memory",
        "Equal switches for all: TF32 on or off in convolutions and products, no deterministic algorithms. The shapes "
        "of Tables 4 and 5 of the paper, random pixels. `published` is the loop of published code.",
        ("cifar", "imagenet"),
        seconds=90,
        alone=True,
    ),
    Group(
        "stages",
        "Teachers and evaluations",
        "ConvNetD3 width 128, 3x32x32, 100 classes; teachers' batch 256, all augmentations; equal switches.",
        seconds=75,
        alone=True,
    ),
    Group(
        "planning",
        "Plan against run",
        "`tesla plan` and then the same run: seconds of the stages.",
        ("digits", "cifar"),
        seconds=75,
        alone=True,
    ),
)  # fmt: skip

NAMES = tuple(group.name for group in GROUPS)
