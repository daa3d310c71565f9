"""Density clustering in SQL: hdbscan, cluster_assign, cluster_assignments."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import number, one_of, optional_whole_number, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.clustering.approximations import NEIGHBORS, is_graph
from nearsql.udfs.clustering.cluster_model import find_model
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.own_points import has_room_for_both, own_points
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.stored_vectors import Ids, count_rows
from nearsql.udfs.space_points import euclidean
from nearsql.udfs.space_sample import sample_of
from nearsql.udfs.spaces import Space, find_space
from nearsql.udfs.vector_functions import parse_vector

if TYPE_CHECKING:
    from nearsql.udfs.clustering.spanning_tree import SpanningTree

SELECTIONS = ("eom", "leaf")


@sql_function(
    columns=(
        "id",
        "cluster",
        "probability",
        "outlier_score",
        "core_distance",
        "birth_lambda",
        "max_lambda",
    ),
    example="select cluster, count(*) as items from hdbscan('digits/pixels', 20) group by cluster",
)
def hdbscan(
    db: apsw.Connection,
    space: str,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    downsample: int = 1,
    within: str | None = None,
    selection: str = "eom",
    epsilon: float = 0.0,
    neighbors: str = "auto",
) -> Iterator[
    tuple[int, int | None, float, float | None, float | None, float | None, float | None]
]:
    """The clusters of a space by density, as the hdbscan library finds them. Noise has cluster NULL.

    The parameters are the library's: min_cluster_size, the fewest items of a cluster; min_samples
    (default: min_cluster_size), whose distance to an item, itself not counted, is its core distance;
    selection 'eom' or 'leaf' and epsilon, its cluster_selection_method and cluster_selection_epsilon.
    Labels, probabilities and outlier scores equal those of its exact algorithm ('prims_kdtree').

    downsample N takes the items whose sequence_number % N is 0; within limits them to the items of a
    SELECT, of a JSON array of ids, or of a selection, by its name. For a whole space, neighbours that
    `nearsql neighbors` has stored (more than min_samples) are read and not searched; the clusters are the
    same.

    neighbors: 'exact' compares all pairs of items. 'graph' compares each with those in the lists nearest
    to it, enough to find about 95% of its nearest neighbours, which takes far less time for many items;
    the clusters are nearly the same. 'auto' is 'exact' for up to 30,000 items and 'graph' for more.

    In a space of metric cosine, distances are those of the vectors divided by their norms: chords,
    sqrt(2 * cosine distance), which core_distance and epsilon measure. birth_lambda is 1 / the distance
    at which the item's cluster split off from the one around it (infinite if at distance 0), max_lambda
    that at which its heart falls apart; both are NULL for noise. probability is the lambda at which the
    item leaves its cluster, divided by max_lambda, at most 1; 0 for noise.
    """
    size = whole_number("min_cluster_size", min_cluster_size, at_least=2)
    samples = optional_whole_number("min_samples", min_samples, at_least=1) or size
    method = one_of("selection", selection, SELECTIONS)
    least = number("epsilon", epsilon, at_least=0.0)
    way = one_of("neighbors", neighbors, NEIGHBORS)
    poll = Poll(db)
    ids, tree = _tree(db, find_space(db, space), downsample, within, samples, size, way, poll)
    if tree is None:
        yield from ((item, None, 0.0, None, None, None, None) for item in ids.tolist())
        return
    from nearsql.udfs.clustering.hdbscan_tree import cut  # imports numba, which takes a while

    found = cut(
        tree,
        min_cluster_size=size,
        cluster_selection_method=method,
        cluster_selection_epsilon=least,
    )
    poll()
    yield from zip(
        ids.tolist(),
        [label if label >= 0 else None for label in found.labels.tolist()],
        found.probabilities.tolist(),
        found.outlier_scores.tolist(),
        tree.core_distances.tolist(),
        null_for_nan(found.birth_lambdas),
        null_for_nan(found.max_lambdas),
        strict=True,
    )


def _tree(
    db: apsw.Connection,
    space: Space,
    downsample: int,
    within: str | None,
    samples: int,
    size: int,
    way: str,
    poll: Poll,
) -> "tuple[Ids, SpanningTree | None]":
    """The item ids, and their spanning tree: None of fewer than 2, between which there is no distance."""
    is_whole = downsample == 1 and within is None
    if is_whole and is_graph(way, count_rows(db, space)) and not has_room_for_both(db, space):
        from nearsql.udfs.clustering.space_tree import tree_from_graph

        with own_points(db, space) as points:
            made = tree_from_graph(points, samples, min_cluster_size=size, poll=poll)
        return made.points.ids, made.tree
    matrix = sample_of(db, space, downsample, within)
    if len(matrix.ids) < 2:
        return euclidean(matrix).ids, None
    from nearsql.udfs.clustering.space_tree import space_tree

    made = space_tree(db, matrix, samples, neighbors=way, min_cluster_size=size, poll=poll)
    return made.points.ids, made.tree


@sql_function(
    example="select cluster_assign((select max(id) from runs where kind = 'cluster'),"
    " vector_of('digits/pixels', 1)) as cluster",
)
def cluster_assign(db: apsw.Connection, run: int, vector: bytes | str | None) -> int | None:
    """The label of the cluster of a run that a new vector belongs to; NULL for noise.

    The vector, a BLOB or a JSON array, hangs on the run's member to which its mutual reachability
    distance is least, and belongs to that member's cluster if the cluster reaches that far. The
    members' vectors must still be those that were clustered; other items may have come since.
    """
    if vector is None:
        return None
    model, _ = find_model(db, whole_number("run", run, at_least=1))
    query = parse_vector("vector", vector, model.members.space.dimensions)
    labels, _ = model.assign(query[None, :], Poll(db))
    return int(labels[0]) if labels[0] >= 0 else None


@sql_function(
    columns=("id", "cluster", "distance", "member", "probability"),
    example="select * from cluster_assignments((select max(id) from runs where kind = 'cluster'))\n"
    "limit 3",
)
def cluster_assignments(
    db: apsw.Connection, run: int, within: str | None = None
) -> Iterator[tuple[int, int | None, float, int, float | None]]:
    """`cluster_assign` for all items of the run's space that are not its members, in one call.

    Those that a downsample left out, and those that came later; with `within`, those of them that
    it names, as in `hdbscan`. distance is the mutual reachability distance to member, the item that it
    hangs on. probability is 1 / distance divided by the cluster's max_lambda, at most 1, and 0 for
    noise; NULL for a run that an older nearsql made, which recorded no max_lambda.
    """
    model, matrix = find_model(db, whole_number("run", run, at_least=1))
    subset = within_argument.item_ids(db, within)
    others = np.setdiff1d(matrix.ids if subset is None else subset, model.members.ids)
    rows = matrix.positions(others)
    poll = Poll(db)
    for start in range(0, len(rows), QUERY_BLOCK):
        block = rows[start : start + QUERY_BLOCK]
        hanging_on, distances = model.hang(matrix.vectors[block], poll)
        labels = model.labels_of(hanging_on, distances)
        yield from zip(
            matrix.ids[block].tolist(),
            [label if label >= 0 else None for label in labels.tolist()],
            distances.tolist(),
            model.members.ids[hanging_on].tolist(),
            null_for_nan(model.probabilities_of(hanging_on, distances)),
            strict=True,
        )


def null_for_nan(values: NDArray[np.float64]) -> list[float | None]:
    """The values as SQL takes them."""
    return [None if np.isnan(value) else value for value in values.tolist()]
