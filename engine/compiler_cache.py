"""Where the compiler keeps its results: in the workspace, so that the second run of a shape starts in seconds.

PyTorch makes its cache folder as soon as the compiler is imported, which eager code does too, and notes a folder of its
own choice in the environment. So a workspace is only remembered at first, and told to the compiler by whoever compiles.
"""

import os
from pathlib import Path

FOLDER = ".compiled"
"""The cache in a workspace."""

REMEMBERED = "TESLA_COMPILED"
"""Environment variable with the folder to use, so that processes started from here use it as well."""

PYTORCH = "TORCHINDUCTOR_CACHE_DIR"
"""PyTorch's variable; a user's choice in it stands."""


def keep_compiled(workspace: Path) -> None:
    """Remember where what is compiled from now on is to be kept."""
    os.environ[REMEMBERED] = str((workspace / FOLDER).resolve())


def use_cache() -> None:
    """Tell the compiler of the remembered folder. Call before something is compiled."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if REMEMBERED in os.environ and os.environ.get(PYTORCH, default_cache_dir()) == default_cache_dir():
        os.environ[PYTORCH] = os.environ[REMEMBERED]
