"""The state that a command ends in: a digest of every file that a user gets, without moments of the clock."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from engine.storage.atomic import TEMP_MARK

PASSING = re.compile(
    r"\.lock$|/driver\.json$|\.owner\.json$|pulse\.json$|/accuracy\.json$|/\.import-|^cache/(?!datasets)|^compiled"
    r"|\.log$|request"
)
"""Files about running processes, caches, and measurements that are made again when they are missing."""

TIMED = re.compile(r"journal\.jsonl$|SHA256SUMS$|bench\.json$|\.tfevents")
"""Files whose contents depend on the clock: compared by name alone."""

CLOCKS = ("seconds", "made_at", "imported_at", "time", "pid", "since", "beat", "moved", "checksum", "pace")
"""Keys whose values are times, or depend on them."""

DATES = re.compile(rb"\d{4}-\d\d-\d\d([T ][\d:+]+( UTC)?)?|\d+(\.\d+)? (ms|s|min|h)\b")


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file in a folder, by its path there."""
    found = {}
    place = str(folder).encode()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or PASSING.search(name) or TEMP_MARK in name or _is_passing_frame(path):
            continue
        data = b"" if TIMED.search(name) else _timeless(path).replace(place, b"FOLDER")
        found[re.sub(r"events\.out\.tfevents\.\S+", "events.out.tfevents", name)] = hashlib.sha256(data).hexdigest()
    return found


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """What distinguishes a state from the one it should be, in words."""
    words = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    words += [f"{name} is too many" for name in sorted(found.keys() - wanted.keys())]
    return words + [f"{name} differs" for name in sorted(wanted.keys() & found.keys()) if wanted[name] != found[name]]


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders."""
    return [f"{path.relative_to(folder)} is left" for path in folder.rglob(f"*{TEMP_MARK}*")]


def _is_passing_frame(path: Path) -> bool:
    """Whether it is a preview frame without a checkpoint: which of those there are depends on where a run resumed."""
    if path.parent.name != "previews":
        return False
    return not (path.parents[1] / "checkpoints" / path.with_suffix(".safetensors").name).exists()


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        try:
            return json.dumps(_without(json.loads(data)), sort_keys=True).encode()
        except ValueError:  # damaged, as a case may leave it
            return data
    return DATES.sub(b"", data) if path.suffix in (".md", ".html") else data


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(part) for key, part in value.items() if key not in CLOCKS}
    return [_without(part) for part in value] if isinstance(value, list) else value
