"""The columns that a map is drawn from, as binary answers: its points, and apart from them its colours.

An answer is 4 bytes with the length of a JSON header, the header (padded with spaces to 8 bytes), and
the columns that the header lists, each beginning at a multiple of 8 bytes after the header. A column
has a `type` (uint8, uint16, uint32, float32 or float64, little-endian) and may be coded: `range` means
that its whole numbers, from 0 to the largest of the type, stand for evenly spaced numbers of that range;
`first` that it holds differences, the first of them from that number; `shift` is to be added to each.

A place takes 4 bytes (two numbers of 16 bits) on a large map and 8 on a small one, an id usually 1, and
a colour 1, 2 or 4. Both answers take the same window and limit, and so give the same points.
"""

import hashlib
import json
from typing import Any

import numpy as np
from datasette.utils.asgi import Response
from numpy.typing import NDArray

from nearsql.datasette_plugins import map_points
from nearsql.datasette_plugins.map_colours import NOISE, WITHOUT, Key, colouring
from nearsql.datasette_plugins.map_points import Points, Window
from nearsql.datasette_plugins.pages import Page, Problem, page
from nearsql.udfs import dbapi

# A map of more points than this shows an even sample, and says so.
POINTS_SHOWN = 1_000_000

# Up to here places travel as float32, so that zooming in never meets the steps of 16 bits.
EXACT_POINTS = 200_000

Columns = dict[str, tuple[dict[str, Any], NDArray[Any]]]


@page
async def columns(current: Page) -> Response:
    """The points of a map: places and ids. `x=LOW,HIGH&y=LOW,HIGH` is a window, `limit` the most points."""
    run, window, limit = _asked(current)

    def read(connection: dbapi.Connection) -> bytes:
        with connection.apsw:
            points = map_points.kept(current.db).read(connection.apsw, run)
        return _points_answer(points, map_points.sample(points, window, limit))

    return _answer(current, await current.read(read))


@page
async def colours(current: Page) -> Response:
    """The colours of the same points in the same order; `by` is the key of a colouring."""
    run, window, limit = _asked(current)
    key = Key.parse(current.request.args.get("by") or "plain")
    limit_ms = current.datasette.setting("sql_time_limit_ms")

    def read(connection: dbapi.Connection) -> bytes:
        # One read transaction, so that colours and points fit together.
        with connection.apsw:
            points = map_points.kept(current.db).read(connection.apsw, run)
            chosen = map_points.sample(points, window, limit)
            if key.kind == "plain":
                return _packed({"kind": "plain", **_identity(points, chosen)}, {})
            found = colouring(connection, key, limit_ms)
        of_all = found.of(points.ids)
        header = {**_identity(points, chosen), "by": key.kind}
        if found.names is None:
            return _numbers_answer(header, of_all, chosen)
        return _codes_answer(header, of_all, chosen, found.names)

    return _answer(current, await current.read(read))


def _asked(current: Page) -> tuple[int, Window | None, int]:
    """The run, window and limit of a request; Problem if they are none."""
    args = current.request.args
    limit = args.get("limit") or str(POINTS_SHOWN)
    if not limit.isdecimal() or len(limit) > 7 or not 1 <= int(limit) <= POINTS_SHOWN:
        raise Problem(f"limit must be a number from 1 to {POINTS_SHOWN}, not {limit!r}.")
    x, y = args.get("x"), args.get("y")
    if not x and not y:
        return current.number("run"), None, int(limit)
    return current.number("run"), Window(_range("x", x), _range("y", y)), int(limit)


def _range(axis: str, text: str | None) -> tuple[float, float]:
    try:
        low, high = map(float, (text or "").split(","))
    except ValueError:
        low = high = np.nan
    if not low <= high:
        raise Problem(f"A window has x=LOW,HIGH and y=LOW,HIGH; {axis} is {text!r}.")
    return low, high


def _identity(points: Points, chosen: NDArray[np.int64]) -> dict[str, Any]:
    """How many points, of how many, and which: colours fit the points whose `points` they name."""
    which = hashlib.sha256(points.ids[chosen].tobytes()).hexdigest()[:16]
    return {"n": len(chosen), "total": len(points.ids), "points": which}


