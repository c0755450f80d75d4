"""`tesla trust`."""

from typing import Annotated

import typer


def trust(
    network: Annotated[str, typer.Argument(help="package.module:callable", metavar="NETWORK", show_default=False)],
) -> None:
    """Allow settings files to load your own network, or the method or dataset of a plugin.

    Its code runs with your permissions. The consent covers only the file it is imported from now. Networks given with
    --set network.name need none.

    Examples:

        tesla trust my_nets:WideNet

        tesla trust tesla_rings:find_rings
    """
    from rich.console import Console

    from engine.settings.trust import trust as consent
    from tesla_tui.render.words import literal

    place = consent(network)
    Console().print(f"Settings files may now load [bold]{literal(network)}[/] from {literal(place)}.", highlight=False)
