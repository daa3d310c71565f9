"""Selections: named sets of items, as contact sheets; how they were made; and as CSV."""

import csv
import io
import json
from urllib.parse import quote

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql
from nearsql.udfs import dbapi

SELECTIONS_SHOWN = 500
TAGS_SHOWN = 500
ITEMS_SHOWN = 120


@page
async def all_selections(current: Page) -> Response:
    """Every selection with a few of its items, the newest first; and the tags."""
    selections = await current.rows("selections", limit=SELECTIONS_SHOWN)
    for selection in selections:
        selection["some"] = json.loads(selection["some_json"])
    return await current.html(
        "nearsql_selections.html",
        selections=selections,
        shown=SELECTIONS_SHOWN,
        tags=await current.rows("tags", limit=TAGS_SHOWN),
        tags_shown=TAGS_SHOWN,
    )


@page
async def one_selection(current: Page) -> Response:
    """The contact sheet of a selection, how it was made, and what can be done with it."""
    selection = await _selection(current)
    number = current.request.args.get("page") or "1"
    if not (number.isascii() and number.isdecimal()) or not 1 <= int(number[:7]) <= 1_000_000:
        raise Problem(f"page must be a whole number from 1, not {number!r}.")
    names = {"selection": selection["selection_id"]}
    items_sql = sql("selection_export")
    return await current.html(
        "nearsql_selection.html",
        selection=selection,
        runs=json.loads(selection["runs_json"]),
        outline=_outline(selection["polygon_json"]),
        number=int(number),
        pages=max(1, -(-selection["items"] // ITEMS_SHOWN)),
        items=await current.rows(
            "selection_items",
            **names,
            limit=ITEMS_SHOWN,
            offset=(int(number) - 1) * ITEMS_SHOWN,
        ),
        items_sql_url=current.query_url(items_sql, names),
        made_by_url=current.query_url(selection["sql"], {}) if selection["sql"] else None,
        within=selection["name"].replace("'", "''"),
    )


@page
async def selection_csv(current: Page) -> Response:
    """All items of a selection with their labels as CSV, as `nearsql select --show NAME --csv` gives them."""
    selection = await _selection(current)

    def write(connection: dbapi.Connection) -> str:
        out = io.StringIO()
        cursor = connection.execute(
            sql("selection_export"), {"selection": selection["selection_id"]}
        )
        rows = csv.writer(out)
        rows.writerow([column[0] for column in cursor.description or ()])
        rows.writerows(cursor)
        return out.getvalue()

    name = quote(f"{selection['name']}.csv", safe="")
    return Response(
        await current.read(write),
        headers={
            "content-disposition": f"attachment; filename*=UTF-8''{name}",
            "x-content-type-options": "nosniff",
        },
        content_type="text/csv; charset=utf-8",
    )


async def _selection(current: Page) -> Row:
    number = current.number("selection")
    selection = await current.one("selection", selection=number)
    if selection is None:
        raise Problem(f"There is no selection {number} in this database.", 404)
    return selection


def _outline(polygon_json: str | None) -> str | None:
    """A polygon's corners as the points of an SVG polygon within 100 x 60, as it lay on the map."""
    try:
        corners = [(float(x), float(y)) for x, y in json.loads(polygon_json or "[]")]
    except (TypeError, ValueError, RecursionError, OverflowError):
        return None  # another program's, or a stranger's
    if len(corners) < 3:
        return None
    xs, ys = zip(*corners, strict=True)
    scale = max((max(xs) - min(xs)) / 96, (max(ys) - min(ys)) / 56)
    if not 0 < scale < float("inf"):
        return None
    left = 50 - (max(xs) + min(xs)) / 2 / scale
    top = 30 + (max(ys) + min(ys)) / 2 / scale
    return " ".join(f"{left + x / scale:.1f},{top - y / scale:.1f}" for x, y in corners)
