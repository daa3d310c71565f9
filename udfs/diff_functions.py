"""Clusterings compared in SQL: cluster_diff, cluster_moves, cluster_agreement."""

from collections.abc import Iterator
from dataclasses import astuple, fields
from typing import Any

import apsw

from nearsql.udfs.arguments import optional_whole_number, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.cluster_diff import ClusterChange, Comparison, Move, compare
from nearsql.udfs.interrupt import Poll

_EXAMPLE_RUNS = "3, 5"


@sql_function(
    columns=tuple(field.name for field in fields(ClusterChange)),
    example=f"select change, cluster_a, cluster_b, overlap, round(jaccard, 2) as jaccard\n"
    f"from cluster_diff({_EXAMPLE_RUNS})",
    estimated_rows=100,
)
def cluster_diff(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """What became of the clusters of run_a in run_b: a row a pair of counterparts, or a cluster without.

    Two clusters are counterparts when one holds more than half of the other's items. change:

    - 'same': each is the other's only counterpart. jaccard (overlap / items in either) says how much
      so: 1 is item by item, little is a cluster that grew or shrank.
    - 'split': cluster_a has several counterparts, a row each, and each of them has only it.
    - 'merged': cluster_b has several, and each of them has only it.
    - 'mixed': both have several, so that a part of one cluster joined another.
    - 'gone': cluster_a has none (cluster_b is NULL); 'new': cluster_b has none (cluster_a is NULL).
    - NULL: no item of this cluster is in the other run, so that nothing is known.

    Compared are the items that both runs hold, as members or noise, whatever spaces they clustered;
    compared_a and compared_b say how many of the size_a and size_b items of each cluster those are.
    level is the level of both runs, or of run_a where level_b is given, too: then two levels of one
    run can be compared.
    """
    for change in _compared(db, run_a, run_b, level, level_b).changes():
        yield astuple(change)


@sql_function(
    columns=("id", "move", "cluster_a", "cluster_b"),
    example="select move, cluster_a, cluster_b, count(*) as items\n"
    f"from cluster_moves({_EXAMPLE_RUNS}) group by 1, 2, 3 order by items desc limit 5",
)
def cluster_moves(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[int, Move, int | None, int | None]]:
    """The items that left their cluster between two runs, with the labels that they had and have.

    move: 'moved' to a cluster that is no counterpart (see `cluster_diff`) of the one it was in; 'to noise';
    'from noise'. An item stays in a cluster that split or merged if it went where the cluster went. Only
    items that both runs hold; the arguments are those of `cluster_diff`.
    """
    yield from _compared(db, run_a, run_b, level, level_b).moves()


@sql_function(
    columns=(
        *("items", "only_a", "only_b", "clusters_a", "clusters_b", "noise_a", "noise_b"),
        *("moved", "to_noise", "from_noise"),
        *("ari", "ami", "in_clusters", "ari_in_clusters", "ami_in_clusters"),
    ),
    example="select items, round(ari, 3) as ari, round(ami, 3) as ami, in_clusters,\n"
    "       round(ari_in_clusters, 3) as ari_in_clusters\n"
    f"from cluster_agreement({_EXAMPLE_RUNS})",
    estimated_rows=1,
)
def cluster_agreement(
    db: apsw.Connection, run_a: int, run_b: int, level: int = 1, level_b: int | None = None
) -> Iterator[tuple[int | float | None, ...]]:
    """How much two clusterings agree, in one row, over the `items` that both runs hold.

    ari is the adjusted Rand index, ami the adjusted mutual information (as in scikit-learn), with noise as
    one more cluster: 1 for the same partition, 0 what chance gives. ari_in_clusters and ami_in_clusters:
    over the `in_clusters` items that are in a cluster in both runs; NULL if those are fewer than 2.

    only_a and only_b count the items of one run only; clusters_a, clusters_b, noise_a and noise_b those
    of the compared items; moved, to_noise and from_noise the rows of `cluster_moves`. The arguments are
    those of `cluster_diff`.
    """
    found = _compared(db, run_a, run_b, level, level_b)
    items, moves = len(found.items), found.count_moves()
    in_a, in_b = found.labels_a >= 0, found.labels_b >= 0
    ari, ami, ari_in_clusters, ami_in_clusters = found.agreement(Poll(db))
    yield (
        items,
        len(found.a.items) - items,
        len(found.b.items) - items,
        int((found.table.labels_a >= 0).sum()),
        int((found.table.labels_b >= 0).sum()),
        items - int(in_a.sum()),
        items - int(in_b.sum()),
        moves["moved"],
        moves["to noise"],
        moves["from noise"],
        ari,
        ami,
        int((in_a & in_b).sum()),
        ari_in_clusters,
        ami_in_clusters,
    )


def _compared(db: apsw.Connection, run_a: Any, run_b: Any, level: Any, level_b: Any) -> Comparison:
    level_a = whole_number("level", level, at_least=1)
    return compare(
        db,
        whole_number("run_a", run_a, at_least=1),
        whole_number("run_b", run_b, at_least=1),
        level_a,
        optional_whole_number("level_b", level_b, at_least=1) or level_a,
    )
