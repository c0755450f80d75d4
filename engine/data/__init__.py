"""Datasets: sources -> a decoded uint8 cache -> batches in the network's input space; and augmentation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.data.augment import Augment, draw_augment
    from engine.data.cache import cache_root, cached_dataset, open_cache, prepare_dataset, verify_cache
    from engine.data.dataset import Dataset, split_holdout
    from engine.data.registry import find_source
    from engine.data.request import DataRequest
    from engine.data.resident import ResidentImages, free_memory, resident_bytes
    from engine.data.space import InputSpace, fit_space

__all__ = [
    "Augment",
    "DataRequest",
    "Dataset",
    "InputSpace",
    "ResidentImages",
    "cache_root",
    "cached_dataset",
    "draw_augment",
    "find_source",
    "fit_space",
    "free_memory",
    "open_cache",
    "prepare_dataset",
    "resident_bytes",
    "split_holdout",
    "verify_cache",
]

_MODULES = ("dataset", "request", "registry", "cache", "augment", "resident", "space")


def __getattr__(name: str) -> Any:
    # Imported when asked for: the processes that decode need Pillow, not PyTorch (two seconds and 200 MB each).
    if name in __all__:
        for module in _MODULES:
            found = import_module(f"engine.data.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
