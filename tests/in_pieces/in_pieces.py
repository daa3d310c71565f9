"""A Datasette plugin for tests: pages come late and in pieces, as over a slow line.

A test that looks at a page before all of it is there fails at once then, instead of once in a hundred runs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

from datasette import hookimpl
from datasette.app import Datasette

PAUSE = 0.25  # seconds before each piece, and before the end
HEAD = 150  # bytes of the first piece: the browser has left the page before, and shows nothing yet

Send = Callable[[dict[str, Any]], Awaitable[None]]


@hookimpl(trylast=True)
def asgi_wrapper(datasette: Datasette) -> Callable[[Any], Any]:
    """HTML in four pieces or fewer; what is not HTML, at once."""

    def wrapped(app: Any) -> Any:
        async def slowly(scope: dict[str, Any], receive: Any, send: Send) -> None:
            await app(scope, receive, _Pieces(send) if scope["type"] == "http" else send)

        return slowly

    return wrapped


class _Pieces:
    """The events of one response, passed on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_page = False

    async def __call__(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            kinds = [value for name, value in event["headers"] if name.lower() == b"content-type"]
            self._is_page = kinds[:1] != [] and kinds[0].startswith(b"text/html")
        elif self._is_page:
            body = event.get("body", b"")
            n = len(body)
            for start, end in pairwise(sorted({0, min(HEAD, n), n // 3, 2 * n // 3, n})):
                await asyncio.sleep(PAUSE)
                await self._send({**event, "body": body[start:end], "more_body": True})
            event = {**event, "body": b""}
            await asyncio.sleep(PAUSE)
        await self._send(event)
