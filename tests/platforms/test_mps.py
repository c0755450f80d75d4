"""Apple's GPU, without one: what is computed has a kernel there, in a type that it has, and words say what differs."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import kornia.augmentation.auto
import kornia.contrib  # noqa: F401 (importing them makes tensors on the host)
import psutil
import pytest
import torch
import torchgen
import yaml
from torch import Tensor, nn

from engine.data import free_memory
from engine.data.augment import draw_augment
from engine.data.resampling import linear_map, resampled
from engine.errors import SettingsError
from engine.matching import matching_gradient
from engine.methods.frepo import regression_loss
from engine.methods.registry import METHODS
from engine.networks import flatten_parameters, initialised_network
from engine.runtime.device import resolve_device
from engine.runtime.finite import is_finite
from engine.runtime.mps import mps_notice, mps_words
from engine.runtime.out_of_memory import asked_bytes, is_out_of_memory
from engine.runtime.transfer import to_device
from engine.session.session import drive
from engine.settings import ComputeSettings, resolve_settings
from engine.settings.methods import method_traits
from engine.tools.doctor import platform
from engine.tools.doctor.device_check import difference_from_cpu
from engine.tools.doctor.machine import examine_machine
from engine.training.compile_policy import matching_compiles
from tests.conftest import TINY
from tests.operators import Operators
from tests.runs import digits_workspace

MPS = torch.device("mps")
ON_THE_HOST = {
    "aten::linalg_lu_solve": "the backward pass of frepo's linear system, which engine.methods.frepo solves on the CPU",
}
"""Operations without a kernel for MPS, and why none is needed."""
TINIEST = (
    *TINY, "teachers.count=1", "teachers.epochs=3", "distill.iterations=1", "distill.steps=2", "evaluate.every=1",
    "evaluate.epochs=1", "evaluate.repeats=1", "evaluate.whole_epochs=1", "distill.checkpoint_every=1",
)  # fmt: skip
VARIANTS = (
    "dataset.zca=true labels.kind=target distill.init=noise evaluate.augment=randaugment distill.store=host",
    "distill.init=kmeans evaluate.augment=autoaugment compute.micro_batch=3 distill.gradient=paper",
    "compute.precision=bf16 distill.gradient=unrolled",
)  # fmt: skip
OPS = ("color", "flip", "crop", "cutout", "scale", "rotate")
NETWORKS = {"convnet": 4, "resnet18": 4, "vgg11": 4, "alexnet": 4, "vit": 8, "lenet": None, "mlp": 4}


@cache
def declared() -> dict[str, dict[str, Any]]:
    """PyTorch's own list of its operations, by name with overload: each says for which devices it has a kernel."""
    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].partition("(")[0]: entry for entry in entries}


def has_kernel(name: str) -> bool:
    """Whether an operation runs on MPS: by a kernel of its own, or by others that it is made of."""
    entry = declared()[name]
    keys = {key.strip() for keys in entry.get("dispatch", {}) for key in keys.split(",")}
    if "structured_delegate" in entry:
        return has_kernel(entry["structured_delegate"])
    return not keys or "MPS" in keys or any(key.startswith("Composite") for key in keys)


def test_the_list_tells_kernels_apart() -> None:
    assert has_kernel("add.Tensor") and has_kernel("reshape") and has_kernel("native_group_norm_backward")
    assert not has_kernel("linalg_lu_solve") and not has_kernel("geqrf")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, dataset_cache: None) -> Operators:
    """Tiny runs with every method, label kind and augmentation, and a gradient and a step of every network."""
    recorder = Operators()
    with recorder:
        for name, width in NETWORKS.items():
            learn(name, width)
        for number, changes in enumerate([*(f"distill.method={name}" for name in METHODS), *VARIANTS]):
            run_to_the_end(tmp_path_factory.mktemp("mps") / str(number), changes.split())
    return recorder


def learn(name: str, width: int | None) -> None:
    """A training step, and the gradient of two student steps, with every augmentation."""
    side, generator = 16, torch.Generator().manual_seed(0)
    depth = 2 if name == "convnet" else None
    model = initialised_network(name, seed=0, channels=3, classes=4, resolution=side, width=width, depth=depth)
    images, labels = torch.randn(4, 3, side, side), torch.eye(4)
    augments = [draw_augment(generator, (op,), images.shape) for op in OPS]
    for augment in augments:
        nn.functional.cross_entropy(model(augment(images)), labels).backward()  # type: ignore[no-untyped-call]
        if augment.op in ("scale", "rotate"):  # as they are on devices other than the CPU
            leaf = images.clone().requires_grad_()
            linear_map(resampled, leaf, *augment.parameters).sum().backward()  # type: ignore[no-untyped-call]
    theta = flatten_parameters(model)
    for mode in ("exact", "unrolled"):
        matching_gradient(
            model, start=theta, target=theta + 0.01, images=images, labels=labels, student_lr=0.01,
            schedule=[(torch.arange(4), augment) for augment in augments[:2] + augments[-2:]], mode=mode,
        )  # fmt: skip


def run_to_the_end(folder: Path, changes: Sequence[str]) -> None:
    workspace = digits_workspace(folder)
    method = next((word.partition("=")[2] for word in changes if word.startswith("distill.method=")), "tesla")
    given = TINIEST if method_traits(method).iterates else [t for t in TINIEST if not t.startswith("distill.")]
    run = workspace.run("r")
    for _ in drive(workspace, run, workspace.settings(overrides=(*given, *changes), run=run)):
        pass


