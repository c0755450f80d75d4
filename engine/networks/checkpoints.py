"""Parts of a network that are computed again in the backward pass (`torch.utils.checkpoint`)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils import checkpoint


def without_checkpoints() -> AbstractContextManager[None]:
    """Keep what checkpoints would compute again, inside the block.

    The second computation comes when the functional call is over, so it would use the module's own parameters instead
    of those of the call: another function's derivative, in silence.
    """
    return _kept() if torch.is_grad_enabled() and not torch.compiler.is_compiling() else nullcontext()


@contextmanager
def _kept() -> Iterator[None]:
    before = checkpoint._checkpoint_without_reentrant_generator
    checkpoint._checkpoint_without_reentrant_generator = _plain
    try:
        yield
    finally:
        checkpoint._checkpoint_without_reentrant_generator = before


def _plain(*_: Any, **__: Any) -> Iterator[None]:
    """What PyTorch's generator does around a part without a gradient: nothing."""
    yield
