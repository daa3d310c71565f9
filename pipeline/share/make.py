"""Share: a map and what is on it as one page of HTML.

    share(db, Path("photos.db"), Path("photos.html"))

What is drawn comes from the routes that draw the map in the browser, so that both show the same.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearsql import __version__
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.share.contents import Contents, add_thumbnails, gather, images_of
from nearsql.pipeline.share.page import assemble, skeleton
from nearsql.pipeline.share.server import Pages
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# What the facts of a page may take, which are known only when everything else is in it.
FACTS_ROOM = 20_000


@dataclass(frozen=True, slots=True)
class Shared:
    """What a page holds. left_out: what there was no room for."""

    path: Path
    run: int
    points: int
    all_points: int
    texts: int
    thumbnails: int
    images: int
    unreadable: int
    bytes: int
    left_out: tuple[str, ...]


def share(
    db: dbapi.Connection,
    file: Path,
    to: Path,
    *,
    run: int | None = None,
    title: str | None = None,
    most_bytes: int = 32_000_000,
    quiet: bool = False,
) -> Shared:
    """Writes the page, in the place of one that is there. db: the same file, open for reading.

    run: the map; by default the newest. Raises UserError without a map, or when not even 1,000 points
    fit into most_bytes.
    """
    chosen = _chosen(db, file, run)
    title = title or f"{file.stem}: {chosen['space'] or 'map ' + str(chosen['run_id'])}"
    contents = Contents(most_bytes)
    with Pages(file) as pages:
        script, style = skeleton(pages, chosen["run_id"])
        made = _made(file, chosen)
        empty = assemble(Contents(0), script, style, title=title, made=made)
        contents.size = len(empty.encode()) + FACTS_ROOM
        ids = gather(db, pages, chosen, contents)
        images = images_of(db, chosen["run_id"], ids)
        with progress("thumbnails", len(images), quiet=quiet) as bar:
            add_thumbnails(pages, images, contents, bar)
    contents.facts["left_out"] = contents.left_out
    text = assemble(contents, script, style, title=title, made=made)
    _write(to, text.encode())
    pictures = contents.facts["thumbnails"]
    return Shared(
        path=to,
        run=chosen["run_id"],
        points=len(ids),
        all_points=chosen["points"],
        texts=contents.facts["texts"]["shown"],
        thumbnails=pictures["shown"],
        images=pictures["all"],
        unreadable=pictures["unreadable"],
        bytes=to.stat().st_size,
        left_out=tuple(contents.left_out),
    )


def _chosen(db: dbapi.Connection, file: Path, run: int | None) -> dict[str, Any]:
    names = ("run_id", "space", "method", "finished_at", "points")
    maps = [dict(zip(names, row, strict=True)) for row in db.execute(read_sql(__package__, "maps"))]
    if not maps:
        raise UserError(f"{file} has no map yet: `nearsql project {file} SPACE` makes one")
    found = [each for each in maps if run in (None, each["run_id"])]
    if not found:
        runs = ", ".join(str(each["run_id"]) for each in maps[:10])
        raise UserError(f"run {run} is no map of {file}: the maps are {runs}")
    return found[0]


def _made(file: Path, run: dict[str, Any]) -> str:
    parts = [f"{run['points']:,} items", run["method"], f"run {run['run_id']} of {file.name}"]
    parts += [(run["finished_at"] or "")[:10], f"made by nearsql {__version__}"]
    return ", ".join(part for part in parts if part)


def _write(to: Path, data: bytes) -> None:
    """Whole or not at all: whoever opens the page meanwhile sees the old one."""
    handle, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        os.chmod(name, 0o644)
        os.replace(name, to)
    except BaseException:
        os.unlink(name)
        raise
