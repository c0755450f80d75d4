"""Datasets: sources -> a decoded uint8 cache -> batches in the network's input space; and augmentation."""

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
