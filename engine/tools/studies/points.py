"""Measurements of a study that are not runs: kept one by one, so that a stopped study resumes where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError
from engine.storage.atomic import read_json, write_json
from engine.storage.reading import exists


class Points:
    """The measured points of one study.

    Args:
        folder: of the study.
        identity: everything a point depends on besides its own key; points of another identity are not used.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        text = json.dumps(identity, sort_keys=True, default=str)
        self._folder = folder / "points" / hashlib.sha256(text.encode()).hexdigest()[:12]
        self._identity = identity

    def get(self, key: str) -> dict[str, Any] | None:
        """A point, if it was measured."""
        try:
            found = read_json(self._folder / f"{key}.json")
        except (FileNotFoundError, CorruptFileError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a point."""
        if not exists(self._folder / "identity.json"):
            write_json(self._folder / "identity.json", json.loads(json.dumps(self._identity, default=str)), tidy=True)
        write_json(self._folder / f"{key}.json", dict(value), tidy=True)
