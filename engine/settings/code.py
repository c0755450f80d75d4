"""Importing what a table names: `package.module:object`."""

import importlib
from typing import Any


def load_object(target: str) -> Any:
    """The object of an import path of our own, or of one that was consented to."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
