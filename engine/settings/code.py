"""Importing what a table names: `package.module:object`."""

import importlib
from typing import Any


def load_object(target: str) -> Any:
    """The object of a built-in import path, or of one with consent."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
