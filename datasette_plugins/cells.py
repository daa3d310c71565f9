"""How Datasette's own tables show our values: vectors as a short text, items as thumbnails."""

from collections.abc import Awaitable
from typing import Any

from markupsafe import Markup

from nearsql.datasette_plugins.pages import is_nearsql, page_url

VECTOR_COLUMNS = ("vector", "centroid")
ITEM_COLUMNS = (
    "item_id",
    "neighbor_id",
    "other_item_id",
    "exemplar_item_id",
    "target_item_id",
    "image_item_id",
)


def render(
    datasette: Any, database: str, table: str | None, column: str, value: Any, row: Any
) -> Awaitable[Markup | None] | str | None:
    """The cell, or None to leave it to Datasette."""
    if column in VECTOR_COLUMNS and isinstance(value, bytes) and len(value) % 4 == 0 and value:
        return _vector(datasette, database, len(value) // 4)
    if column in ITEM_COLUMNS:
        item = value.get("value") if isinstance(value, dict) else value
    elif table == "items" and column in ("id", "kind"):
        item = row["id"]  # Datasette links a single key itself; so the kind shows the image
    else:
        return None
    if not isinstance(item, int):
        return None
    return _thumbnail(datasette, database, item, column)


async def _vector(datasette: Any, database: str, dimensions: int) -> Markup | None:
    if not await is_nearsql(datasette.get_database(database)):
        return None
    return Markup("{} &times; float32").format(dimensions)


async def _thumbnail(datasette: Any, database: str, item: int, column: str) -> Markup | None:
    """A link to the item's page, with its image; the image is fetched when it scrolls into view."""
    db = datasette.get_database(database)
    if not await is_nearsql(db):
        return None
    found = (await db.execute("select kind from items where id = ?", (item,))).first()
    if found is None:
        return None
    url = page_url(datasette, database, "items", item)
    if found["kind"] == "text":
        return Markup('<a href="{}">{}</a>').format(url, "text" if column == "kind" else item)
    picture = Markup('<img src="{}/image" alt="image" loading="lazy" height="40">').format(url)
    beside = "" if column == "kind" else Markup(" {}").format(item)
    return Markup('<a href="{}">{}{}</a>').format(url, picture, beside)