@pytest.mark.slow
def test_every_operation_has_a_kernel_for_mps(recorded: Operators) -> None:
    names = {op.name() for op in recorded.ops if op.namespace == "aten"}
    assert {"aten::convolution_backward", "aten::native_group_norm_backward", "aten::linalg_lu_solve"} <= names
    assert {"aten::gather", "aten::addcmul"} <= names
    lacking = {name for name in names if not has_kernel(name.removeprefix("aten::"))}
    assert lacking <= set(ON_THE_HOST), lacking - set(ON_THE_HOST)


@pytest.mark.slow
def test_a_run_in_float32_computes_nothing_in_float64(recorded: Operators) -> None:
    assert not recorded.double, recorded.double


def test_frepo_solves_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = []
    solve = torch.linalg.solve_ex

    def heard(matrix: Tensor, right: Tensor) -> Any:
        solved.append((matrix.device.type, right.device.type))
        return solve(torch.eye(len(matrix)), torch.zeros(right.shape))

    monkeypatch.setattr(torch.linalg, "solve_ex", heard)
    features = Elsewhere(torch.randn(3, 5))
    regression_loss(features, Elsewhere(torch.eye(3)), Elsewhere(torch.randn(4, 5)), Elsewhere(torch.zeros(4, 3)), 1e-6)
    assert solved == [("cpu", "cpu")]


class Elsewhere(Tensor):
    """A tensor that says it is on MPS until it is moved."""

    @staticmethod
    def __new__(cls: type, data: Tensor) -> "Elsewhere":
        return data.as_subclass(cls)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return MPS

    def to(self, *place: Any, **options: Any) -> Any:  # type: ignore[override]
        return self.as_subclass(Tensor) if place == ("cpu",) else self


def test_float64_is_refused_on_mps() -> None:
    with pytest.raises(SettingsError, match="float64 does not exist on"):
        resolve_settings(overrides=["compute.device=mps", "compute.dtype=float64"])
    assert resolve_settings(overrides=["compute.device=mps"]).settings.compute.dtype == "float32"


def test_auto_does_not_take_mps_and_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mps_words() == ""
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    assert "Apple silicon" in mps_words()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu" and resolve_device("mps") == MPS
    assert "auto takes the CPU" in mps_words()
    monkeypatch.setattr(platform, "difference_from_cpu", lambda device: 3e-7)
    found = {finding.what: finding.words for finding in examine_machine()}
    assert found["MPS"] == mps_words() and "as on the CPU" in found["gradient on mps"]


def test_a_run_on_mps_says_what_to_expect() -> None:
    assert "tf32" not in mps_notice(ComputeSettings())
    words = mps_notice(ComputeSettings(precision="tf32"))
    assert "not tested on a Mac" in words and "deterministic" in words and "tf32 has no effect" in words
    assert "deterministic" not in mps_notice(ComputeSettings(deterministic=False))


def test_memory_of_mps_is_what_metal_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 3 * 2**20)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2**20)
    assert free_memory(MPS) == 2 * 2**20
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**60)
    assert free_memory(MPS) <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("MPS backend out of memory (MPS allocated: 17.86 GB, other allocations: 384.00 KB, max allowed: 18.13 GB). "
         "Tried to allocate 1.50 GB on private pool.", 3 * 2**29),
        ("Invalid buffer size: 24.00 GiB", 24 * 2**30),
    ],
)  # fmt: skip
def test_metal_out_of_memory_is_recognised(message: str, asked: int) -> None:
    error = RuntimeError(message)
    assert is_out_of_memory(error) and asked_bytes(error) == asked


def test_the_host_waits_for_copies_to_mps() -> None:
    asked = []

    class Asked(Tensor):
        """Notes how it is moved."""

        def to(self, *places: Any, **options: Any) -> Any:  # type: ignore[override]
            asked.append((places[0], bool(options.get("non_blocking"))))
            return self

    to_device(torch.zeros(1).as_subclass(Asked), MPS)
    assert asked == [(MPS, False)]
    assert to_device(torch.ones(2), torch.device("cpu")).tolist() == [1, 1]


def test_nothing_else_copies_without_waiting() -> None:
    engine = Path(__file__).parents[2] / "engine"
    found = {str(path.relative_to(engine)) for path in engine.rglob("*.py") if "non_blocking" in path.read_text()}
    assert found == {"runtime/transfer.py", "matching/host_offload.py"}, "use to_device; host_offload's lane is CUDA's"


def test_numbers_on_mps_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_nans(values: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor(0.0), torch.tensor(1.0)

    monkeypatch.setattr(torch, "aminmax", loses_nans)
    assert not is_finite(Elsewhere(torch.tensor([0.0, torch.nan, 1.0])))
    assert is_finite(Elsewhere(torch.tensor([0.0, 1.0])))


def test_doctor_compares_a_gradient_with_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert difference_from_cpu(cpu) == 0 and platform.examine_gradient(cpu).good
    for wrong in (0.2, float("nan")):
        monkeypatch.setattr(platform, "difference_from_cpu", lambda device, wrong=wrong: wrong)
        found = platform.examine_gradient(MPS)
        assert not found.good and "use compute.device = cpu" in found.words

    def unable(device: torch.device) -> float:
        raise NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device.\nMore")

    monkeypatch.setattr(platform, "difference_from_cpu", unable)
    assert "not currently implemented" in platform.examine_gradient(MPS).words


def test_auto_compiles_nothing_on_mps() -> None:
    def compiles(*changes: str) -> bool:
        long = ("dataset.name=digits", "distill.iterations=1000000", *changes)
        return matching_compiles(resolve_settings(overrides=long).settings, (1, 8, 8), 10)

    assert compiles() and not compiles("compute.device=mps")
    assert compiles("compute.device=mps", "compute.compile=on")
    assert not compiles("compute.compile=off")
