"""The settings of a run, frozen in its settings.toml with a checksum and the origin of each value."""

import hashlib
from pathlib import Path

import tomli_w

from engine.errors import CorruptFileError, SettingsError
from engine.settings.facts import AFFECTS, FIELDS, value_before
from engine.settings.layers import EffectiveSettings, resolve_settings
from engine.settings.tables import FORMAT, MOST_TOML, Flat, flatten, nest, read_toml
from engine.settings.validation import check_keys, validated
from engine.storage.untrusted import read_bounded
from engine.storage.versions import check_format

SEAL = b"# sha256 of the lines above: "
"""Before the checksum at the end of frozen settings. Files of older versions have none."""


def settings_to_toml(effective: EffectiveSettings) -> str:
    """The effective settings as TOML, provenance included; `frozen_settings` reads it back."""
    values = {key: value for key, value in effective.flat().items() if value is not None}
    head = "# The effective settings of this run, frozen when it started. Edit ../../tesla.toml instead.\n\n"
    body = head + tomli_w.dumps({"format": FORMAT, **nest(values), "provenance": dict(effective.origins)})
    return body + SEAL.decode() + hashlib.sha256(body.encode()).hexdigest() + "\n"


def frozen_settings(path: Path) -> EffectiveSettings:
    """The settings a run was started with, from its settings.toml.

    Raises:
        SettingsError: the file is damaged.
        OSError: it cannot be read.
        NewerFormatError: a newer version wrote it.
    """
    try:
        text = read_bounded(path, MOST_TOML)
    except CorruptFileError as error:
        raise SettingsError(error.message, error.hint) from error
    table = read_toml(path)
    check_format(table.pop("format", None), FORMAT, path)
    body, mark, seal = text.rpartition(SEAL)
    if mark and hashlib.sha256(body).hexdigest() != seal.strip().decode(errors="replace"):
        raise SettingsError(
            f"{path} was changed after the run froze its settings: it does not match its checksum.",
            "Edit tesla.toml instead; `tesla doctor WORKSPACE --repair` restores this file from the journal.",
        )
    origins = table.pop("provenance", {})
    if not isinstance(origins, dict) or not all(isinstance(origin, str) for origin in origins.values()):
        raise SettingsError(f"`provenance` in {path} must name where each value comes from.", "Remove that table.")
    values = flatten(table)
    if not values or not set(values) <= set(origins):  # every value has its origin
        raise SettingsError(f"{path} is truncated.", "`tesla doctor WORKSPACE --repair` restores it from the journal.")
    check_keys(values, str(path))
    values = {**_before(values), **values}
    return EffectiveSettings(validated(values, origins), {key: origins.get(key, "default") for key in FIELDS})


def _before(values: Flat) -> Flat:
    """What a run of an older version did where a setting did not exist yet, if the default is something else."""
    before = {key: value_before(key) for key in AFFECTS if key not in values}
    return {key: value for key, value in before.items() if value != FIELDS[key].default}


def recovered_settings(values: Flat, toml: Path | None) -> EffectiveSettings:
    """The settings of a run from the flat values in its journal, which does not record their origins.

    A value that the workspace alone would not give counts as set on the command line, so that a later command keeps it.

    Raises:
        SettingsError: not the settings of this version.
    """
    check_keys(values, "journal")
    values = {**_before(values), **values}
    settings = validated(values, dict.fromkeys(values, "journal"))
    effective = EffectiveSettings(settings, dict.fromkeys(FIELDS, "command line"))
    try:
        base = resolve_settings(toml, ipc=settings.distill.ipc)
    except SettingsError:
        return effective
    said, flat = base.flat(), effective.flat()
    origins = {key: base.origins[key] if said[key] == flat[key] else "command line" for key in FIELDS}
    return EffectiveSettings(settings, origins)
