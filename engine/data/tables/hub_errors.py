"""Why a dataset of the Hugging Face hub cannot be opened: the library's many errors, each as a sentence."""

import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.data.request import DataRequest
from engine.data.tables.configs import ask_for_config, unknown_config
from engine.errors import system_reason
from engine.settings.datasets import DatasetFacts

PAGE = "https://huggingface.co/datasets"
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
FULL = (errno.ENOSPC, errno.EDQUOT)

Words = tuple[bool, str, str]
"""Whether a setting is to blame, the message, and what to do."""


def explain(
    error: Exception, request: DataRequest, facts: DatasetFacts, configs: Callable[[], list[str]], cache: Path
) -> Words:
    """The reason of an error, and what to do.

    Args:
        error: what `datasets` raised.
        request: what was asked for.
        facts: on the dataset.
        configs: the configurations, from the hub; may raise.
        cache: the library's cache.
    """
    chain = list(_causes(error))
    texts = [f"{type(each).__name__}: {each}" for each in chain]
    text = "\n".join(texts)
    found = (
        _about_config(text, request, facts, configs)
        or _about_disk(chain, facts, cache)
        or _about_access(text, facts)
        or _about_contents(text, facts, cache)
    )
    return found or _about_network(error, request, facts)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__ or error


def _about_config(
    text: str, request: DataRequest, facts: DatasetFacts, configs: Callable[[], list[str]]
) -> Words | None:
    missing = "Config name is missing" in text
    unknown = re.search(r"BuilderConfig '?.*'? not found|Couldn't find cache for .* for config", text) is not None
    if not missing and not (unknown and request.config):
        return None
    listed = re.search(r"[Aa]vailable(?: configs(?: in the cache)?)?: \[(.*?)\]", text)
    names = re.findall(r"'([^']*)'", listed[1]) if listed else []
    if not names:
        try:
            names = configs()
        except Exception:  # whatever the hub answers, the first error counts
            names = []
    if missing:
        return (True, *ask_for_config(facts.hub, names)) if names else None
    return (True, *unknown_config(facts.hub, request.config or "", names))


def _about_disk(chain: list[BaseException], facts: DatasetFacts, cache: Path) -> Words | None:
    for each in chain:
        if not isinstance(each, OSError):
            continue
        where = each.filename or cache
        if each.errno in READ_ONLY:
            return (
                False,
                f"The cache of Hugging Face cannot be written: {where} ({system_reason(each)}).",
                f"{facts.hub} is kept there. Set HF_HOME to a folder that you may write to, or change its mode.",
            )
        if each.errno in FULL:
            return (
                False,
                f"There is no room for {facts.hub} in the cache of Hugging Face: {where} ({system_reason(each)}).",
                "Free some space, or set HF_HOME to a folder on a larger disk.",
            )
    return None


def _about_access(text: str, facts: DatasetFacts) -> Words | None:
    hub = facts.hub
    if re.search(r"gated|awaiting a review", text, re.IGNORECASE):
        return (
            False,
            f"{hub} is gated: its owner decides who may download it.",
            f"Ask for access at {PAGE}/{hub}, then log in with `hf auth login`, or set HF_TOKEN.",
        )
    if re.search(r"Revision.*doesn't exist|RevisionNotFound", text):
        return False, f"The hub has no such revision of {hub}.", f"See {PAGE}/{hub} for what there is."
    if re.search(r"401 Client Error|403 Client Error|Invalid (username|credentials)", text):
        return (
            False,
            f"The hub refuses access to {hub}.",
            "Log in with `hf auth login`, or set HF_TOKEN to a token that may read it.",
        )
    if re.search(r"DatasetNotFoundError|RepositoryNotFound|404 Client Error", text):
        return (
            False,
            f"The hub has no public dataset {hub}.",
            "Check its spelling, owner/name. If it is private, log in with `hf auth login`, or set HF_TOKEN.",
        )
    return None


def _about_contents(text: str, facts: DatasetFacts, cache: Path) -> Words | None:
    hub = facts.hub
    if re.search(r"[Dd]ataset scripts are no longer supported|trust_remote_code", text):
        return (
            False,
            f"{hub} is a script that would have to run on this machine; tesla does not run it.",
            f"Use the hub's own copy in Parquet: `hf download {hub} --repo-type dataset --revision "
            "refs/convert/parquet --local-dir DIR`, then set dataset.path to that folder.",
        )
    if re.search(r"DataFilesNotFoundError|EmptyDatasetError|No \(supported\) data files", text):
        return False, f"{hub} holds no files that are a table or images.", f"See {PAGE}/{hub} for what there is."
    if re.search(r"NonMatching|ExpectedMore|ChecksumVerification|ArrowInvalid|Parquet magic bytes", text):
        return (
            False,
            f"The files of {hub} in {cache} are incomplete or damaged.",
            f"Delete its folder there (hub/datasets--{hub.replace('/', '--')}), and try again.",
        )
    return None


def _about_network(error: Exception, request: DataRequest, facts: DatasetFacts) -> Words:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    extra = f" {facts.offline}" if facts.offline else ""
    return (
        False,
        f"{request.name} could not be downloaded from the Hugging Face hub ({facts.hub}): {reason.rstrip('.')}.",
        "Check the network, or download its Parquet files elsewhere and set dataset.path to their folder."
        f"{extra} The embedded dataset `digits` needs no network.",
    )
