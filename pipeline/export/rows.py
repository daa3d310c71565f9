"""Items and clusters as they are exported, read in batches so that memory stays bounded."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.chosen import Chosen
from nearsql.pipeline.within import argument_of
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Items read, held and written at a time.
BATCH = 4096


class Point(NamedTuple):
    """An item's place on a map; is_placed: it was put there later, among those that the map was made of."""

    x: float
    y: float
    is_placed: bool


class Membership(NamedTuple):
    """An item's place in a level of a clustering; cluster, its label, is None for noise."""

    cluster: int | None
    name: str | None  # of the cluster, the newest there is
    probability: float | None
    outlier_score: float | None
    is_assigned: bool


@dataclass(slots=True)
class Item:
    """An item with all that is exported of it: points by run, memberships by (run, level)."""

    id: int
    kind: str
    collection: str
    sequence_number: int
    uri: str | None
    text: str | None
    width: int | None
    height: int | None
    created_at: str
    metadata_json: str
    labels: dict[str, str] = field(default_factory=dict)
    points: dict[int, Point] = field(default_factory=dict)
    memberships: dict[tuple[int, int], Membership] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster with its newest name; parent is the label of the one around it, a level above.

    centres: the mean place of its items on each exported map, by run, where any of them is on it.
    """

    run: int
    level: int
    cluster: int
    parent: int | None
    name: str | None
    description: str | None
    category: str | None
    strength: float | None
    size: int
    exemplar_item_id: int | None
    birth_lambda: float | None
    max_lambda: float | None
    centres: dict[int, tuple[float, float]]


def count_items(db: dbapi.Connection, chosen: Chosen) -> int:
    """How many items the export has."""
    (count,) = db.execute(
        f"select count(*) from items i where {_which_items()}", _which(chosen)
    ).fetchone()
    return int(count)


def batches(db: dbapi.Connection, chosen: Chosen, size: int = BATCH) -> Iterator[list[Item]]:
    """The items by id, in batches of at most `size`."""
    # Of a selection, so many ids at a time: all of them would be read anew for each batch.
    ids = None if chosen.within is None else chosen.within.ids
    after, start = None, 0
    while ids is None or start < len(ids):
        some = None if ids is None else json.dumps(ids[start : start + size].tolist())
        start += size
        rows = db.execute(
            "select i.id, i.kind, i.collection, i.sequence_number, i.uri, i.content, i.width, i.height,"
            " i.created_at, json(i.metadata_json) from items i"
            f" where (:after is null or i.id > :after) and ({_which_items()})"
            " order by i.id limit :size",
            {**_which(chosen), "within": some, "after": after, "size": size},
        ).fetchall()
        if rows:
            after = rows[-1][0]
            yield _batch(db, chosen, rows)
        elif ids is None:
            return


def _batch(db: dbapi.Connection, chosen: Chosen, rows: Sequence[Sequence[Any]]) -> list[Item]:
    """The items of these rows, with all that is exported of them."""
    batch = {row[0]: Item(*row) for row in rows}
    ids = json.dumps(list(batch))
    _add_labels(db, batch, ids)
    for run in chosen.maps:
        _add_points(db, batch, ids, run.id)
    for run in chosen.clusterings:
        for level in run.levels:
            _add_memberships(db, batch, ids, run.id, level.level)
    return list(batch.values())


def clusters(db: dbapi.Connection, chosen: Chosen) -> Iterator[Cluster]:
    """The clusters of all chosen runs, by run, level and label."""
    for run in chosen.clusterings:
        centres = {drawn.id: _centres(db, run.id, drawn.id) for drawn in chosen.maps}
        for cluster_id, *values in db.execute(read_sql(__package__, "clusters"), {"run": run.id}):
            found = {
                at: places[cluster_id] for at, places in centres.items() if cluster_id in places
            }
            yield Cluster(*(run.id, *values, found))


def label_names(db: dbapi.Connection, chosen: Chosen) -> list[str]:
    """The names of the labels that the exported items have, in order."""
    rows = db.execute(
        "select distinct l.name from item_labels l join items i on i.id = l.item_id"
        f" where {_which_items()} order by l.name",
        _which(chosen),
    )
    return [name for (name,) in rows]


def _which_items() -> str:
    """The condition that an item goes out."""
    return read_sql(__package__, "which_items")


def _which(chosen: Chosen) -> dict[str, Any]:
    return {
        "only_theirs": chosen.only_their_items,
        "runs": json.dumps(chosen.run_ids),
        "within": argument_of(chosen.within),
    }


def _add_labels(db: dbapi.Connection, batch: dict[int, Item], ids: str) -> None:
    """ids: of the batch, as a JSON array; of a sample they lie far apart."""
    rows = db.execute(
        "select item_id, name, value from item_labels"
        " where item_id in (select value from json_each(?)) order by item_id, name",
        (ids,),
    ).fetchall()
    for item, name, value in rows:
        batch[item].labels[name] = value


def _add_points(db: dbapi.Connection, batch: dict[int, Item], ids: str, run: int) -> None:
    rows = db.execute(
        "select item_id, x, y, placed_by_run_id is not null from projection_points"
        " where run_id = ? and item_id in (select value from json_each(?))",
        (run, ids),
    ).fetchall()
    for item, x, y, is_placed in rows:
        batch[item].points[run] = Point(x, y, bool(is_placed))


def _add_memberships(
    db: dbapi.Connection, batch: dict[int, Item], ids: str, run: int, level: int
) -> None:
    rows = db.execute(
        read_sql(__package__, "memberships"), {"run": run, "level": level, "ids": ids}
    ).fetchall()
    for item, is_damaged, *values, is_assigned in rows:
        if is_damaged:
            raise UserError(
                f"item {item} of run {run} is in a cluster of another run or level: the file is damaged"
            )
        batch[item].memberships[run, level] = Membership(*(*values, bool(is_assigned)))


def _centres(db: dbapi.Connection, run: int, drawn: int) -> dict[int, tuple[float, float]]:
    rows = db.execute(
        "select m.cluster_id, avg(p.x), avg(p.y) from memberships m"
        " join projection_points p on p.run_id = :map and p.item_id = m.item_id"
        " where m.run_id = :run and m.cluster_id is not null group by m.cluster_id",
        {"run": run, "map": drawn},
    )
    return {cluster: (x, y) for cluster, x, y in rows}
