"""The file's own pages, asked for within this process: nothing listens, and nobody else can ask."""

import asyncio
import html
import re
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nearsql.pipeline.console import UserError

_PROBLEM = re.compile(r'<p class="problem"[^>]*>(.*?)</p>', re.DOTALL)
_ASSETS = re.compile(r"/-/nearsql-assets/[0-9a-f]+/")

# What one question may take, in milliseconds: it is one's own file.
SQL_TIME_LIMIT_MS = 600_000


class Pages:
    """The pages of a file, by Datasette's internal client.

    with Pages(file) as pages:
        body = pages.get("map/3/columns")
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Self:
        # The plugin comes with Datasette's entry points, as it does for `datasette FILE`.
        from datasette.app import Datasette
        from datasette.utils import tilde_encode

        # A loop of its own: where this is called, in a notebook, one may be running already.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        settings = {"sql_time_limit_ms": SQL_TIME_LIMIT_MS}
        self._datasette: Any = Datasette([str(self._file)], settings=settings)
        self._root = f"/-/nearsql/{tilde_encode(self._file.stem)}/"
        self._run(self._datasette.invoke_startup())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for database in self._datasette.databases.values():
            database.close()
        if self._datasette.executor is not None:
            self._datasette.executor.shutdown(wait=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def get(self, path: str) -> bytes:
        """What a page answers. Raises UserError with the sentence of one that refuses."""
        found = self.get_all([path])[0]
        if isinstance(found, UserError):
            raise found
        return found

    def get_all(self, paths: list[str]) -> list[bytes | UserError]:
        """What several pages answer, asked at once; a sentence in the place of one that refuses."""

        async def ask() -> list[bytes | UserError]:
            return list(await asyncio.gather(*(self._ask(self._root + path) for path in paths)))

        found: list[bytes | UserError] = self._run(ask())
        return found

    async def _ask(self, path: str) -> bytes | UserError:
        answer = await self._datasette.client.get(path)
        if answer.status_code == 200:
            return bytes(answer.content)
        said = _PROBLEM.search(answer.text)
        return UserError(
            html.unescape(said[1]) if said else f"{path} answered {answer.status_code}"
        )

    def asset(self, name: str, page: bytes) -> str:
        """A script or style, from the place where the pages, of which `page` is one, have theirs."""
        found = _ASSETS.search(page.decode())
        assert found is not None, "a page without assets"
        answer = self._run(self._datasette.client.get(found[0] + name))
        assert answer.status_code == 200, name
        return str(answer.text)
