"""Clusters at several levels, and at many minimum sizes, in SQL: cluster_hierarchy, cluster_sweep."""

from collections.abc import Iterator
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.arguments import flag, number, one_of, shown, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.clustering.approximations import NEIGHBORS
from nearsql.udfs.clustering_functions import SELECTIONS, null_for_nan
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.space_points import euclidean, part
from nearsql.udfs.space_sample import sample_of
from nearsql.udfs.spaces import find_space
from nearsql.udfs.within import json_array


@sql_function(
    columns=(
        "id",
        "level",
        "cluster",
        "parent",
        "probability",
        "outlier_score",
        "core_distance",
        "birth_lambda",
        "max_lambda",
    ),
    example="select level, count(distinct cluster) as clusters, sum(cluster is null) as noise\n"
    "from cluster_hierarchy('digits/pixels') group by level",
)
def cluster_hierarchy(
    db: apsw.Connection,
    space: str,
    levels: int = 3,
    downsample: int = 1,
    within: str | None = None,
    seed_rules: int = 0,
    neighbors: str = "auto",
) -> Iterator[tuple[Any, ...]]:
    """The clusters of a space at up to three levels, each found within one of the level above.

    Each split is `hdbscan` of n items alone: level 1, of the whole space, with min_cluster_size
    max(50, n / 100) and min_samples 10; level 2, of each cluster of at least 30 items, with
    max(15, n / 10) and 5; level 3, of each of those of at least 15, with max(5, n / 5) but at most 50,
    and 3. Divisions are rounded down.

    A row is an item at a level; cluster is unique within the level, and parent is the cluster that it is
    part of at the level above. Noise has cluster NULL. Who is in a cluster at level 1 is in one at every
    level: a cluster that is too small to split, or would fall into fewer than two, stays as it is; and
    what a split calls noise stays with the child it hangs on by the shortest steps, with probability 0.
    seed_rules 1 makes both noise.

    The other columns are those of `hdbscan`, of the last split that the item took part in and that found
    two or more. downsample, within and neighbors are its parameters; but a 'graph' that is asked for is
    of level 1: below, one is made of more than 30,000 items only.
    """
    # Here, because they import numba, which takes a while.
    from nearsql.udfs.clustering.levels import RULES, cluster_levels
    from nearsql.udfs.clustering.space_tree import space_tree

    n_levels = whole_number("levels", levels, at_least=1)
    if n_levels > len(RULES):
        raise SqlFunctionError(f"levels must be at most {len(RULES)}, not {shown(levels)}")
    to_the_letter = flag("seed_rules", seed_rules)
    way = one_of("neighbors", neighbors, NEIGHBORS)
    matrix = sample_of(db, find_space(db, space), downsample, within)
    if len(matrix.ids) < 2:
        euclidean(matrix)  # refuses a metric that is no distance
    poll = Poll(db)

    def tree_of(rows: NDArray[np.int64], min_samples: int) -> Any:
        # A graph that is asked for is of the whole: the clusters within it may be too small for one.
        is_part = len(rows) < len(matrix.ids)
        of_split = "auto" if is_part and way == "graph" else way
        split = part(matrix, matrix.ids[rows])
        return space_tree(db, split, min_samples, neighbors=of_split, poll=poll).tree

    rules = RULES[:n_levels]
    found = cluster_levels(len(matrix.ids), tree_of, rules=rules, seed_rules=to_the_letter)
    ids = matrix.ids.tolist()
    for number_of_level, level in enumerate(found, start=1):
        poll()
        parents = [parent if parent >= 0 else None for parent in level.parents.tolist()] + [None]
        births = [*level.births.tolist(), None]
        max_lambdas = [*level.max_lambdas.tolist(), None]
        columns = zip(
            ids,
            level.labels.tolist(),
            level.probabilities.tolist(),
            null_for_nan(level.outlier_scores),
            null_for_nan(level.core_distances),
            strict=True,
        )
        for item, label, probability, outlier_score, core_distance in columns:
            yield (
                item,
                number_of_level,
                label if label >= 0 else None,
                parents[label],  # -1, noise, takes the last: NULL
                probability,
                outlier_score,
                core_distance,
                births[label],
                max_lambdas[label],
            )


@sql_function(
    columns=(
        "min_cluster_size",
        "clusters",
        "noise",
        "noise_share",
        "largest",
        "largest_share",
        "persistence",
        "is_cliff",
    ),
    example="select min_cluster_size, clusters, noise, is_cliff\n"
    "from cluster_sweep('digits/pixels', '[5, 10, 20, 50, 100, 200]')",
    estimated_rows=25,
)
def cluster_sweep(
    db: apsw.Connection,
    space: str,
    sizes: str | None = None,
    min_samples: int = 5,
    downsample: int = 1,
    within: str | None = None,
    selection: str = "eom",
    epsilon: float = 0.0,
    neighbors: str = "auto",
) -> Iterator[tuple[int, int, int, float, int, float, float | None, int]]:
    """What `hdbscan` finds at each of many min_cluster_size: clusters, noise, the largest cluster.

    All sizes are cut from one spanning tree, which depends on min_samples alone and takes nearly all the
    time. sizes: a JSON array; NULL is 5, 7, 10, 15, 20, 30, 50, ... up to half of the items.
    noise_share and largest_share are shares of all items; persistence is the mean of the clusters' (how
    long they last against how long they could, from 0 to 1), NULL when there is none.

    is_cliff is 1 where the clustering falls over against the size before: where the number of clusters
    changes by more than twice the factor by which the size does, or where the noise or the largest
    cluster changes by at least a fifth of all items. Better choose a size far from a cliff. The other
    parameters are those of `hdbscan`.
    """
    wanted = None if sizes is None else _sizes(sizes)
    samples = whole_number("min_samples", min_samples, at_least=1)
    method = one_of("selection", selection, SELECTIONS)
    least = number("epsilon", epsilon, at_least=0.0)
    way = one_of("neighbors", neighbors, NEIGHBORS)
    matrix = sample_of(db, find_space(db, space), downsample, within)
    n = len(matrix.ids)
    if n < 2:
        euclidean(matrix)  # refuses a metric that is no distance
        raise SqlFunctionError(f"there are {n} items to cluster, and 2 are needed")
    # Here, because they import numba, which takes a while.
    from nearsql.udfs.clustering.space_tree import space_tree
    from nearsql.udfs.clustering.sweep import default_sizes, sweep

    poll = Poll(db)
    made = space_tree(db, matrix, min(samples, n - 1), neighbors=way, poll=poll)
    rows = sweep(
        made.tree,
        default_sizes(n) if wanted is None else wanted,
        cluster_selection_method=method,
        cluster_selection_epsilon=least,
        poll=poll,
    )
    for row in rows:
        yield (
            row.min_cluster_size,
            row.clusters,
            row.noise,
            row.noise_share,
            row.largest,
            row.largest_share,
            row.persistence,
            int(row.is_cliff),
        )


def _sizes(value: Any) -> list[int]:
    """The sizes of a JSON array, ascending, each once."""
    if not isinstance(value, str):
        raise SqlFunctionError(
            f"sizes must be a JSON array such as '[5, 10, 20]', not {shown(value)}"
        )
    found = [whole_number("sizes", size, at_least=2) for size in json_array("sizes", value)]
    if not found:
        raise SqlFunctionError("sizes must name at least one size, such as '[5, 10, 20]'")
    return sorted(set(found))
