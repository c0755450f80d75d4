"""Where the compiler keeps its results: in the user's own cache, so that the second run of a shape starts in seconds.

It holds code: shared libraries that are loaded and Python that is run, unchecked. So it is never in a
workspace, which may come from someone else, nor in the dataset cache, which several people may share, nor in PyTorch's
own choice below /tmp, whose name anyone can guess and create first; but in a folder that only this user can write.

PyTorch makes its cache folder as soon as the compiler is imported, which eager code does too, and sets its own
folder in the environment. So the folder is passed to the compiler only when something is compiled.
"""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from engine.errors import UsageError
from engine.settings import Settings

CHOSEN = "TESLA_COMPILED"
"""Environment variable with another folder to use."""

PYTORCH = "TORCHINDUCTOR_CACHE_DIR"
"""PyTorch's variable; a user's value in it is kept."""


def use_cache() -> None:
    """Tell the compiler where to store its results. Call before something is compiled.

    Raises:
        UsageError: the folder belongs to another user, or others can write to it.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(PYTORCH, default_cache_dir()) == default_cache_dir():
        os.environ[PYTORCH] = str(private_folder())


def private_folder() -> Path:
    """The cache, created if missing; a temporary folder for this process if the home cannot be written.

    Raises:
        UsageError: see `use_cache`.
    """
    folder = Path(os.environ.get(CHOSEN) or platformdirs.user_cache_path("tesla") / "compiled")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="tesla-compiled-"))
    facts = folder.stat()
    if facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"Other users can write to {folder}, and tesla runs the compiled code in it.",
            f"Run `chmod go-w {folder}`, set {CHOSEN} to your own folder, or set compute.compile = off.",
        )
    return folder.resolve()


def compiled_key(what: str, settings: Settings, network: str, images: Sequence[int], classes: int) -> str:
    """A name for something compiled: the same again for the same code, settings and shapes.

    Args:
        what: is compiled.
        settings: of the run; those that reach the compiled code count.
        network: its name.
        images: shape of the batch, (B, C, H, W).
        classes: K.
    """
    import torch

    from engine import __version__

    compute = settings.compute
    facts = [
        what, torch.__version__, __version__, network, settings.network.width, settings.network.depth,
        settings.distill.gradient, settings.labels.loss, compute.device, compute.dtype, compute.precision,
        compute.cpu_kernels, compute.deterministic, list(images), classes,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def remember(key: str) -> None:
    """Note beside the compiler's results that this was compiled here."""
    with contextlib.suppress(OSError, UsageError):
        folder = _notes()
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / key).touch()


def was_compiled(key: str) -> bool:
    """Whether this was compiled on this machine, so that it is ready in seconds unless the cache lost it."""
    try:
        return (_notes() / key).exists()
    except (OSError, UsageError):
        return False


def _notes() -> Path:
    """Where the notes are: in the folder that the compiler uses, so that they are removed with its results."""
    return Path(os.environ.get(PYTORCH) or private_folder()) / "tesla-compiled"
