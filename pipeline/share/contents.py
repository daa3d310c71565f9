"""What a shared page holds: points, colours, the beginnings of texts, and as many thumbnails as fit."""

import base64
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import Progress, UserError
from nearsql.pipeline.share.server import Pages
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# More points than this are not drawn, and fewer than this are no map.
MOST_POINTS, FEWEST_POINTS = 1_000_000, 1_000
MOST_VALUES, MOST_LABELS = 1_000, 8
LETTERS = (240, 120, 60)  # of a text that are shown, the most that fit
AT_ONCE = 16  # thumbnails asked for
FEW_IMAGES = 1_000  # up to here thumbnails are twice as fine
SMALL, FINE = 96, 192  # pixels


@dataclass
class Contents:
    """What goes into the page: `parts` are texts by the ids of their elements; `facts` says what they are."""

    most_bytes: int
    parts: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    size: int = 0

    @property
    def room(self) -> int:
        """How many bytes are left."""
        return self.most_bytes - self.size

    def add(self, name: str, data: bytes, *, packed: bool = True) -> bool:
        """Adds a part, if there is room. packed: compressed first."""
        text = encoded(data) if packed else base64.b64encode(data).decode()
        if len(text) > self.room:
            return False
        self.parts[name] = text
        self.size += len(text)
        return True


def encoded(data: bytes) -> str:
    """Compressed (RFC 1950), as base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def gather(
    db: dbapi.Connection, pages: Pages, run: dict[str, Any], contents: Contents
) -> NDArray[np.int64]:
    """Adds the points, colours and texts of a map; gives the ids of the items that are drawn (n,).

    Raises UserError where not even the points fit.
    """
    limit = min(MOST_POINTS, run["points"])
    while True:
        window = f"?limit={limit}"
        body = pages.get(f"map/{run['run_id']}/columns{window}")
        if contents.add("points", body):
            break
        if limit <= FEWEST_POINTS:
            needed = contents.size + len(encoded(body))
            raise UserError(
                f"--max-bytes {contents.most_bytes} is too few: the page and {limit:,} points alone"
                f" take {needed:,}"
            )
        limit = max(FEWEST_POINTS, limit // 2)
    ids = point_ids(body)
    contents.facts["points"] = {"shown": len(ids), "all": run["points"]}
    _add_colours(db, pages, run, window, contents)
    _add_texts(db, run["run_id"], ids, contents)
    return ids


def _add_colours(
    db: dbapi.Connection, pages: Pages, run: dict[str, Any], window: str, contents: Contents
) -> None:
    from urllib.parse import quote

    asked = {
        "run": run["run_id"],
        "space": run["space"],
        "most_values": MOST_VALUES,
        "most_labels": MOST_LABELS,
    }
    contents.facts["colourings"] = []
    for key, title in db.execute(read_sql(__package__, "colourings"), asked).fetchall():
        path = f"map/{run['run_id']}/colours{window}&by={quote(key, safe='')}"
        name = f"colours-{len(contents.facts['colourings'])}"
        if contents.add(name, pages.get(path)):
            contents.facts["colourings"].append({"key": key, "title": title, "part": name})
        else:
            contents.left_out.append(title)


def _add_texts(db: dbapi.Connection, run: int, ids: NDArray[np.int64], contents: Contents) -> None:
    drawn = set(ids.tolist())
    for letters in LETTERS:
        rows = db.execute(read_sql(__package__, "texts"), {"run": run, "letters": letters})
        texts = {
            item: text + ("\u2026" if length > letters else "")
            for item, text, length in rows
            if item in drawn
        }
        contents.facts["texts"] = {"shown": len(texts), "letters": letters}
        if not texts or contents.add("texts", json.dumps(texts).encode()):
            return
    contents.facts["texts"] = {"shown": 0, "letters": 0}
    contents.left_out.append("texts")


def images_of(db: dbapi.Connection, run: int, ids: NDArray[np.int64]) -> list[int]:
    """The images among the items, those first that get a thumbnail first."""
    drawn = set(ids.tolist())
    rows = db.execute(read_sql(__package__, "images"), {"run": run})
    return [item for (item,) in rows if item in drawn]


def add_thumbnails(pages: Pages, images: list[int], contents: Contents, progress: Progress) -> None:
    """Adds thumbnails of the images, in their order, until there is no room for another."""
    size = FINE if len(images) <= FEW_IMAGES else SMALL
    # Base64 of one long text: 4 letters for 3 bytes, and the list of ids and lengths.
    room = contents.room * 3 // 4
    items: list[int] = []
    pictures: list[bytes] = []
    unreadable = 0
    for start in range(0, len(images), AT_ONCE):
        wanted = images[start : start + AT_ONCE]
        answers = pages.get_all([f"items/{item}/thumbnail?size={size}" for item in wanted])
        for item, picture in zip(wanted, answers, strict=True):
            if isinstance(picture, UserError):
                unreadable += 1
            elif (room := room - len(picture) - 8) >= 0:
                items.append(item)
                pictures.append(picture)
        progress.advance(len(wanted))
        if room < 0:
            break
    if items:
        table = struct.pack(f"<I{2 * len(items)}I", len(items), *items, *map(len, pictures))
        added = contents.add("thumbnails", b"".join((table, *pictures)), packed=False)
        assert added, "the room was counted"
    contents.facts["thumbnails"] = {
        "shown": len(items),
        "all": len(images),
        "unreadable": unreadable,
        "size": size,
    }


def point_ids(body: bytes) -> NDArray[np.int64]:
    """The item ids (n,) in an answer of the route of a map's columns, in the order of the points."""
    (length,) = struct.unpack_from("<I", body)
    header = json.loads(body[4 : 4 + length])
    column = header["columns"]["ids"]
    stored = np.frombuffer(body, f"{column['type']}", header["n"], 4 + length + column["at"])
    ids = stored.astype(np.int64)
    return ids if "first" not in column else column["first"] + np.cumsum(ids)
