"""`sim`: a second device that every machine has, with the rules of an accelerator and the numbers of the CPU.

    sim.install()                     once in a process, before the first backward pass
    with sim.recorded() as record:    what made the host wait, and what was drawn on the device

A tensor on it is a wrapper around one on the CPU. As on CUDA, an operation on both devices fails, but for scalars of
the host and indices. A transfer blocks unless it comes from pinned memory with `non_blocking`, and so does whatever
needs a number on the host: `item`, `nonzero`, a mask as an index.

PyTorch's hook for devices in Python (torch.utils.backend_registration) is experimental and stays for the process:
these tests have a process of their own, `pytest --device sim`. An error inside a backward pass aborts that process
(torch 2.13); the last traceback before it says where.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten

REPOSITORY = Path(__file__).parents[1]
TORCH = str(Path(torch.__file__).parent)

INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
"""Operations that take indices of the host, which are sent first."""
COUNTING = (
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default,
    aten.bincount.default, aten._unique2.default, aten.repeat_interleave.Tensor,
)  # fmt: skip
"""Operations whose result, or its size, the host waits for."""
FACTORIES = (
    "empty.memory_format", "empty_strided", "zeros", "ones", "full", "eye", "eye.m", "scalar_tensor",
    "arange", "arange.start", "arange.start_step", "linspace",
)  # fmt: skip
"""Operations without a tensor among their arguments. Those that draw are made of `empty` and a draw in place."""


@dataclass
class Record:
    """What happened on the device, by the line that asked for it."""

    blocking: list[str] = field(default_factory=list)
    """Of the recording thread."""
    draws: list[str] = field(default_factory=list)
    """Of any thread."""
    thread: int = field(default_factory=get_ident)


_records: list[Record] = []
_pinned: dict[int, torch.UntypedStorage] = {}
_float64 = [True]


class SimTensor(torch.Tensor):
    """A tensor on `sim`; `host` has its numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls: type[Self], host: Tensor) -> Self:
        if host.dtype is torch.float64 and not _float64[0]:
            raise TypeError("sim does not support float64, as MPS does not. Use float32 instead.")
        made = torch.Tensor._make_wrapper_subclass(
            cls, host.shape, strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            device=torch.device("sim", 0),
        )  # fmt: skip
        made.host = host
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.host.untyped_storage()

    def __repr__(self) -> str:
        return f"sim({self.host!r})"


def _run(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do an operation that has a tensor on `sim` among its arguments."""
    if torch.Tag.nondeterministic_seeded in op.tags:
        for record in _records:
            record.draws.append(f"{op} at {_caller()}")
    if op is aten.copy_.default:
        return _copy(args[1], args[0], args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if op is aten._to_copy.default and kwargs.get("device", args[0].device).type == "cpu":
        if not kwargs.get("non_blocking"):
            _blocked("to the host")
        return op(args[0].host, **kwargs)
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
    _check_devices(op, args[:1] + args[2:] if op in INDEXING else (args, kwargs))
    if op in COUNTING or (op in INDEXING and _waits(args)):
        _blocked(str(op))
    wanted = kwargs.get("device")
    kwargs = {name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")}
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
    host_args, host_kwargs = tree_map_only(SimTensor, lambda tensor: tensor.host, (args, kwargs))
    found = op(*host_args, **host_kwargs)
    if torch.Tag.inplace_view in op.tags:  # `unsqueeze_`: the wrapper's shape changes as well
        with torch._C._DisableTorchDispatch():
            op(*args, **kwargs)
    if wanted is not None and wanted.type == "cpu":
        return found
    # What an operation in place returns is its own argument.
    known = {id(tensor.host): tensor for tensor in tensors if isinstance(tensor, SimTensor)}
    return tree_map_only(Tensor, lambda tensor: known[id(tensor)] if id(tensor) in known else SimTensor(tensor), found)


def _check_devices(op: Any, values: Any) -> None:
    for tensor in tree_flatten(values)[0]:
        if isinstance(tensor, Tensor) and not isinstance(tensor, SimTensor) and tensor.ndim:
            raise RuntimeError(f"{op}: expected all tensors to be on the same device, but found sim:0 and cpu!")


def _waits(args: tuple[Any, ...]) -> bool:
    """Whether indices have to be sent, or are masks, whose true elements have to be counted."""
    indices = [index for index in args[1] if index is not None]
    if any(not isinstance(index, SimTensor) for index in indices):
        return True
    masks = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    return masks and not (len(args) > 2 and args[2].ndim == 0)  # filling a mask with one number needs no count


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """`target.copy_(source)`, where at least one of them is on `sim`."""
    here = [tensor for tensor in (source, target) if not isinstance(tensor, SimTensor)]
    if here and not (non_blocking and here[0].untyped_storage().data_ptr() in _pinned):
        _blocked("from the host" if here[0] is source else "to the host")
    raw = [tensor.host if isinstance(tensor, SimTensor) else tensor for tensor in (source, target)]
    raw[1].copy_(raw[0])
    return target


def _caller() -> str:
    """The line that asked, the nearest one outside of PyTorch and of this file."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(TORCH)):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"{path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path}:{frame.f_lineno}"


def _blocked(what: str) -> None:
    for record in _records:
        if record.thread == get_ident():
            record.blocking.append(f"{_caller()} ({what})")


@contextmanager
def recorded() -> Iterator[Record]:
    """Record what happens on the device."""
    _records.append(Record())
    try:
        yield _records[-1]
    finally:
        _records.pop()


@contextmanager
def without_float64() -> Iterator[None]:
    """Refuse float64, as MPS does."""
    _float64[0] = False
    try:
        yield
    finally:
        _float64[0] = True


def _pin(tensor: Tensor) -> Tensor:
    """For `Tensor.pin_memory`. What was pinned stays alive: its address then means nothing else."""
    pinned = torch.empty_like(tensor, memory_format=torch.contiguous_format).copy_(tensor)
    _pinned[pinned.untyped_storage().data_ptr()] = pinned.untyped_storage()
    return pinned


def _factory(name: str) -> Callable[..., Tensor]:
    packet, _, overload = name.partition(".")
    op = getattr(getattr(aten, packet), overload or "default")

    def make(*args: Any, **kwargs: Any) -> Tensor:
        kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        return SimTensor(op(*args, **kwargs, device=torch.device("cpu")))

    return make


class _Backend(_DummyBackendModule):
    """The module `torch.sim`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Types of `torch.autocast`."""
        return [torch.bfloat16]


_libraries: list[torch.library.Library] = []


def install() -> None:
    """Make `torch.device("sim")`. Before the first backward pass of the process, which counts the devices."""
    if _libraries:
        return
    _setup_privateuseone_for_python_backend("sim", backend_module=_Backend())
    library = torch.library.Library("aten", "IMPL")
    for name in FACTORIES:
        library.impl(name, _factory(name), "PrivateUse1")
    library.impl("_copy_from", _copy, "PrivateUse1")  # `torch.tensor(data, device="sim")`
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # autocast changes nothing
    _libraries.extend([library, everything])
    torch.Tensor.pin_memory = lambda self, device=None: _pin(self)
