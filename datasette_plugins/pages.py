"""What every page needs: its database, its rights, its SQL by name, its links, and its errors."""

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode
from weakref import WeakSet

import apsw
from datasette import Forbidden, NotFound
from datasette.database import Database
from datasette.utils import sqlite_timelimit, tilde_decode, tilde_encode
from datasette.utils.asgi import Request, Response
from markupsafe import Markup

from nearsql import migrations
from nearsql.datasette_plugins.assets import asset_url
from nearsql.datasette_plugins.permissions import may_query, may_write
from nearsql.udfs import dbapi
from nearsql.udfs.dbapi.errors import translate

Row = dict[str, Any]
View = Callable[["Page"], Awaitable[Response]]

# What one question of a page may take, in milliseconds. More than Datasette allows a visitor's SQL,
# because the questions are ours: a million items are counted, and a space is loaded at its first search.
TIME_LIMIT = 10_000


class Problem(Exception):
    """What a page cannot show: a sentence for the visitor, and the HTTP status it goes with."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


class TooLong(Problem):
    """A question took longer than a page may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This took longer than {limit / 1000:g} s and was stopped. The first search of a large "
            "space loads it, which may have gone further now: try again, or start Datasette with a "
            "higher sql_time_limit_ms."
        )


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`, the question behind a block of a page."""
    return files("nearsql.datasette_plugins.sql").joinpath(f"{name}.sql").read_text("utf-8").strip()


def page_url(datasette: Any, database: str, *parts: str | int) -> str:
    """The address of a page below /-/nearsql/<database>, with Datasette's base_url in front."""
    route = tilde_encode(datasette.get_database(database).route)
    return str(datasette.urls.path("/".join(["/-/nearsql", route, *map(str, parts)])))


def query_url(datasette: Any, database: str, text: str, parameters: Row | None = None) -> str:
    """Datasette's own page for this SQL, its parameters filled in."""
    path = str(datasette.urls.database(database))
    if hasattr(datasette.urls, "database_query"):  # 1.0
        path += "/-/query"
    filled = {k: "" if v is None else v for k, v in (parameters or {}).items()}
    return path + "?" + urlencode({"sql": text, **filled})


_known: WeakSet[Any] = WeakSet()


async def is_nearsql(db: Database) -> bool:
    """Whether it is a nearsql file, of whatever version. A yes is remembered: files stay what they are.

    A file that cannot be read is none: it must not take the pages of the others with it.
    """
    if db not in _known:
        try:
            state = await db.execute_fn(migrations.file_state)
        except dbapi.DatabaseError:
            return False
        if state.state in ("empty", "foreign"):
            return False
        _known.add(db)
    return True


class Page:
    """One request for a page: everything a view reads and links to."""

    def __init__(
        self, datasette: Any, request: Request, db: Database, *, may_write: bool = False
    ) -> None:
        self.datasette = datasette
        self.request = request
        self.db = db
        self.may_write = may_write

    def number(self, name: str) -> int:
        """A number of the address; larger than SQLite's integers, it names nothing."""
        value = int(self.request.url_vars[name])
        if value >= 2**63:
            raise Problem(f"There is no {name} {value} in this database.", 404)
        return value

    async def rows(self, name: str, **parameters: Any) -> list[Row]:
        """The rows of `sql/<name>.sql`."""

        def fetch(connection: dbapi.Connection) -> list[Row]:
            cursor = connection.execute(sql(name), parameters)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        rows: list[Row] = await self.read(fetch)
        return rows

    async def one(self, name: str, **parameters: Any) -> Row | None:
        """The first row of `sql/<name>.sql`."""
        rows = await self.rows(name, **parameters)
        return rows[0] if rows else None

    async def read(self, work: Callable[[dbapi.Connection], Any]) -> Any:
        """Runs work(connection) in Datasette's threads; stops it with TooLong when it takes too long.

        The work may use the raw connection; its errors become those of sqlite3.
        """
        limit = max(TIME_LIMIT, self.datasette.setting("sql_time_limit_ms"))

        def limited(connection: dbapi.Connection) -> Any:
            try:
                with sqlite_timelimit(connection, limit):
                    return work(connection)
            except (apsw.Error, dbapi.OperationalError) as error:
                failure = translate(error) if isinstance(error, apsw.Error) else error
                if failure.args == ("interrupted",):
                    raise TooLong(limit) from error
                raise failure from error

        return await self.db.execute_fn(limited)

    def url(self, *parts: str | int) -> str:
        """A page of this database: `url("items", 42)`."""
        return page_url(self.datasette, self.db.name, *parts)

    def sql_url(self, name: str, **parameters: Any) -> str:
        """Datasette's page for the SQL behind a block."""
        return query_url(self.datasette, self.db.name, sql(name), parameters)

    def query_url(self, text: str, parameters: Row) -> str:
        """Datasette's page for any SQL."""
        return query_url(self.datasette, self.db.name, text, parameters)

    async def html(self, template: str, status: int = 200, **context: Any) -> Response:
        """The template, with this page as `page`."""
        common = {
            "page": self,
            "database": self.db.name,
            "asset": self.asset,
            "may_write": self.may_write,
            "csrf_field": self.csrf_field,
            "csrf_token": self.csrf_token,
        }
        body = await self.datasette.render_template(
            template,
            {**common, **context},
            request=self.request,
            view_name="nearsql",
        )
        return Response.html(body, status=status)

    def asset(self, name: str) -> str:
        """The address of a script or style."""
        return asset_url(self.datasette, name)

    def csrf_token(self) -> str:
        """What Datasette 0.65 wants to see in a POST. 1.0 looks at the browser's own headers instead."""
        make = self.request.scope.get("csrftoken")
        return str(make()) if make else ""

    def csrf_field(self) -> Markup:
        """The same as a hidden field of a form."""
        return Markup('<input type="hidden" name="csrftoken" value="{}">').format(self.csrf_token())

    async def refuse_other_files(self) -> None:
        """Raises Problem where the database is not a nearsql file of this version."""
        name = self.db.path or self.db.name
        state = await self.db.execute_fn(migrations.file_state)
        if state.state in ("empty", "foreign"):
            raise Problem(f"{name} is not a nearsql database: `nearsql ingest` makes one.", 404)
        if sentence := state.problem(str(name)):
            raise Problem(sentence)


async def found_database(datasette: Any, request: Request) -> Database:
    """The database of the address, if the visitor may query it."""
    name = tilde_decode(request.url_vars["database"])
    try:
        db: Database = datasette.get_database(route=name)
    except KeyError:
        raise NotFound(f"Database not found: {name}") from None
    if not await may_query(datasette, db.name, request.actor):
        raise Forbidden("You may not run SQL on this database")
    return db


def page(view: View) -> Callable[..., Awaitable[Response]]:
    """A view as a Datasette route: finds the database, checks the rights, shows problems as sentences."""

    async def route(request: Request, datasette: Any) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response.text("This page only reads: use GET.", status=405)
        db = await found_database(datasette, request)
        writable = await may_write(datasette, db, request.actor)
        current = Page(datasette, request, db, may_write=writable)
        try:
            await current.refuse_other_files()
            return await view(current)
        except Problem as found:
            problem = found
        except dbapi.OperationalError as error:
            problem = Problem(str(error))
        return await current.html("nearsql_problem.html", problem.status, problem=problem)

    # Not functools.wraps: Datasette reads a route's signature, and would see the view's.
    route.__name__, route.__doc__ = view.__name__, view.__doc__
    return route
