"""Which device a process takes, which switches it sets, and what is recorded of it; CUDA by a stand-in."""

import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.errors import UsageError
from engine.events import Event, Notice, StageStarted
from engine.runtime import cuda, determinism
from engine.runtime.determinism import operator_named, set_deterministic, with_operators
from engine.runtime.device import check_devices, configure, environment, own_device, without_tf32
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.distributed.ranks import Ranks
from engine.settings import ComputeSettings

Cuda = Callable[..., list[int]]


@pytest.fixture(autouse=True)
def _switches_as_they_were() -> Iterator[None]:
    backends = torch.backends
    before = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        yield
    backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, backends.cudnn.benchmark = before
    torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """Make this process see CUDA devices of these names; the list of what became the current device."""

    def see(*names: str) -> list[int]:
        properties = [SimpleNamespace(name=name, uuid=f"1-{name}") for name in names]
        chosen: list[int] = []
        for function, stand_in in {
            "is_available": lambda: True,
            "device_count": lambda: len(names),
            "set_device": chosen.append,
            "get_device_name": lambda device: names[device.index or 0],
            "get_device_capability": lambda device: (9, 0),
            "get_device_properties": lambda device: properties[device.index or 0],
        }.items():
            monkeypatch.setattr(torch.cuda, function, stand_in)
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return chosen

    return see


def four(rank: int) -> RankEnvironment:
    return RankEnvironment(rank, 4, rank, 4)


