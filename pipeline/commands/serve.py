"""`nearsql serve FILE`: the file's pages in a browser, by Datasette's own server."""

import socket
import threading
import time
import webbrowser
from pathlib import Path

import click

from nearsql.pipeline.console import UserError, say
from nearsql.udfs.connection import open_database

# On one's own machine a search may take its time; Datasette's default is 1,000 ms, for strangers.
SQL_TIME_LIMIT_MS = 10_000

# How long the browser waits for the server to answer, in seconds.
START_LIMIT = 60


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", default=8001, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--open/--no-open", "open_browser", default=True, help="Open the browser.")
def command(file: Path, port: int, host: str, open_browser: bool) -> None:
    """Open the pages of FILE in a browser: overview, map, clusters, items, and all tables."""
    open_database(file, read_only=True).close()  # says what is wrong with a file that is not ours
    _refuse_used_port(host, port)
    from datasette.cli import cli
    from datasette.utils import tilde_encode

    address = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else host
    if ":" in address and not address.startswith("["):
        address = f"[{address}]"
    url = f"http://{address}:{port}/-/nearsql/{tilde_encode(file.stem)}"
    say(f"{file} is served at {url} (Ctrl-C ends it)")
    if open_browser:
        threading.Thread(target=_open_when_ready, args=(host, port, url), daemon=True).start()
    # The plugin comes with Datasette's entry points, as it does for `datasette FILE`.
    cli.main(
        args=[
            "serve",
            str(file),
            "--host",
            host,
            "--port",
            str(port),
            "--setting",
            "sql_time_limit_ms",
            str(SQL_TIME_LIMIT_MS),
        ],
        prog_name="nearsql serve",
        standalone_mode=False,
    )


def _refuse_used_port(host: str, port: int) -> None:
    """Asks for the port before the server does, because the server's own words are a traceback."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be used ({error.strerror}): choose another with --port"
        ) from error


def _open_when_ready(host: str, port: int, url: str) -> None:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            webbrowser.open(url)
            return
