"""`tesla trust`."""

from typing import Annotated

import typer


def trust(
    network: Annotated[str, typer.Argument(help="package.module:callable", metavar="NETWORK", show_default=False)],
) -> None:
    """Let settings files name this network, or this method or dataset of a plugin: it is code, and runs as you.

    Only for the place it is imported from now; what you type after --set network.name needs no more consent.

    Examples:

        tesla trust my_nets:WideNet

        tesla trust tesla_rings:find_rings
    """
    from rich.console import Console

    from engine.settings.trust import trust as consent
    from tesla_tui.render.words import literal

    place = consent(network)
    Console().print(f"Settings may now name [bold]{literal(network)}[/], from {literal(place)}.", highlight=False)
