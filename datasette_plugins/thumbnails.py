"""An item's image as a small picture: made once, kept in memory, and told apart by what it shows.

A page of hundreds of photographs would send hundreds of megabytes; of thumbnails it sends two.
"""

import asyncio
from collections import OrderedDict
from itertools import count
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import PIL
from datasette.utils.asgi import Response

from nearsql.datasette_plugins import pixels
from nearsql.datasette_plugins.images import (
    image_bytes,
    image_headers,
    image_type,
    is_known_format,
    strong_etag,
)
from nearsql.datasette_plugins.pages import Page, Problem, Row, page, page_url

# In pixels, the longer side. Few, so that each is made once and kept, whatever is asked for.
SIZES = (96, 192, 384, 768, 1536)
# What the sizes of the macro `thumbnail` ask for: its boxes in CSS pixels, twice as fine.
BY_NAME = {"small": 96, "": 192, "large": 384}

BYTES_KEPT = 64 * 2**20
# One at a time takes 5 to 20 ms; more threads than this would keep Datasette from its SQL.
_AT_ONCE = 2


class Kept:
    """The pictures last asked for, within a number of bytes. Of one event loop: it takes no lock."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pictures: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self.bytes = 0

    def get(self, key: tuple[Any, ...]) -> bytes | None:
        """The picture, which is now the last asked for; None when it is not here."""
        if key not in self._pictures:
            return None
        self._pictures.move_to_end(key)
        return self._pictures[key]

    def put(self, key: tuple[Any, ...], picture: bytes) -> None:
        """Keeps it, and forgets what was asked for longest ago where there is no room."""
        self.bytes += len(picture) - len(self._pictures.pop(key, b""))
        self._pictures[key] = picture
        while self.bytes > self._most_bytes:
            _, forgotten = self._pictures.popitem(last=False)
            self.bytes -= len(forgotten)


kept = Kept(BYTES_KEPT)
_numbers = count()
# Two files may name the same SHA-256, and a visitor may be allowed to see one of them only.
_number_of_database: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def thumbnail_url(datasette: Any, database: str, item: Row | int, size: int) -> str:
    """The address of an item's thumbnail of at least `size` pixels.

    item: its id, or a row with `id`. A row with `sha256`, too, gives an address that always shows
    the same, so that the browser asks once and never again.
    """
    row = {"id": item} if isinstance(item, int) else item
    asked = {"size": str(_at_least(size))}
    if sha256 := row.get("sha256"):
        asked["v"] = str(sha256)[:16]
    return page_url(datasette, database, "items", row["id"], "thumbnail") + "?" + urlencode(asked)


@page
async def thumbnail(current: Page) -> Response:
    """The item's image within `?size=` pixels (192); with `&v=`, for good: the start of its SHA-256."""
    item, size = current.number("item"), _wanted(current.request.args.get("size"))
    row = await current.one("image_place", item=item)
    if row is None or row["kind"] != "image":
        raise Problem(f"Item {item} is not an image of this database.", 404)
    version = current.request.args.get("v")
    if version is not None and (len(version) < 16 or not row["sha256"].startswith(version)):
        raise Problem(f"Item {item} has another image than {version!r}: leave v out.", 404)
    # The picture also depends on what scales and writes it.
    etag = strong_etag(row["sha256"], size, PIL.__version__)
    headers = image_headers(etag, for_good=version is not None)
    if current.request.headers.get("if-none-match") == etag:
        return Response("", status=304, headers=headers)
    picture = await _picture(current, row, size)
    return Response(picture, headers=headers, content_type=image_type(picture))


async def _picture(current: Page, row: Row, size: int) -> bytes:
    number = _number_of_database.setdefault(current.db, next(_numbers))
    key = (number, row["id"], row["sha256"], size)
    if (picture := kept.get(key)) is not None:
        return picture
    found = await current.one("image", item=row["id"])
    if found is None:
        raise Problem(f"Item {row['id']} has just been deleted.", 404)
    async with _gate():
        picture = kept.get(key)  # meanwhile another request may have made it
        if picture is None:
            picture = await asyncio.to_thread(_make, found, size)
            kept.put(key, picture)
    return picture


def _make(row: Row, size: int) -> bytes:
    data = image_bytes(row, is_known_format)
    try:
        return pixels.small_picture(data, size)
    except pixels.Unreadable as error:
        raise Problem(f"Item {row['id']} has no thumbnail: {error}.", 404) from error


def _wanted(text: str | None) -> int:
    if text is None:
        return BY_NAME[""]
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:6]) <= SIZES[-1]:
        raise Problem(f"size must be a whole number of pixels from 1 to {SIZES[-1]}, not {text!r}.")
    return _at_least(int(text))


def _at_least(size: int) -> int:
    return next((each for each in SIZES if each >= size), SIZES[-1])


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def _gate() -> asyncio.Semaphore:
    """Of this event loop, as a semaphore has to be."""
    loop = asyncio.get_running_loop()
    if loop not in _gates:
        _gates[loop] = asyncio.Semaphore(_AT_ONCE)
    return _gates[loop]
