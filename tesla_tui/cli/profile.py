"""The option --profile."""

from collections.abc import Sequence
from typing import Annotated

import typer

PROFILE = "profile"

Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="Use the protocol of a publication as printed, instead of presets: mtt, tesla-paper, tesla-code, datm, "
        "frepo, dm, dsa or dc. none: without the one that tesla.toml names.",
        metavar="NAME",
        show_default=False,
    ),
]


def with_profile(overrides: Sequence[str] | None, profile: str | None) -> tuple[str, ...]:
    """The overrides of a command line, `--profile` among them: it is the setting `profile`.

    Raises:
        UsageError: `--set` names another one.
    """
    from engine.errors import UsageError
    from engine.settings.overrides import parse_override, written

    given = tuple(overrides or ())
    if profile is None:
        return given
    for key, value in map(parse_override, given):
        if key == PROFILE and value != profile:
            raise UsageError(f"--profile {profile} contradicts --set profile={value}.", "Use only one of the two.")
    return (*given, f"{PROFILE}={written(profile)}")
