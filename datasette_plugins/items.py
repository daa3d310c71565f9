"""One item: what it is, its image with what was found in it, and the items nearest to it."""

import asyncio
import json

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.detections import detections
from nearsql.datasette_plugins.evidence import evidence_of, kind_title
from nearsql.datasette_plugins.images import (
    image_bytes,
    image_headers,
    image_type,
    is_known_format,
    strong_etag,
)
from nearsql.datasette_plugins.item_surroundings import (
    neighbours,
    neighbours_by_loss,
    neighbours_in_spaces,
    paths,
    same_page,
)
from nearsql.datasette_plugins.pages import Page, Problem, Row, page
from nearsql.datasette_plugins.thumbnails import SIZES, thumbnail_url


@page
async def item_page(current: Page) -> Response:
    """An item: what it is, what was found in it and about it, and what is near it, in every way there is."""
    item = await _item(current)
    number = item["id"]
    spaces, more_spaces = await neighbours_in_spaces(current, number)
    findings = await current.rows("item_findings", item=number)
    for finding in findings:
        finding["title"] = kind_title(finding["kind"])
        finding["claim"] = evidence_of(finding["kind"], finding["evidence_json"]).claim
    return await current.html(
        "nearsql_item.html",
        item=item,
        metadata=_metadata(item),
        labels=await current.rows("item_labels", item=number),
        selections=await current.rows("item_selections", item=number),
        paths=paths(await current.rows("item_clusters", item=number)),
        detected=await detections(current, item),
        maps=await current.rows("item_maps", item=number),
        spaces=spaces,
        more_spaces=more_spaces,
        by_loss=await neighbours_by_loss(current, number),
        judged=await current.rows("item_judged", item=number),
        findings=findings,
        errors=await current.rows("item_errors", item=number),
        link=lambda **changed: same_page(current, **changed),
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
        found=await neighbours(current, item["id"], space) if space else None,
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


def _metadata(item: Row) -> dict[str, str]:
    """What the source said of it, name by name; one that is no text or number as JSON."""
    given = json.loads(item["metadata_json"])
    if not isinstance(given, dict):
        given = {"metadata": given}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in given.items()
    }
