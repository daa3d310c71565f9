"""items.parquet and labels.parquet: a map as Embedding Atlas shows it.

embedding-atlas items.parquet --x x --y y --text text --neighbors neighbors --labels labels.parquet

`neighbors` is what it takes for neighbours: {"ids": [...], "distances": [...]}, where an id is the place of a
row in the table, from 0. `image` is {"bytes": ..., "path": ...}, as Hugging Face's data sets have images.
"""

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.datamapplot_files import cluster_names
from nearsql.pipeline.export.files import Source, WrittenFile, written
from nearsql.pipeline.export.rows import Cluster, Item
from nearsql.pipeline.export.tables import Column, ParquetTable, item_columns
from nearsql.pipeline.within import argument_of
from nearsql.udfs import dbapi
from nearsql.udfs.search.stored_graph import graph_run
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql

# Items in one row group: their pictures are in memory together.
_AT_ONCE = 256


def write_atlas(
    folder: Path, source: Source, images: str
) -> tuple[list[WrittenFile], int, dict[str, Any], list[str]]:
    """Writes the items of the one map of the source's runs; its clusters, if there are any, are categories.

    images: `none` leaves their pictures out, which are otherwise JPEG of at most 512 pixels a side. Gives the
    files, the number of items, counts, and a sentence for each image that cannot be read.
    """
    (drawn,) = source.chosen.maps
    ids = _on_the_map(source, drawn.id)
    neighbors = _Neighbors(source.db, drawn.space, ids)
    pictures: dict[int, dict[str, Any]] = {}
    columns = [
        Column("x", "real", lambda item: item.points[drawn.id].x),
        Column("y", "real", lambda item: item.points[drawn.id].y),
        *_categories(source),
        *item_columns(source.chosen, source.label_names()),
    ]
    if neighbors.k:
        columns.append(Column("neighbors", "neighbors", lambda item: neighbors.found[item.id]))
    if images != "none" and _has_images(source, drawn.id):
        columns.append(Column("image", "image", lambda item: pictures.get(item.id)))
    problems: list[str] = []
    path = folder / "items.parquet"
    n, n_pictures = 0, 0
    with closing(ParquetTable(path, columns)) as table:
        for batch in source.batches():
            on_map = [item for item in batch if drawn.id in item.points]
            for start in range(0, len(on_map), _AT_ONCE):
                some = on_map[start : start + _AT_ONCE]
                _refuse_infinite(some, drawn.id)
                neighbors.read([item.id for item in some])
                if columns[-1].name == "image":
                    pictures = _pictures(source.db, some, problems)
                    n_pictures += len(pictures)
                table.write(some)
                n += len(some)
    files = [written(path, n)]
    counts: dict[str, Any] = {"neighbours of each": neighbors.k} if neighbors.k else {}
    if n_pictures:
        counts["pictures"] = n_pictures
    names = [c for c in source.clusters() if drawn.id in c.centres]
    if names:
        path = folder / "labels.parquet"
        with closing(ParquetTable(path, _label_columns(drawn.id, source))) as table:
            table.write(names)
        files.append(written(path, len(names)))
        counts["cluster names"] = len(names)
    return files, n, counts, problems


def _on_the_map(source: Source, run: int) -> NDArray[np.int64]:
    """The items that go out, ascending: the place of each is the number of its row."""
    rows = source.db.execute(
        "select item_id from projection_points where run_id = :run and (:within is null"
        " or item_id in (select value from json_each(:within))) order by item_id",
        {"run": run, "within": argument_of(source.chosen.within)},
    )
    ids = np.fromiter((item for (item,) in rows), np.int64)
    if not len(ids):
        raise UserError(f"none of the items is on the map of run {run}")
    return ids


