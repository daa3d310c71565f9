"""What a clustering run leaves: clusters by level, and who belongs to them.

A method computes labels; `describe` makes rows of a level's clusters, `write_result` writes all of them,
and `hash_result` is what a replay must reproduce.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.row_hash import hash_rows
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import normalized
from nearsql.udfs.sql_files import read_sql

# Vectors summed at a time.
_BLOCK = 4096


class ClusterRow(NamedTuple):
    """One cluster. level 1 is the coarsest; parent is the label of a cluster at parent_level, or None."""

    level: int
    label: int
    parent: int | None
    size: int
    centroid: bytes | None  # float32, little-endian
    exemplar: int | None  # an item's id
    birth_lambda: float | None
    parent_level: int | None = None  # None: one level above
    max_lambda: float | None = None


class MemberRow(NamedTuple):
    """Where an item belongs at a level. label None is noise; what a method does not measure is None."""

    level: int
    item_id: int
    label: int | None
    probability: float | None
    outlier_score: float | None
    core_distance: float | None


@dataclass(frozen=True, slots=True)
class FoundClusters:
    """What a method found. counts: what else it counted, for the run's record."""

    clusters: list[ClusterRow]
    members: list[MemberRow]
    counts: dict[str, int | float] = field(default_factory=dict)


def describe(
    matrix: Matrix,
    level: int,
    item_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    births: NDArray[np.float64] | None = None,
    parents: NDArray[np.int64] | None = None,
    max_lambdas: NDArray[np.float64] | None = None,
) -> list[ClusterRow]:
    """The clusters of a level, by label: sizes, centroids, exemplars.

    matrix: the space as it is stored, in which all items are. All others are (n,), one of each item:
    item_ids ascending; labels from 0, -1 for noise; births and max_lambdas, the birth lambda of the item's
    cluster and its largest; parents, its label one level above (which for an item in a cluster is never -1).

    The centroid is the mean of the vectors; in a cosine space, of the vectors divided by their norms.
    The exemplar is the item of highest probability, of several the one of lowest id. Raises ValueError
    when the items of a cluster have different parents, or none.
    """
    order = np.argsort(labels, kind="stable")  # so that each cluster's items stay ascending
    found, starts = np.unique(labels[order], return_index=True)
    rows = []
    for label, of_label in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        if label < 0:
            continue
        parent = None
        if parents is not None:
            parent = int(parents[of_label[0]])
            if parent < 0 or (parents[of_label] != parent).any():
                raise ValueError(f"cluster {label} of level {level} is not within one parent")
        first = of_label[0]
        exemplar = of_label[np.argmax(probabilities[of_label])]
        rows.append(
            ClusterRow(
                level,
                label,
                parent,
                len(of_label),
                _centroid(matrix, item_ids[of_label]),
                int(item_ids[exemplar]),
                None if births is None else float(births[first]),
                max_lambda=None if max_lambdas is None else float(max_lambdas[first]),
            )
        )
    return rows


def _centroid(matrix: Matrix, item_ids: NDArray[np.int64]) -> bytes:
    places = matrix.positions(item_ids)
    total = np.zeros(matrix.vectors.shape[1], np.float64)
    for start in range(0, len(places), _BLOCK):
        vectors = matrix.vectors[places[start : start + _BLOCK]]
        if matrix.space.metric == "cosine":
            vectors = normalized(vectors)
        total += vectors.sum(axis=0, dtype=np.float64)
    return (total / len(places)).astype("<f4").tobytes()


def write_result(
    db: dbapi.Connection,
    run_id: int,
    clusters: Sequence[ClusterRow],
    members: Sequence[MemberRow],
) -> None:
    """Writes a run's clusters and memberships in the caller's one short transaction."""
    ids: dict[tuple[int, int], int] = {}
    for level in sorted({cluster.level for cluster in clusters}):
        db.executemany(
            "insert into clusters (run_id, level, label, parent_id, size, centroid, exemplar_item_id,"
            " birth_lambda, max_lambda) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    run_id,
                    level,
                    row.label,
                    None if row.parent is None else ids[row.parent_level or level - 1, row.parent],
                    row.size,
                    row.centroid,
                    row.exemplar,
                    row.birth_lambda,
                    row.max_lambda,
                )
                for row in clusters
                if row.level == level
            ),
        )
        written = db.execute(
            "select label, id from clusters where run_id = ? and level = ?", (run_id, level)
        )
        ids |= {(level, label): cluster_id for label, cluster_id in written}
    db.executemany(
        "insert into memberships (run_id, level, item_id, cluster_id, probability, outlier_score,"
        " core_distance) values (?, ?, ?, ?, ?, ?, ?)",
        (
            (run_id, level, item, None if label is None else ids[level, label], *measures)
            for level, item, label, *measures in members
        ),
    )


def hash_result(clusters: Sequence[ClusterRow], members: Sequence[MemberRow]) -> str:
    """The SHA-256 of a result, whatever the order of its rows.

    Without max_lambda, so that older runs, which lack it, have the same: it divides each probability, which
    is hashed. `result_again` compares it where it is stored.
    """
    clusters = sorted(clusters, key=lambda row: (row.level, row.label))
    members = sorted(members, key=lambda row: (row.level, row.item_id))
    hashed = (row[: ClusterRow._fields.index("max_lambda")] for row in clusters)
    return hash_rows(chain(hashed, members))


def result_again(db: dbapi.Connection, run_id: int, found: FoundClusters) -> Again:
    """What a run found, computed anew, beside the clusters and members that it stored."""
    clusters = sorted(
        (
            # Where no other level is said, a parent is one above.
            row
            if row.parent is None
            else row._replace(parent_level=row.parent_level or row.level - 1)
            for row in found.clusters
        ),
        key=lambda row: (row.level, row.label),
    )
    members = sorted(found.members, key=lambda row: (row.level, row.item_id))

    def stored(name: str) -> list[tuple[object, ...]]:
        return db.execute(read_sql(__package__, name), {"run": run_id}).fetchall()

    clusters_then = stored("stored_clusters")
    if all(row[-1] is None for row in clusters_then):  # an older nearsql made it
        clusters = [row._replace(max_lambda=None) for row in clusters]

    return Again(
        (
            ResultTable(
                "clusters",
                ClusterRow._fields,
                2,
                clusters_then,
                map(tuple, clusters),
                {"centroid": "<f4"},
            ),
            ResultTable(
                "memberships",
                MemberRow._fields,
                2,
                stored("stored_members"),
                map(tuple, members),
            ),
        ),
        lambda: hash_result(found.clusters, found.members),
    )