def _points_answer(points: Points, chosen: NDArray[np.int64]) -> bytes:
    header = _identity(points, chosen)
    if len(points.ids):
        header["bounds"] = {"x": _ends(points.x), "y": _ends(points.y)}
    return _packed(
        header,
        {
            "x": _place(points.x[chosen]),
            "y": _place(points.y[chosen]),
            "ids": _ids(points.ids[chosen]),
        },
    )


def _ends(numbers: NDArray[Any]) -> list[float]:
    return [float(numbers.min()), float(numbers.max())]


def _place(numbers: NDArray[np.float32]) -> tuple[dict[str, Any], NDArray[Any]]:
    if len(numbers) <= EXACT_POINTS:
        return {}, numbers
    low, high = _ends(numbers)
    steps = (numbers.astype(np.float64) - low) * (65535 / (high - low) if high > low else 0)
    return {"range": [low, high]}, np.rint(steps).astype(np.uint16)


def _ids(ids: NDArray[np.int64]) -> tuple[dict[str, Any], NDArray[Any]]:
    """Ascending ids as their differences, which are small; wherever they begin."""
    if not len(ids):
        return {}, np.zeros(0, np.uint32)
    steps = np.diff(ids, prepend=ids[:1])
    largest = int(steps.max())
    if largest >= 2**32:
        return {}, ids.astype(np.float64)
    return {"first": int(ids[0])}, _narrow(steps, largest)


def _narrow(numbers: NDArray[np.int64], largest: int) -> NDArray[Any]:
    """The numbers, from 0 to largest, in as few bytes as hold them."""
    for kind in (np.uint8, np.uint16):
        if largest <= np.iinfo(kind).max:
            return numbers.astype(kind)
    return numbers.astype(np.uint32)


def _numbers_answer(
    header: dict[str, Any], of_all: NDArray[np.float64], chosen: NDArray[np.int64]
) -> bytes:
    known = of_all[np.isfinite(of_all)]
    header |= {
        "kind": "values",
        "range": _ends(known) if len(known) else None,
        "without": len(of_all) - len(known),
    }
    values = of_all[chosen]
    values[~np.isfinite(values)] = np.nan
    return _packed(header, {"values": ({}, values.astype(np.float32))})


def _codes_answer(
    header: dict[str, Any],
    of_all: NDArray[np.int32],
    chosen: NDArray[np.int64],
    names: dict[int, str],
) -> bytes:
    """Codes with their legend, which counts all points of the map, not only those of a sample."""
    groups, counts = np.unique(of_all, return_counts=True)
    items = dict(zip(groups.tolist(), counts.tolist(), strict=True))
    header |= {
        "kind": "codes",
        "noise": items.get(NOISE, 0),
        "without": items.get(WITHOUT, 0),
        "legend": [
            {"code": code, "name": name, "items": items[code]}
            for code, name in names.items()
            if code in items
        ],
    }
    shifted = of_all[chosen].astype(np.int64) - WITHOUT
    codes = _narrow(shifted, int(shifted.max(initial=0)))
    return _packed(header, {"codes": ({"shift": WITHOUT}, codes)})


def _packed(header: dict[str, Any], parts: Columns) -> bytes:
    """The header and the columns, as the text at the head of this module says."""
    described, body, at = {}, [], 0
    for name, (coding, numbers) in parts.items():
        described[name] = {"type": numbers.dtype.name, "at": at, **coding}
        data = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
        data += b"\0" * (-len(data) % 8)
        body.append(data)
        at += len(data)
    text = json.dumps({**header, "columns": described}).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join((len(text).to_bytes(4, "little"), text, *body))


def _answer(current: Page, body: bytes) -> Response:
    """The bytes, or 304 for who has them. The tag is made of the bytes: the same tag, the same answer."""
    tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    headers = {
        "cache-control": "private, no-cache",  # kept, but asked for again: names and labels change
        "etag": tag,
        "x-content-type-options": "nosniff",
    }
    known = current.request.headers.get("if-none-match", "")
    if tag in (part.strip().removeprefix("W/") for part in known.split(",")):
        return Response("", status=304, headers=headers)
    return Response(body, headers=headers, content_type="application/octet-stream")
