"""Which items of a map somebody means: by SQL, by a selection's name, or by a line drawn around them.

The ids travel as little-endian float64, in which a browser's numbers are exact, in ascending order.
"""

import json
import math

import apsw
import numpy as np
from datasette.utils import sqlite_timelimit
from datasette.utils.asgi import Response
from numpy.typing import NDArray

from nearsql.datasette_plugins import map_points
from nearsql.datasette_plugins.pages import Page, Problem, page, sql
from nearsql.udfs import dbapi, within
from nearsql.udfs.errors import SqlFunctionError

MOST_CORNERS = 1_000  # more do not fit into an address
SHEET = 60


@page
async def inside(current: Page) -> Response:
    """The ids of all items of the map that lie within a polygon, `?polygon=[[x,y],...]`."""
    corners = _corners(current.request.args.get("polygon") or "")
    run = current.number("run")

    def read(connection: dbapi.Connection) -> NDArray[np.int64]:
        bound = {"run": run, "polygon": json.dumps(corners)}
        rows = connection.apsw.execute(sql("selection_in_polygon"), bound)
        return np.fromiter((row[0] for row in rows), np.int64)

    return _ids(await current.read(read))


def _corners(text: str) -> list[list[float]]:
    try:
        corners = json.loads(text)
        read = [[float(x), float(y)] for x, y in corners]
    except (ValueError, TypeError, RecursionError, OverflowError):
        read = []
    if not 3 <= len(read) <= MOST_CORNERS or not all(math.isfinite(v) for c in read for v in c):
        raise Problem(
            f"polygon must be three corners or more (up to {MOST_CORNERS:,}) as JSON,"
            f" [[x, y], ...], not {text[:60]!r}."
        )
    return read


@page
async def named(current: Page) -> Response:
    """The ids of the map's items that `?within=` names: a SELECT, a selection, or a JSON array of ids.

    A visitor's SELECT can only read, and may take as long as any that Datasette runs.
    """
    text = current.request.args.get("within") or ""
    run = current.number("run")
    limit = current.datasette.setting("sql_time_limit_ms")

    def read(connection: dbapi.Connection) -> NDArray[np.int64]:
        raw = connection.apsw
        with raw:
            points = map_points.kept(current.db).read(raw, run)
            try:
                with sqlite_timelimit(connection, limit):
                    ids = within.item_ids(raw, text)
            except SqlFunctionError as error:
                raise Problem(f"{error}.") from None
            except apsw.InterruptError:
                raise Problem(
                    f"The SQL took longer than {limit / 1000:g} s and was stopped: ask for less, or"
                    " start Datasette with a higher sql_time_limit_ms."
                ) from None
        assert ids is not None  # only NULL names no limit
        return np.intersect1d(points.ids, ids)

    return _ids(await current.read(read))


@page
async def sheet(current: Page) -> Response:
    """A contact sheet of the items `?items=1,2,3`, a fragment of HTML."""
    words = (current.request.args.get("items") or "").split(",")
    if len(words) > SHEET or not all(w.isascii() and w.isdecimal() and len(w) < 19 for w in words):
        raise Problem(f"items must be up to {SHEET} ids with commas between them.")
    items = await current.rows("map_sheet", items=json.dumps([int(word) for word in words]))
    return await current.html("nearsql_map_sheet.html", items=items)


def _ids(ids: NDArray[np.int64]) -> Response:
    return Response(
        ids.astype("<f8").tobytes(),
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
        content_type="application/octet-stream",
    )