@pytest.mark.parametrize(("name", "current"), [("auto", 0), ("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_process_alone_makes_its_device_the_current_one(gpus: Cuda, name: str, current: int) -> None:
    chosen = gpus("a", "b")
    assert configure(ComputeSettings(device=name)).type == "cuda"
    assert chosen == [current]


def test_ranks_that_see_all_devices_take_one_each(gpus: Cuda) -> None:
    chosen = gpus("a", "b", "c", "d")
    for rank in range(4):
        assert configure(ComputeSettings(device="cuda", threads=1), four(rank)) == torch.device("cuda", rank)
    assert chosen == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="names one device for 4 workers"):
        configure(ComputeSettings(device="cuda:1"), four(1))


def test_a_rank_that_is_bound_to_one_device_takes_it(gpus: Cuda) -> None:
    chosen = gpus("a")
    for name in ("auto", "cuda", "cuda:0"):
        assert configure(ComputeSettings(device=name, threads=1), four(3)) == torch.device("cuda", 0)
    assert chosen == [0, 0, 0]
    # Before any process is started, one device is one for all.
    with pytest.raises(UsageError, match="4 workers need 4 CUDA devices; this machine has 1"):
        own_device("cuda", four(0))
    gpus("a", "b")
    with pytest.raises(UsageError, match="4 workers need 4 CUDA devices; this machine has 2"):
        configure(ComputeSettings(device="cuda", threads=1), four(3))


class Others(Ranks):
    """The ranks of a job as one of them sees them, when all have answered."""

    def __init__(self, *answers: str | None) -> None:
        super().__init__(RankEnvironment(0, len(answers), 0, len(answers)))
        self.answers = answers
        self.own: Any = "not asked"

    def gathered(self, value: Any) -> list[Any]:
        self.own = value
        return list(self.answers)


def test_ranks_on_one_gpu_are_refused_by_its_name(gpus: Cuda) -> None:
    gpus("a")
    ranks = Others("GPU-1-a", "GPU-1-b", "GPU-1-a")
    with pytest.raises(UsageError, match="Workers 0 and 2 both use the GPU GPU-1-a"):
        check_devices(ranks, torch.device("cuda", 0))
    assert ranks.own == "GPU-1-a"
    check_devices(Others("GPU-1-a", "GPU-1-b"), torch.device("cuda", 0))
    on_cpus = Others(None, None)
    check_devices(on_cpus, torch.device("cpu"))
    assert on_cpus.own is None


def test_parts_of_a_gpu_are_told_apart_by_their_own_names(gpus: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus("NVIDIA H100 MIG 1g.10gb")
    assert cuda.identity(torch.device("cuda")) is None  # its identifier may be the whole GPU's
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-11,MIG-22")
    assert cuda.identity(torch.device("cuda")) == "MIG-11"
    assert cuda.identity(torch.device("cuda", 1)) == "MIG-22"
    cuda.check_different(["MIG-11", "MIG-22", None, None])


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_precision_covers_convolutions_and_products(gpus: Cuda, precision: Any) -> None:
    gpus("a")
    device = configure(ComputeSettings(device="cuda", precision=precision))
    assert environment(device)["tf32"] == ("convolutions and products" if precision == "tf32" else "off")


def test_what_results_on_cuda_depend_on_is_recorded(gpus: Cuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    gpus("a", "b")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(cuda, "DRIVER", tmp_path / "version")
    cuda.DRIVER.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build\nGCC 13\n"
    )
    found = environment(configure(ComputeSettings(device="cuda:1")))
    expected = {
        "device": "cuda:1", "device_name": "b", "capability": "9.0", "cuda": "13.0", "cudnn": 91900,
        "driver": "580.159.04", "tf32": "off", "deterministic": True,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    off = environment(configure(ComputeSettings(device="cuda", deterministic=False)))
    assert off["deterministic"] is False
    assert not {"cuda", "driver", "tf32"} & set(environment(torch.device("cpu")))


def test_a_driver_that_nothing_tells_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import pynvml

    monkeypatch.setattr(cuda, "DRIVER", tmp_path / "absent")
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: b"570.1")
    assert cuda.driver_version() == "570.1"
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: 1 / 0)
    assert cuda.driver_version() is None


def test_determinism_does_not_fill_memory_and_ends_with_its_run(gpus: Cuda) -> None:
    gpus("a")
    configure(ComputeSettings(device="cuda"))
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is False  # type: ignore[attr-defined]
    configure(ComputeSettings(device="cuda", deterministic=False))
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operator_without_a_deterministic_kernel_is_named_once() -> None:
    set_deterministic(True)

    def stages() -> Iterator[Event]:
        yield StageStarted(stage="teachers")
        for _ in range(2):  # PyTorch has no deterministic one anywhere
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
            yield StageStarted(stage="distillation")

    for _ in range(2):  # another run in this process is told again
        found = list(with_operators(stages()))  # type: ignore[arg-type]
        assert [type(event) for event in found] == [StageStarted, Notice, StageStarted, StageStarted]
        assert isinstance(found[1], Notice)
        assert found[1].message.startswith("put_ has no deterministic kernel on this device")
        assert found[1].about == "deterministic: put_"
        set_deterministic(True)


def test_other_warnings_are_shown_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    set_deterministic(True)
    set_deterministic(True)
    warnings.filterwarnings("always")
    warnings.warn("something else", UserWarning, stacklevel=1)
    warnings.warn("grid_sampler does not have a deterministic implementation, but you set ...", stacklevel=1)
    assert shown == ["something else"]
    assert determinism._found == ["grid_sampler"]


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("cumsum_cuda_kernel does not have a deterministic implementation, but you", "cumsum_cuda_kernel"),
        ("Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or ..., but this "
         "operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2.", "CuBLAS"),
        ("Memory Efficient attention defaults to a non-deterministic algorithm.", "Memory Efficient attention"),
        ("torch.jit.script is deprecated", None),
    ],
)  # fmt: skip
def test_pytorchs_warnings_name_the_operator(message: str, name: str | None) -> None:
    assert operator_named(message) == name


def test_tf32_is_as_before_after_a_while_without() -> None:
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    try:
        convolutions.allow_tf32, products.allow_tf32 = True, False
        with without_tf32():
            assert not convolutions.allow_tf32 and not products.allow_tf32
        assert convolutions.allow_tf32 and not products.allow_tf32
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
