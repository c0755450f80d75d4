"""What `tesla bench gradient` measures: shapes, configurations, and the named cases of docs/performance.md."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

PUBLISHED = "published"
"""The mode to compare with: the loop of published code (reference_implementation.py)."""
MODES = (PUBLISHED, "unrolled", "paper", "exact")
COMPILABLE = ("paper", "exact")
ALLOCATORS = ("fast", "flat", "default")
"""CPU allocator policies (engine/runtime/allocator.py); `default` is what glibc does by itself."""
PRECISIONS = ("auto", "float32", "tf32")
"""`auto`: PyTorch's own and so published code's, TF32 in convolutions on CUDA. `tf32`: in matrix products, too."""
MODULES = ("own", "plain")
"""The ConvNet's layers: the engine's, or `nn.GroupNorm`, `nn.ReLU` and `nn.AvgPool2d` as in a user's own model."""


@dataclass(frozen=True)
class Shape:
    """One matching problem without its number of steps. Images are random: time and memory do not depend on them."""

    network: str = "convnet"
    width: int | None = 128
    """None: the network's own default."""
    depth: int | None = None
    """None: from the resolution."""
    channels: int = 3
    resolution: int = 32
    """Side, pixels."""
    classes: int = 100
    batch: int = 100
    """Images per matching step; there are as many synthetic images."""

    @property
    def words(self) -> str:
        """For titles: convnet width 128, 3x32x32, 100 classes, batch 100."""
        size = "".join(f" {name} {value}" for name, value in (("width", self.width), ("depth", self.depth)) if value)
        side = self.resolution
        return f"{self.network}{size}, {self.channels}x{side}x{side}, {self.classes} classes, batch {self.batch}"

    def size(self) -> dict[str, Any]:
        """Keyword arguments of `build_network`."""
        names = ("channels", "classes", "resolution", "width", "depth")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Compute:
    """How it is computed: the same for published code and for ours in everything that is compared."""

    device: str = "auto"
    threads: int | None = None
    """None: PyTorch's own choice."""
    memory: str = "fast"
    """Of `ALLOCATORS`."""
    precision: str = "auto"
    """Of `PRECISIONS`."""
    deterministic: bool = False
    """Deterministic kernels (accelerators; the CPU's always are)."""


@dataclass(frozen=True)
class Configuration:
    """One process of the benchmark."""

    shape: Shape
    mode: str
    steps: int
    """T, matching steps of an iteration."""
    compile: bool = False
    store: str = "auto"
    compute: Compute = Compute()
    modules: str = "own"
    """Of `MODULES`. `published` has its own network."""

    @property
    def label(self) -> str:
        """The mode as shown: `exact compiled`, `exact (checkpoint, plain)`, `published (default alloc.)`."""
        store = self.store if self.mode == "exact" and self.store != "auto" else ""
        plain = "plain" if self.modules == "plain" else ""
        allocator = "" if self.compute.memory == "fast" else f"{self.compute.memory} alloc."
        how = ", ".join(filter(None, (store, plain, allocator)))
        return self.mode + (f" ({how})" if how else "") + (" compiled" if self.compile else "")

    @property
    def problem(self) -> tuple[object, ...]:
        """What is compared: the same shape and T, computed the same way but for the allocator."""
        return self.shape, self.steps, replace(self.compute, memory="")

    def arguments(self) -> dict[str, Any]:
        """As JSON-able keyword arguments."""
        return asdict(self)


def configuration(arguments: dict[str, Any]) -> Configuration:
    """The reverse of `Configuration.arguments`."""
    shape, compute = Shape(**arguments["shape"]), Compute(**arguments["compute"])
    return Configuration(**{**arguments, "shape": shape, "compute": compute})


@dataclass(frozen=True)
class Case:
    """A named choice of everything that may vary."""

    about: str
    shape: Shape
    steps: tuple[int, ...]
    rounds: int = 5
    compiled: tuple[tuple[str, int], ...] | None = None
    """Modes and values of T that are compiled, too; None: all of them."""
    plain: bool = True
    """Compiled `exact` with plain modules, too."""


