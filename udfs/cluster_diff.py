"""What changed from one clustering run to another, over the items that both of them hold.

Two clusters are counterparts when one holds more than half of the other's items. Each cluster lies more
than half in at most one other, so that there are never more pairs of counterparts than clusters. From
their counterparts alone follows what became of each cluster; the half is the threshold of MONIC
(Spiliopoulou, Ntoutsi, Theodoridis and Schult, KDD 2006), which asks it in one direction only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.cluster_agreement import (
    Overlaps,
    adjusted_mutual_information,
    adjusted_rand,
    overlaps,
)
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.sql_files import read_sql

Change = Literal["same", "split", "merged", "mixed", "new", "gone"]
Move = Literal["moved", "to noise", "from noise"]
Ids = NDArray[np.int64]

NOISE = -1


@dataclass(frozen=True, slots=True)
class Clustering:
    """One level of a run: its items, ascending, and their labels, NOISE for none; (n,) each."""

    run: int
    level: int
    items: Ids
    labels: Ids


@dataclass(frozen=True, slots=True)
class ClusterChange:
    """A pair of counterparts, or a cluster without one (then the other run's columns are None).

    size: all items of the cluster in its run; compared: those of them that the other run holds, too,
    as a member or as noise; overlap: how many the two have in common. change is None for a cluster of
    which nothing can be compared.
    """

    change: Change | None
    cluster_a: int | None
    cluster_b: int | None
    size_a: int | None
    size_b: int | None
    compared_a: int | None
    compared_b: int | None
    overlap: int | None
    jaccard: float | None


class Comparison:
    """Two clusterings and the items that both hold.

    items, labels_a, labels_b, (m,): those items, ascending, with their labels in each. table: the overlaps
    of all their labels, noise included.
    """

    def __init__(self, a: Clustering, b: Clustering) -> None:
        self.a, self.b = a, b
        self.items, in_a, in_b = np.intersect1d(
            a.items, b.items, assume_unique=True, return_indices=True
        )
        if not len(self.items):
            raise SqlFunctionError(
                f"runs {a.run} and {b.run} hold no item in common (at levels {a.level} and {b.level}),"
                " so that nothing can be compared"
            )
        self.labels_a, self.labels_b = a.labels[in_a], b.labels[in_b]
        self.table = overlaps(self.labels_a, self.labels_b)
        self._links = _counterparts(self.table)

    def changes(self) -> Iterator[ClusterChange]:
        """What became of each cluster: those of the first run by label, then what is new in the second."""
        table, links = self.table, self._links
        rows, columns = table.rows[links], table.columns[links]
        several_a = np.bincount(rows, minlength=len(table.labels_a)) > 1
        several_b = np.bincount(columns, minlength=len(table.labels_b)) > 1
        partners: dict[int, list[int]] = {}
        for link, row in zip(links.tolist(), rows.tolist(), strict=True):
            partners.setdefault(row, []).append(link)
        sizes_a, sizes_b = _sizes(self.a), _sizes(self.b)
        places_a = {label: place for place, label in enumerate(table.labels_a.tolist())}
        places_b = {label: place for place, label in enumerate(table.labels_b.tolist())}
        for label, size in sizes_a.items():
            place = places_a.get(label)
            if place is None:
                yield ClusterChange(None, label, None, size, None, 0, None, None, None)
                continue
            compared = int(table.sizes_a[place])
            if place not in partners:
                yield ClusterChange("gone", label, None, size, None, compared, None, None, None)
            for link in sorted(partners.get(place, ()), key=lambda at: -int(table.counts[at])):
                column, overlap = int(table.columns[link]), int(table.counts[link])
                other, compared_b = int(table.labels_b[column]), int(table.sizes_b[column])
                yield ClusterChange(
                    _change(bool(several_a[place]), bool(several_b[column])),
                    label,
                    other,
                    size,
                    sizes_b[other],
                    compared,
                    compared_b,
                    overlap,
                    overlap / (compared + compared_b - overlap),
                )
        continued = set(table.labels_b[columns].tolist())
        for label, size in sizes_b.items():
            if label not in continued:
                place = places_b.get(label)
                compared = 0 if place is None else int(table.sizes_b[place])
                change: Change | None = "new" if compared else None
                yield ClusterChange(change, None, label, None, size, None, compared, None, None)

    def moves(self) -> Iterator[tuple[int, Move, int | None, int | None]]:
        """(item, move, label in the first run, in the second) of the items that left their cluster.

        An item stays when its two clusters are counterparts, or when it was noise and is.
        """
        moved = self._is_moved()
        for item, a, b in zip(
            self.items[moved].tolist(),
            self.labels_a[moved].tolist(),
            self.labels_b[moved].tolist(),
            strict=True,
        ):
            if b == NOISE:
                yield item, "to noise", a, None
            elif a == NOISE:
                yield item, "from noise", None, b
            else:
                yield item, "moved", a, b

    def count_moves(self) -> dict[Move, int]:
        """How many items `moves` gives, by move."""
        moved = self._is_moved()
        left, joined = self.labels_b[moved] == NOISE, self.labels_a[moved] == NOISE
        n_left, n_joined = int(left.sum()), int(joined.sum())
        return {
            "moved": int(moved.sum()) - n_left - n_joined,
            "to noise": n_left,
            "from noise": n_joined,
        }

    def agreement(
        self, poll: Callable[[], None] = lambda: None
    ) -> tuple[float | None, float | None, float | None, float | None]:
        """ARI and AMI with noise as one more cluster; then both over items in a cluster in both runs.

        None where fewer than 2 items are left to compare.
        """
        both = (self.labels_a != NOISE) & (self.labels_b != NOISE)
        a, b = self.labels_a[both], self.labels_b[both]
        return (
            adjusted_rand(self.labels_a, self.labels_b),
            adjusted_mutual_information(self.table, poll),
            adjusted_rand(a, b),
            adjusted_mutual_information(overlaps(a, b), poll),
        )

    def _is_moved(self) -> NDArray[np.bool_]:
        table = self.table
        width = len(table.labels_b)
        stays = table.rows[self._links] * width + table.columns[self._links]
        codes = np.searchsorted(table.labels_a, self.labels_a) * width
        codes += np.searchsorted(table.labels_b, self.labels_b)
        both_noise = (self.labels_a == NOISE) & (self.labels_b == NOISE)
        return ~np.isin(codes, stays) & ~both_noise


def compare(
    db: apsw.Connection, run_a: int, run_b: int, level_a: int = 1, level_b: int = 1
) -> Comparison:
    """Compares a level of one finished clustering run with a level of another, or of the same.

    Raises SqlFunctionError for runs that are no such runs, levels they lack, and runs without a common item.
    """
    return Comparison(
        read_clustering(db, "run_a", run_a, level_a), read_clustering(db, "run_b", run_b, level_b)
    )


def read_clustering(db: apsw.Connection, name: str, run: int, level: int) -> Clustering:
    """One level of a finished clustering run; `name` is the argument that an error sentence is about."""
    row = cast(Any, db.execute("select kind, status from runs where id = ?", (run,)).fetchone())
    if row is None:
        raise SqlFunctionError(f"{name}: there is no run {run}{_clustering_runs(db)}")
    kind, status = row
    if kind != "cluster":
        raise SqlFunctionError(
            f"{name}: run {run} is of kind '{kind}', and only clusterings can be compared"
            f"{_clustering_runs(db)}"
        )
    if status != "finished":
        raise SqlFunctionError(f"{name}: run {run} is {status}, so that it has no clusters")
    members = cast(
        Any, db.execute(read_sql(__package__, "members_of_level"), (run, level)).fetchall()
    )
    if not members:
        found = db.execute("select distinct level from memberships where run_id = ?", (run,))
        levels = ", ".join(str(found) for (found,) in found)
        raise SqlFunctionError(
            f"{name}: run {run} has no level {level}: "
            + (f"it has {levels}" if levels else "it clustered no items")
        )
    items, labels = zip(*members, strict=True)
    if None in labels:
        raise SqlFunctionError(
            f"{name}: item {items[labels.index(None)]} of run {run} is in a cluster of another run or"
            " level: the file is damaged"
        )
    return Clustering(run, level, np.array(items, np.int64), np.array(labels, np.int64))


def _clustering_runs(db: apsw.Connection) -> str:
    """The runs that would work, as the end of a sentence."""
    runs = [
        str(run)
        for (run,) in db.execute(
            "select id from runs where kind = 'cluster' and status = 'finished'"
            " order by id desc limit 10"
        )
    ]
    return (
        f": the newest clusterings are {', '.join(runs)}" if runs else ": `nearsql cluster` first"
    )


def _counterparts(table: Overlaps) -> NDArray[np.intp]:
    """The places in the table of the pairs of which one cluster holds more than half of the other."""
    half = (2 * table.counts > table.sizes_a[table.rows]) | (
        2 * table.counts > table.sizes_b[table.columns]
    )
    is_noise = (table.labels_a[table.rows] == NOISE) | (table.labels_b[table.columns] == NOISE)
    return np.flatnonzero(half & ~is_noise)


def _change(a_has_several: bool, b_has_several: bool) -> Change:
    if a_has_several:
        return "mixed" if b_has_several else "split"
    return "merged" if b_has_several else "same"


def _sizes(clustering: Clustering) -> dict[int, int]:
    """Label -> items of it, ascending, without noise."""
    labels, counts = np.unique(clustering.labels, return_counts=True)
    return {
        label: count
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
        if label != NOISE
    }
