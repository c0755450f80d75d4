"""Preferences for the live screens: `tui.toml` in the user's configuration folder. Every key is optional."""

import os
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.errors import SettingsError
from engine.settings.tables import read_toml
from engine.storage.versions import check_format
from tesla_tui.render.alert import Alert

Images = Literal["auto", "blocks", "kitty", "sixel"]

FORMAT = 1
"""Version of the file, its optional key `format`."""

IMAGES_ENV = "TESLA_IMAGES"
FILE_ENV = "TESLA_TUI_CONFIG"


class Preferences(BaseModel):
    """The file's contents."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True)

    theme: str = "tesla-dark"
    """tesla-dark, tesla-light, high-contrast, colour-blind, or a theme of Textual, except its ansi- ones."""
    images: Images = "auto"
    """How images are drawn: blocks (two pixels per character, works anywhere), kitty, sixel, or auto to detect."""
    refresh: Annotated[float, Field(ge=0.1, le=60)] = 0.5
    """Minimum seconds between two reads of the run's files."""
    log_scale: bool = False
    """Draw the matching loss on a logarithmic scale from the start."""
    smoothing: Annotated[int, Field(ge=0, le=3)] = 2
    """Smoothing of the trend: 0 off, 1 low, 2 mid, 3 high."""
    alert: Alert = "bell"
    """When a run of a minute or more ends or fails: bell, osc9 (a notification of the desktop) or off."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Key bindings by the action ids listed in the help (?): `pause = "p"`, several with commas."""


def preferences_file() -> Path:
    """Where the file is, existing or not."""
    named = os.environ.get(FILE_ENV)
    return Path(named) if named else platformdirs.user_config_path("tesla") / "tui.toml"


def load_preferences() -> Preferences:
    """The user's preferences; the defaults if there is no file.

    Raises:
        SettingsError: not TOML, an unknown key or a wrong value.
    """
    path = preferences_file()
    try:
        table = read_toml(path)
        check_format(table.pop("format", None), FORMAT, path)
        found = Preferences.model_validate(table)
    except FileNotFoundError:
        found = Preferences()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        keys = ", ".join(Preferences.model_fields)
        raise SettingsError(f"`{key}` in {path}: {first['msg']}.", f"Known keys: {keys}.") from error
    forced = os.environ.get(IMAGES_ENV)
    if forced:
        if forced not in Images.__args__:  # type: ignore[attr-defined]
            raise SettingsError(f"Invalid value {IMAGES_ENV}={forced}.", "Use auto, blocks, kitty or sixel.")
        found = found.model_copy(update={"images": forced})
    return found
