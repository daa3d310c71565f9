"""`nearsql serve FILE`: the file's pages in a browser, by Datasette's own server."""

import contextlib
import secrets
import socket
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

import click

from nearsql.pipeline.console import UserError, say
from nearsql.udfs.connection import open_database

# On one's own machine a search may take its time; Datasette's default is 1,000 ms, for strangers.
SQL_TIME_LIMIT_MS = 10_000

# How long the browser waits for the server to answer, in seconds.
START_LIMIT = 60


# How long the link that lets its user write can be followed, in seconds.
LINK_LIMIT = 3600


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", default=8001, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--open/--no-open", "open_browser", default=True, help="Open the browser.")
@click.option("--read-only", is_flag=True, help="Nobody may save anything through the pages.")
def command(file: Path, port: int, host: str, open_browser: bool, read_only: bool) -> None:
    """Open the pages of FILE in a browser: overview, map, search, clusters, items, and all tables.

    The browser that it opens may save selections, tags, names and decisions: by a link that works once,
    signed with a secret of this start. Everybody else only reads.
    """
    open_database(file, read_only=True).close()  # says what is wrong with a file that is not ours
    _refuse_used_port(host, port)
    import uvicorn
    from datasette.utils import tilde_encode

    served = _datasette(file)
    page = f"/-/nearsql/{tilde_encode(file.stem)}"
    link = page if read_only else one_time_link(served, page)
    url = f"http://{_reachable(host)}:{port}"
    say(f"{file} is served at {url}{page} (Ctrl-C ends it)")
    if not read_only and not open_browser:
        say(f"to save things through the pages, open {url}{link} once")
    if open_browser:
        threading.Thread(
            target=_open_when_ready, args=(host, port, url + link), daemon=True
        ).start()
    with contextlib.suppress(KeyboardInterrupt):
        # No log of requests: it would hold the link.
        uvicorn.run(served.app(), host=host, port=port, log_level="warning", lifespan="on")


def _datasette(file: Path) -> Any:
    """Datasette over the file. The plugin comes with its entry points, as it does for `datasette FILE`."""
    from datasette.app import Datasette

    served = Datasette(
        [str(file)],
        settings={"sql_time_limit_ms": SQL_TIME_LIMIT_MS},
        secret=secrets.token_hex(32),
    )
    if hasattr(served, "root_enabled"):  # 1.0; in 0.65 root may do everything anyway
        served.root_enabled = True
    return served


def one_time_link(served: Any, page: str) -> str:
    """The path that sets the cookie of the actor root, once, and then leads to the page."""
    said = {"once": secrets.token_hex(16), "until": int(time.time()) + LINK_LIMIT, "to": page}
    return f"/-/nearsql-enter?token={served.sign(said, 'nearsql-enter')}"


def _reachable(host: str) -> str:
    """The host as an address names it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{name}]" if ":" in name else name


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
