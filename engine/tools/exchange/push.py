"""Uploading an export to the Hugging Face hub as a dataset, in one commit."""

import os
import re
from collections.abc import Generator
from pathlib import Path

from engine.errors import TeslaError, UsageError
from engine.events import Event, Progress, with_progress
from engine.runtime.threads import run_in_thread
from engine.session.finished import STAGE

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
OWN = ["images/**", "decoded/**", "data/**", "stored/**"]
"""What an earlier export in the repository had in these folders, and this one has not, is deleted."""
TOKENS = "https://huggingface.co/settings/tokens"


def check_push(repo: str, *, token: bool = True) -> None:
    """Check what can be checked before the work: the name, and that there is a token. Contacts nothing.

    Args:
        repo: `owner/name`.
        token: whether one is needed.

    Raises:
        UsageError: one of them is wrong.
    """
    if not NAME.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UsageError(f"{repo!r} is not the name of a dataset on the hub.", "Give owner/name, such as alice/digits.")
    if not token:
        return
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise UsageError(f"HF_HUB_OFFLINE is set, so {repo} cannot be written.", "Unset it, or leave out --push.")
    if not get_token():
        raise UsageError(
            f"Writing {repo} needs a token of the Hugging Face hub, and there is none.",
            f"Log in with `hf auth login`, or set HF_TOKEN. A token that may write: {TOKENS}",
        )


def dataset_url(repo: str) -> str:
    """The page of a dataset on the hub, or on the one that HF_ENDPOINT names."""
    return f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/datasets/{repo}"


def push_folder(folder: Path, repo: str, *, private: bool = False) -> Generator[Event, None, None]:
    """Upload an export; the repository is made if there is none. Use as `yield from`.

    All files are one commit: closing the generator abandons the upload, and the repository stays as it was unless the
    hub has accepted that commit already.

    Args:
        folder: an export.
        repo: `owner/name`.
        private: whether a new repository is private.

    Raises:
        TeslaError: the hub refuses, or cannot be reached.
    """
    files = sum(path.is_file() for path in folder.rglob("*"))
    at = Progress(stage=STAGE, done=0, total=files, unit="files")
    yield from with_progress(run_in_thread(lambda: _upload(folder, repo, private)), at, f"uploading to {repo}")


def _upload(folder: Path, repo: str, private: bool) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=folder, repo_type="dataset", delete_patterns=OWN, commit_message="tesla export"
        )
    except Exception as error:  # of httpx, requests, hf_xet or the system, by the library's version
        raise _explained(error, repo) from error


def _explained(error: Exception, repo: str) -> TeslaError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return TeslaError(
            f"The hub does not let this token write {repo}.",
            f"Check the owner's name, and that the token may write: {TOKENS}",
        )
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return TeslaError(
        f"The upload to {dataset_url(repo)} failed: {reason[0].rstrip('.')}.",
        "Check the network, and run the same command again; the repository has all files of an export or none.",
    )
