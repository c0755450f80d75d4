"""`tesla serve`."""

from typing import Annotated

import typer

from tesla_tui.cli.options import Ipc, RunName, WorkspacePath, check_watched


def serve(
    workspace: WorkspacePath,
    ipc: Ipc = None,
    run: RunName = None,
    watch: Annotated[bool, typer.Option("--watch", help="Read-only: start and stop no run.")] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="TESLA_TOKEN",
            help="Token that browsers must present. Default: random if --host is reachable from other machines, and on "
            "macOS or with --public-url; none otherwise. Prefer the variable: other users can see command lines.",
            show_default=False,
        ),
    ] = None,
    public_url: Annotated[
        str | None,
        typer.Option(
            "--public-url",
            metavar="URL",
            help="Address that browsers use when a proxy, for example with HTTPS, is in front of this server. Requires "
            "a token.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the live screens to a browser.

    Only this machine can connect unless --host is given. Closing the page detaches: the run continues, and
    opening the page again reattaches.

    Examples:

        tesla serve my-run

        tesla serve my-run --ipc 10

        ssh -L 8000:localhost:8000 gpu-box tesla serve my-run

        tesla serve my-run --public-url https://box.example
    """
    import os
    import shlex
    import signal
    import socket
    import sys
    from urllib.parse import quote

    from rich.console import Console

    from engine.errors import UsageError, system_reason
    from engine.runs.workspace import Workspace
    from engine.runtime.parent import child_environment
    from tesla_tui.cli.result import print_commands
    from tesla_tui.live.preferences import load_preferences
    from tesla_tui.render.words import literal
    from tesla_tui.web.server import TeslaServer, choose_token, is_loopback, public_origin

    check_watched(Workspace(workspace), run, ipc, watch)
    load_preferences()
    console = Console()
    origin = public_origin(public_url) if public_url is not None else None
    asked = choose_token(host, token, proxied=origin is not None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host}:{port}: {system_reason(error)}.", "Choose another --port or --host."
        ) from error
    # For a shell, which gives its place to the screens. They save and end when the server is killed.
    words = ["exec", sys.executable, "-P", "-m", "tesla_tui.main", "tui", str(workspace.resolve())]
    words += ["--images", "blocks"]
    os.environ.update(child_environment(number=signal.SIGHUP))
    words += ["--ipc", str(ipc)] if ipc is not None else []
    words += ["--run", run] if run is not None else []
    words += ["--watch"] if watch else []
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    # A token from the environment is secret; what is printed is often kept in a log.
    secret = asked is not None and asked == os.environ.get("TESLA_TOKEN")
    shown_token = "$TESLA_TOKEN" if secret else quote(asked or "", safe="")
    address = (origin or f"http://{shown}:{port}") + "/" + (f"?token={shown_token}" if asked else "")
    print_commands(console, f"Serving {literal(workspace)}. Open:", address)
    if origin is not None:
        console.print(f"The proxy must pass requests on to http://{shown}:{port}/.", highlight=False)
    elif not is_loopback(host):
        console.print(
            "[yellow]Anyone with this address can start and stop runs as you. The connection is not encrypted.[/]",
            highlight=False,
        )
    console.print("Ctrl-C stops the server; detached runs continue.", style="dim", highlight=False)
    TeslaServer(shlex.join(words), host, port, asked, origin).serve()
