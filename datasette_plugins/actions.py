"""Pages that write: who may, from where, and in one short transaction.

A visitor writes only with the permission `nearsql-write`, in a database that is not immutable, and by a
POST of our own pages: Datasette refuses those of other sites before they come here. A form is answered
with the page it came from; a script, which asks for JSON, with JSON.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from datasette import Forbidden
from datasette.utils.asgi import Request, Response

from nearsql.datasette_plugins.pages import Page, Problem, found_database
from nearsql.datasette_plugins.permissions import may_write
from nearsql.udfs import dbapi

Form = dict[str, Any]
Act = Callable[["Action"], Awaitable[Response]]

# A lasso around a million items names them all, at up to eight characters each.
BODY_LIMIT = 64 * 2**20


class Action(Page):
    """One request that changes something."""

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """What was sent, up to `limit` bytes. Raises Problem with status 413 above it."""
        parts, size = [], 0
        while True:
            message = await self.request.receive()
            if message["type"] != "http.request":
                raise Problem("The connection ended before everything was sent.")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise Problem(f"At most {limit:,} bytes can be sent here.", 413)
            if not message.get("more_body"):
                return b"".join(parts)

    async def form(self) -> Form:
        """The fields that were sent, by a form (each a text) or by a script as a JSON object."""
        body = await self.body()
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Problem("What was sent is not text in UTF-8.") from None
        if "application/json" not in (self.request.headers.get("content-type") or ""):
            return dict(parse_qsl(text, keep_blank_values=True))
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise Problem("What was sent is not a JSON object.")
        return fields

    async def write(self, work: Callable[[dbapi.Connection], Any]) -> Any:
        """Runs work(connection) as one transaction, in the thread in which Datasette writes."""

        def in_transaction(connection: dbapi.Connection) -> Any:
            connection.execute("begin immediate")
            try:
                result = work(connection)
                connection.execute("commit")
            except BaseException:
                connection.execute("rollback")
                raise
            return result

        if hasattr(self.datasette, "allowed"):  # 1.0 would begin a transaction of its own
            return await self.db.execute_write_fn(in_transaction, transaction=False)
        return await self.db.execute_write_fn(in_transaction)

    def done(self, form: Form, **facts: Any) -> Response:
        """The answer to something done: JSON for a script, else the way to `next` or `facts["url"]`."""
        if self.wants_json:
            return Response.json({"ok": True, **facts})
        return Response.redirect(self.own_path(form.get("next")) or facts.get("url") or self.url())

    def own_path(self, path: Any) -> str | None:
        """The path, if it is one of this server and not a way to another."""
        is_own = isinstance(path, str) and path.startswith("/") and path[1:2] not in ("/", "\\")
        return path if is_own and not any(ord(c) < 32 for c in path) else None

    @property
    def wants_json(self) -> bool:
        """Whether a script asks, not a form."""
        return "application/json" in (self.request.headers.get("accept") or "")


def action(act: Act) -> Callable[..., Awaitable[Response]]:
    """A function that writes as a Datasette route: checks the rights, shows problems as sentences."""

    async def route(request: Request, datasette: Any) -> Response:
        if request.method != "POST":
            return Response.text("This address only writes: use POST.", status=405)
        db = await found_database(datasette, request)
        if not await may_write(datasette, db, request.actor):
            raise Forbidden("You may not write to this database")
        current = Action(datasette, request, db, may_write=True)
        try:
            await current.refuse_other_files()
            return await act(current)
        except Problem as found:
            problem = found
        except dbapi.Error as error:
            problem = Problem(str(error))
        if current.wants_json:
            return Response.json({"ok": False, "error": problem.sentence}, status=problem.status)
        return await current.html("nearsql_problem.html", problem.status, problem=problem)

    # Not functools.wraps: Datasette reads a route's signature, and would see the action's.
    route.__name__, route.__doc__ = act.__name__, act.__doc__
    return route


def reads_and_writes(
    reads: Callable[..., Awaitable[Response]], writes: Callable[..., Awaitable[Response]]
) -> Callable[..., Awaitable[Response]]:
    """One address with a page (GET) and an action (POST)."""

    async def route(request: Request, datasette: Any) -> Response:
        answer = writes if request.method == "POST" else reads
        return await answer(request, datasette)

    route.__name__, route.__doc__ = reads.__name__, reads.__doc__
    return route
