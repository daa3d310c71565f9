"""Datasette as the tests meet it: within this process, or as a server of its own."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

ROOT = {"id": "root"}
# Unless a test is about Datasette's time limit: how busy the machine is must not decide it.
PATIENT = {"sql_time_limit_ms": 60_000}


class Compiled(BytecodeCache):
    """The templates that a Datasette of this process has compiled: each would compile all of them anew."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was kept under the name of the file; Jinja looks whether its text is still that."""
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keeps it."""
        self._kept[bucket.key] = bucket.bytecode_to_string()


COMPILED = Compiled()


class Site:
    """A Datasette within this process, asked one request at a time."""

    def __init__(self, *paths: Path, **options: Any) -> None:
        self.runner = asyncio.Runner()
        options["settings"] = PATIENT | (options.get("settings") or {})
        self.datasette = Datasette([str(p) for p in paths], **options)
        self.runner.run(self.datasette.invoke_startup())
        self.is_first_line = not hasattr(self.datasette, "allowed")  # 0.65, not 1.0
        own = self.datasette
        templates = own.jinja_env if self.is_first_line else own._jinja_env
        templates.bytecode_cache = COMPILED
        if not self.is_first_line:
            # One, as for a server: this line's client would have it made anew for each request.
            app = own.app()
            own.app = lambda: app
        self._token = ""

    def get(self, path: str, actor: dict[str, Any] | None = None, **options: Any) -> Any:
        """The response to a GET, redirects not followed."""
        if actor is not None:
            options["cookies"] = {"ds_actor": self.datasette.sign({"a": actor}, "actor")}
        return self.runner.run(self.datasette.client.get(path, **options))

    def request(self, method: str, path: str) -> Any:
        """The response to any method."""
        return self.runner.run(self.datasette.client.request(method, path))

    def let_root(self) -> None:
        """Lets the actor root do everything, as `datasette --root` does; in 0.65 root always may."""
        if not self.is_first_line:
            self.datasette.root_enabled = True

    def post(
        self,
        path: str,
        fields: dict[str, Any],
        actor: dict[str, Any] | None = ROOT,
        *,
        as_form: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """The response to a POST as our own pages send it: a script's JSON, or a form.

        With the cookies that a browser has, and the token that it has read from a page.
        """
        if actor == ROOT:
            self.let_root()
        cookies, token = self.signed_in(actor)
        sent = {"x-csrftoken": token} if not as_form else {}
        if not as_form:
            sent |= {"accept": "application/json"}
        body = {"data": {**fields, "csrftoken": token}} if as_form else {"json": fields}
        return self.runner.run(
            self.datasette.client.post(
                path, **body, cookies=cookies, headers=sent | (headers or {})
            )
        )

    def signed_in(self, actor: dict[str, Any] | None) -> tuple[dict[str, str], str]:
        """(the cookies of an actor's browser, the token in its pages), as Datasette 0.65 wants them."""
        cookies = {}
        if actor is not None:
            cookies["ds_actor"] = self.datasette.sign({"a": actor}, "actor")
        if not self.is_first_line:
            return cookies, ""
        if not self._token:
            answer = self.get(
                "/-/logout", cookies={"ds_actor": self.datasette.sign({"a": ROOT}, "actor")}
            )
            self._token = answer.cookies["ds_csrftoken"]
        return {**cookies, "ds_csrftoken": self._token}, self._token

    def query(self, database: str, sql: str, format_: str = "json", **parameters: Any) -> Any:
        """The response of Datasette's own SQL page, whose address differs between its lines."""
        path = query_path(database, format_, is_first_line=self.is_first_line)
        return self.get(path + "?" + urlencode({"sql": sql, "_shape": "objects", **parameters}))

    def close(self) -> None:
        """Ends Datasette's threads and closes its files."""
        for database in self.datasette.databases.values():
            database.close()
        if self.datasette.executor is not None:
            self.datasette.executor.shutdown(wait=True)
        self.runner.close()


def query_path(database: str, format_: str, *, is_first_line: bool) -> str:
    """Where Datasette answers SQL: `/db.json` in 0.65, `/db/-/query.json` in 1.0."""
    suffix = f".{format_}" if format_ != "html" else ""
    return f"/{database}{suffix}" if is_first_line else f"/{database}/-/query{suffix}"


@contextmanager
def site(*paths: Path, **options: Any) -> Iterator[Site]:
    """A Site, closed at the end."""
    opened = Site(*paths, **options)
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(*command: str, port: int, ready: str = "/-/versions.json") -> Iterator[str]:
    """A server in a process of its own, by Python's arguments; yields its address once it answers."""
    if command[:3] == ("-m", "datasette", "serve") and "sql_time_limit_ms" not in command:
        for name, value in PATIENT.items():
            command += ("--setting", name, str(value))
        if os.environ.get("NEARSQL_IN_PIECES"):
            command += ("--plugins-dir", str(Path(__file__).with_name("in_pieces")))
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(address + ready, timeout=5).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise AssertionError(log.read().decode()) from None
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)
