"""How Datasette's own tables show our values: vectors as curves, masks as shapes, items as thumbnails."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from markupsafe import Markup

from nearsql.datasette_plugins.cell_drawings import curve, mask_shape, outlines_shape
from nearsql.datasette_plugins.pages import Row, is_nearsql, page_url, sql
from nearsql.datasette_plugins.thumbnails import thumbnail_url

ITEM_COLUMNS = (
    "item_id",
    "neighbor_id",
    "other_item_id",
    "exemplar_item_id",
    "target_item_id",
    "image_item_id",
)
# Blobs of numbers, whichever table or view they are in.
NUMBER_COLUMNS = {"vector": "<f4", "centroid": "<f4"}
# The same name with another meaning, and numbers of one table only.
NUMBERS_OF_TABLES = {
    ("projection_axes", "vector"): "<f8",
    ("cv_neighbors", "distances"): "<f8",
    ("cv_neighbors", "neighbor_ids"): "<i8",
}
SHAPES: dict[str, Callable[[str], Markup | None]] = {
    "mask_json": mask_shape,
    "polygons_json": outlines_shape,
}

# A table's rows often name items one after the other: those that follow are asked for with the first.
_AHEAD = 200
_PIXELS = 80  # twice as fine as the 40 that a thumbnail has in a table

# What a request knows of items, until it is answered: Datasette asks cell by cell.
_known: WeakKeyDictionary[Any, dict[tuple[str, int], Row | None]] = WeakKeyDictionary()


def render(
    datasette: Any, database: str, table: str | None, column: str, value: Any, row: Any
) -> Awaitable[Markup | None] | str | None:
    """The cell, or None to leave it to Datasette."""
    if isinstance(value, bytes):
        dtype = NUMBERS_OF_TABLES.get((table or "", column), NUMBER_COLUMNS.get(column))
        if dtype is None or not value or len(value) % np.dtype(dtype).itemsize:
            return None
        return _numbers(datasette, database, np.frombuffer(value, dtype))
    if column in SHAPES and isinstance(value, str):
        return _shape(datasette, database, SHAPES[column], value)
    if column in ITEM_COLUMNS:
        item = value.get("value") if isinstance(value, dict) else value
    elif table == "items" and column in ("id", "kind"):
        item = row["id"]  # Datasette links a single key itself; so the kind shows the image
    else:
        return None
    if not isinstance(item, int):
        return None
    return _thumbnail(datasette, database, item, column, row)


async def _numbers(datasette: Any, database: str, values: Any) -> Markup | None:
    if not await is_nearsql(datasette.get_database(database)):
        return None
    if values.dtype == np.dtype("<i8"):
        first = ", ".join(str(each) for each in values[:5].tolist())
        return Markup("{}{}, {} in all").format(first, ", ..." * (values.size > 5), values.size)
    return curve(values)


async def _shape(
    datasette: Any, database: str, draw: Callable[[str], Markup | None], text: str
) -> Markup | None:
    if not await is_nearsql(datasette.get_database(database)):
        return None
    return draw(text)


async def _thumbnail(
    datasette: Any, database: str, item: int, column: str, row: Any
) -> Markup | None:
    """A link to the item's page, with its image; the image is fetched when it scrolls into view."""
    if not await is_nearsql(datasette.get_database(database)):
        return None
    found = await _item(datasette, database, item, row)
    if found is None:
        return None
    url = page_url(datasette, database, "items", item)
    if found["kind"] == "text":
        return Markup('<a href="{}">{}</a>').format(url, "text" if column == "kind" else item)
    picture = Markup(
        '<img src="{}" alt="{}" loading="lazy" decoding="async" height="40"{}>'
    ).format(
        thumbnail_url(datasette, database, found, _PIXELS),
        f"Item {item}" if column == "kind" else "",
        Markup(' style="image-rendering: pixelated"') if found["is_tiny"] else "",
    )
    beside = "" if column == "kind" else Markup(" {}").format(item)
    return Markup('<a href="{}">{}{}</a>').format(url, picture, beside)


async def _item(datasette: Any, database: str, item: int, row: Any) -> Row | None:
    """An item's row of cell_items.sql, asked for with the others of its row, and those that follow."""
    task = asyncio.current_task()
    known = _known.setdefault(task, {}) if task else {}
    if (database, item) not in known:
        wanted = {item, *_items_of(row)}
        names = {"ids": str(sorted(wanted)), "first": item, "last": min(item + _AHEAD, 2**63 - 1)}
        db = datasette.get_database(database)
        rows = (await db.execute(sql("cell_items"), names)).rows
        # What was asked for and is not there is not asked for again either.
        known.update({(database, each): None for each in wanted})
        known.update({(database, found["id"]): dict(found) for found in rows})
    return known[database, item]


def _items_of(row: Any) -> list[int]:
    """The ids of items in a row of Datasette's."""
    values = [row[name] for name in row.keys() if name in ITEM_COLUMNS]  # noqa: SIM118 - sqlite3.Row
    ids = [value.get("value") if isinstance(value, dict) else value for value in values]
    return [each for each in ids if isinstance(each, int)]
