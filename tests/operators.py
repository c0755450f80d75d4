"""Which operators PyTorch dispatches, to check what runs on a device that is not here: `meta` dispatches like any."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operators(TorchDispatchMode):
    """What is dispatched, and in which types."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        found = result if isinstance(result, tuple) else (result,)
        self.names.add(str(func))
        self.dtypes |= {one.dtype for one in found if isinstance(one, Tensor)}
        return result
