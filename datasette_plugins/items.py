"""One item: what it is, its image with what was found in it, and the items nearest to it."""

import asyncio
import json

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.detections import detections
from nearsql.datasette_plugins.images import (
    image_bytes,
    image_headers,
    image_type,
    is_known_format,
    strong_etag,
)
from nearsql.datasette_plugins.pages import Page, Problem, Row, TooLong, page
from nearsql.datasette_plugins.thumbnails import SIZES, thumbnail_url
from nearsql.udfs import dbapi

NEIGHBOURS_SHOWN = 12


@page
async def item_page(current: Page) -> Response:
    """An item with its labels, boxes and clusters, and its neighbours in each space that holds it."""
    item = await _item(current)
    spaces = await current.rows("item_spaces", item=item["id"])
    for space in spaces:
        space.update(await _neighbours(current, item["id"], space["space"]))
    return await current.html(
        "nearsql_item.html",
        item=item,
        metadata=json.loads(item["metadata_json"]),
        labels=await current.rows("item_labels", item=item["id"]),
        clusters=await current.rows("item_clusters", item=item["id"]),
        detected=await detections(current, item),
        maps=await current.rows("item_maps", item=item["id"]),
        spaces=spaces,
        k=NEIGHBOURS_SHOWN,
    )


@page
async def card(current: Page) -> Response:
    """What the map shows beside the pointer: a fragment of HTML."""
    item = await _item(current)
    return await current.html(
        "nearsql_card.html", item=item, labels=await current.rows("item_labels", item=item["id"])
    )


@page
async def panel(current: Page) -> Response:
    """What the map shows beside itself: the item and its neighbours, a fragment of HTML."""
    item = await _item(current)
    spaces = await current.rows("item_spaces", item=item["id"])
    names = [row["space"] for row in spaces]
    wanted = current.request.args.get("space")
    space = wanted if wanted in names else (names[0] if names else None)
    return await current.html(
        "nearsql_panel.html",
        item=item,
        labels=await current.rows("item_labels", item=item["id"]),
        clusters=await current.rows("item_clusters", item=item["id"]),
        names=names,
        space=space,
        found=await _neighbours(current, item["id"], space) if space else None,
    )


@page
async def image(current: Page) -> Response:
    """The bytes of an item's image, only when they are an image of a type that browsers draw."""
    row = await current.one("image", item=current.number("item"))
    if row is None or row["kind"] != "image":
        raise Problem(f"Item {current.number('item')} is not an image of this database.", 404)
    data = await asyncio.to_thread(image_bytes, row, is_known_format)
    content_type = image_type(data)
    if content_type is None and is_known_format(data):
        # A TIFF, say: as large as thumbnails are, in a format that browsers draw.
        return Response.redirect(thumbnail_url(current.datasette, current.db.name, row, SIZES[-1]))
    if content_type is None:
        raise Problem(f"Item {current.number('item')} holds no image that a browser can draw.", 404)
    etag = strong_etag(row["sha256"])
    headers = image_headers(etag)
    if current.request.headers.get("if-none-match") == etag:
        return Response("", status=304, headers=headers)
    return Response(data, headers=headers, content_type=content_type)


async def _item(current: Page) -> Row:
    number = current.number("item")
    item = await current.one("item", item=number)
    if item is None:
        raise Problem(f"There is no item {number} in this database.", 404)
    return item


async def _neighbours(current: Page, item: int, space: str) -> Row:
    """The nearest items, or the sentence that says why there are none."""
    parameters = {"space": space, "item": item, "k": NEIGHBOURS_SHOWN}
    found: Row = {"neighbours": [], "problem": None}
    try:
        found["neighbours"] = await current.rows("neighbours", **parameters)
    except TooLong as problem:
        found["problem"] = problem.sentence
    except dbapi.OperationalError as error:
        found["problem"] = str(error)
    found["sql_url"] = current.sql_url("neighbours", **parameters)
    return found