CASES = {
    "cifar100": Case("CIFAR-100, ConvNetD3 width 128, batch 100", Shape(depth=3), (1, 3, 10)),
    "imagenet": Case(
        "ImageNet-1K at 64x64, ConvNetD4 width 128, batch 50",
        Shape(depth=4, resolution=64, classes=1000, batch=50),
        (1, 3),
        rounds=3,
    ),
    "small": Case(
        "ten images of 1x32x32, ConvNetD3 width 32, T = 20",
        Shape(width=32, depth=3, channels=1, classes=10, batch=10),
        (1, 5, 20),
        rounds=7,
    ),
    "paper": Case(
        "the paper's Tables 4 and 5: CIFAR-100, ConvNetD3 width 128, batch 100, T = 50 and 100",
        Shape(depth=3),
        (1, 50, 100),
        rounds=3,
        plain=False,
    ),
    # Sized by measurement: two minutes on two cores, one compilation of 30 to 60 seconds included.
    "quick": Case(
        "a smaller CIFAR-10 problem, two minutes on two cores",
        Shape(width=64, depth=3, classes=10, batch=20),
        (1, 5, 10),
        rounds=3,
        compiled=(("exact", 10),),
        plain=False,
    ),
}


def varied(
    shape: Shape,
    *,
    network: str | None = None,
    depth: int | None = None,
    channels: int | None = None,
    classes: int | None = None,
    batch: Sequence[int] | None = None,
    width: Sequence[int] | None = None,
    resolution: Sequence[int] | None = None,
) -> list[Shape]:
    """The shape with what is given instead of its own; all combinations of the lists.

    Another network, or a ConvNet for another resolution, gets the default depth (and width) unless one is given.
    """
    if network is not None and network != shape.network:
        shape = replace(shape, network=network, width=None, depth=None)
    if resolution is not None:
        shape = replace(shape, depth=None)
    shape = replace(
        shape,
        depth=shape.depth if depth is None else depth,
        channels=channels or shape.channels,
        classes=classes or shape.classes,
    )
    return [
        replace(shape, batch=images, width=channels_of, resolution=side)
        for side in resolution or (shape.resolution,)
        for channels_of in width or (shape.width,)
        for images in batch or (shape.batch,)
    ]


def configurations(
    shapes: Sequence[Shape],
    modes: Sequence[str],
    steps: Sequence[int],
    *,
    stores: Sequence[str] = ("auto",),
    compiled: bool | None = None,
    compiled_only: Sequence[tuple[str, int]] | None = None,
    modules: Sequence[str] = ("own",),
    computes: Sequence[Compute] = (Compute(),),
) -> list[Configuration]:
    """All combinations; ordered so that what is compared is measured side by side.

    Args:
        shapes: problems.
        modes: of `MODES`.
        steps: values of T.
        stores: of `exact`; the other modes have none.
        compiled: True: `paper` and `exact` only compiled; False: only eager; None: both.
        compiled_only: modes and values of T that are compiled; None for all.
        modules: of `MODULES`; plain ones only for `exact` of a ConvNet, and eager only where nothing is compiled:
            eager code is the same with either.
        computes: devices, threads, allocators, switches.
    """
    found = []
    for shape in shapes:
        for count in sorted(set(steps)):
            for mode in modes:
                fusing = [False]
                if mode in COMPILABLE and compiled is not False:
                    fusing = [True] if compiled else [False, True]
                    if compiled_only is not None and (mode, count) not in compiled_only:
                        fusing = [False]
                plain = mode == "exact" and shape.network == "convnet" and "plain" in modules
                kinds = [("own", fused) for fused in fusing if "own" in modules or mode != "exact"]
                kinds += [("plain", fused) for fused in fusing if plain and (fused or not any(fusing))]
                found += [
                    Configuration(shape, mode, count, fused, store, compute, kind)
                    for kind, fused in kinds
                    for store in (stores if mode == "exact" else ("auto",))
                    for compute in computes
                ]
    return found


def with_authors_allocator(chosen: Sequence[Configuration]) -> list[Configuration]:
    """The same, and after each `published` one with its authors' allocator, glibc as it is."""
    found = list(chosen)
    for one in chosen:
        theirs = replace(one, compute=replace(one.compute, memory="default"))
        if one.mode == PUBLISHED and theirs not in found:
            found.insert(found.index(one) + 1, theirs)
    return found