class _Neighbors:
    """The stored neighbours of the map's space, as rows of the table. k: of each item; 0: there are none.

    Embedding Atlas takes as many of each item: where others of them do not go out, all have as many as the
    one with the fewest.
    """

    def __init__(self, db: dbapi.Connection, space: str | None, ids: NDArray[np.int64]) -> None:
        self._db, self._ids = db, ids
        self.found: dict[int, dict[str, list[Any]]] = {}
        self._run, self.k = None, 0
        known = None
        if space is not None and _is_there(db, space):
            known = graph_run(db.apsw, find_space(db.apsw, space), 1)
        if known is None:
            return
        self._run = known.id
        self.k = known.k
        for start in range(0, len(ids), _AT_ONCE * 16):
            some = self._rows(ids[start : start + _AT_ONCE * 16].tolist())
            self.k = min(self.k, *(len(places) for places, _ in some.values()))

    def read(self, ids: Sequence[int]) -> None:
        """Reads those of these items, ascending, and forgets those before."""
        if self.k:
            self.found = {
                item: {"ids": places[: self.k], "distances": distances[: self.k]}
                for item, (places, distances) in self._rows(ids).items()
            }

    def _rows(self, ids: Sequence[int]) -> dict[int, tuple[list[int], list[float]]]:
        found: dict[int, tuple[list[int], list[float]]] = {item: ([], []) for item in ids}
        rows = self._db.execute(
            read_sql("nearsql.pipeline", "neighbors_of_items"),
            {"run": self._run, "first": ids[0], "last": ids[-1]},
        ).fetchall()
        places = np.searchsorted(self._ids, [neighbor for _, _, neighbor, _ in rows])
        for (item, _, neighbor, distance), place in zip(rows, places.tolist(), strict=True):
            if item in found and place < len(self._ids) and self._ids[place] == neighbor:
                found[item][0].append(place)
                found[item][1].append(distance)
        return found


def _is_there(db: dbapi.Connection, space: str) -> bool:
    return db.execute("select 1 from spaces where name = ?", (space,)).fetchone() is not None


def _has_images(source: Source, run: int) -> bool:
    row = source.db.execute(
        "select 1 from projection_points p join items i on i.id = p.item_id"
        " where p.run_id = ? and i.kind = 'image' limit 1",
        (run,),
    ).fetchone()
    return row is not None


def _categories(source: Source) -> list[Column]:
    """The names of the clusters of each level: `category` of the coarsest, then category_2, ..."""
    columns = []
    for clustering in source.chosen.clusterings:
        names = cluster_names(source.clusters())
        for level in clustering.levels:
            own, at = names.get(level.level, {}), (clustering.id, level.level)

            def name(item: Item, own: Any = own, at: tuple[int, int] = at) -> str | None:
                place = item.memberships.get(at)
                if place is None:
                    return None
                return "noise" if place.cluster is None else str(own[place.cluster])

            suffix = "" if level.level == 1 else f"_{level.level}"
            columns.append(Column(f"category{suffix}", "text", name))
    return columns


def _label_columns(run: int, source: Source) -> list[Column]:
    """x, y, text, level (how far one has zoomed in, from 0) and priority, as --labels takes them."""
    names = cluster_names(source.clusters())

    def text(cluster: Cluster) -> str:
        return names[cluster.level][cluster.cluster]

    return [
        Column("x", "real", lambda cluster: cluster.centres[run][0]),
        Column("y", "real", lambda cluster: cluster.centres[run][1]),
        Column("text", "text", text),
        Column("level", "integer", lambda cluster: cluster.level - 1),
        Column("priority", "integer", lambda cluster: cluster.size),
    ]


def _pictures(
    db: dbapi.Connection, items: Sequence[Item], problems: list[str]
) -> dict[int, dict[str, Any]]:
    from nearsql.pipeline.label.pictures import read_pictures

    ids = [item.id for item in items if item.kind == "image"]
    found, unreadable = read_pictures(db, ids)
    problems += [f"the image of item {item}: {why}" for item, why in unreadable.items()]
    return {item: {"bytes": data, "path": f"{item}.jpg"} for item, data in found.items()}


def _refuse_infinite(items: Sequence[Item], run: int) -> None:
    for item in items:
        point = item.points[run]
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise UserError(
                f"item {item.id} lies at {point.x}, {point.y} on the map of run {run}, which cannot be drawn"
            )
