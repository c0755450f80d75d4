"""Which operators PyTorch dispatches, to check what runs on a device that is not here: `meta` dispatches like any."""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode


class Operators(TorchDispatchMode):
    """What is dispatched, and what of it gives float64."""

    def __init__(self) -> None:
        super().__init__()
        self.ops: set[OpOverload] = set()
        self.double: set[OpOverload] = set()
        """Those that give float64."""

    @property
    def names(self) -> set[str]:
        """Their names, with overload."""
        return set(map(str, self.ops))

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        found = result if isinstance(result, tuple | list) else (result,)
        self.ops.add(func)
        if any(isinstance(one, Tensor) and one.dtype is torch.float64 for one in found):
            self.double.add(func)
        return result
