"""The settings to measure an existing run with: its own, and the protocol that is asked for now."""

from collections.abc import Sequence

from engine.errors import CorruptFileError, UsageError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from engine.settings.facts import may_change
from engine.settings.overrides import command_layer
from engine.settings.validation import validated

PROTOCOL = ("evaluate.", "compute.")
"""Sections that tesla.toml may change for an evaluation; what made the images is the run's own."""


def evaluation_settings(workspace: Workspace, run: Run, overrides: Sequence[str] = ()) -> tuple[EffectiveSettings, str]:
    """Settings for an evaluation, and a warning; empty where tesla.toml was read.

    What made the images comes from the run's frozen settings, so that no later edit of tesla.toml stands in the way.
    From tesla.toml come the sections `evaluate` and `compute`, where it can be read.

    Args:
        workspace: of the run.
        run: an existing run.
        overrides: `key=value` texts of the command line.

    Raises:
        UsageError: an override that would change what made the images.
        SettingsError: an override that is wrong.
    """
    command = command_layer(overrides, None)
    fixed = [key for key in command if not may_change(key)]
    if fixed:
        raise UsageError(
            f"{fixed[0]} is fixed for this run.", "An evaluation can change settings of evaluate and most of compute."
        )
    frozen = run.frozen()
    values, origins, warning = frozen.flat(), dict(frozen.origins), ""
    try:
        now = workspace.settings(run=run, teachers=False)
    except (UsageError, CorruptFileError) as error:
        warning = f"{error.message} The settings that the run {run.name} was started with are used instead."
    else:
        flat = now.flat()
        for key in values:
            if key.startswith(PROTOCOL) and may_change(key):
                values[key], origins[key] = flat[key], now.origins[key]
    values.update(command)
    origins.update(dict.fromkeys(command, "command line"))
    return EffectiveSettings(validated(values, origins), origins), warning
