"""Clusters within clusters of each space: the SQL function `cluster_hierarchy`, run and recorded.

cluster_levels(db, ["digits/pixels"], levels=3)
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.cluster.groups import (
    ClusterResult,
    Group,
    cluster_groups,
    effective_neighbors,
)
from nearsql.pipeline.cluster.results import FoundClusters, MemberRow, describe, result_again
from nearsql.pipeline.cluster.run import PACKAGES
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.run_spaces import space_read_by
from nearsql.pipeline.within import recorded_argument
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql


def cluster_levels(
    db: dbapi.Connection,
    spaces: Sequence[str] | None = None,
    *,
    levels: int = 3,
    seed_rules: bool = False,
    downsample: int = 1,
    neighbors: str = "auto",
    within: str | None = None,
    quiet: bool = True,
) -> list[ClusterResult]:
    """Clusters the named spaces, or all there are, each on its own at so many levels, 1 the coarsest.

    The parameters are those of the SQL function `cluster_hierarchy`; spaces are skipped and errors
    raised as by `cluster_spaces`. Besides those of level 1, the counts of a result have for each further
    level its clusters, noise and its share, and the items that joined a cluster with probability 0
    (`clusters_level_2`, ...).
    """

    def parameters(group: Group) -> dict[str, Any]:
        n = group.sampled
        exact = effective_neighbors(neighbors, n) == "exact"
        return {
            "method": "levels",
            "space": group.space,
            "levels": levels,
            "seed_rules": int(seed_rules),
            "downsample": downsample,
            **_of_level_1(n),
            # 'auto' takes a graph for large clusters, and none for the small ones within them.
            "neighbors": "exact" if exact else neighbors,
        }

    return cluster_groups(
        db, spaces, downsample, parameters, compute, packages=PACKAGES, within=within, quiet=quiet
    )


def compute(db: dbapi.Connection, space: str, parameters: dict[str, Any]) -> FoundClusters:
    """All levels of clusters of the space, by a run's parameters, `within` as SQL takes it."""
    rows = db.execute(
        read_sql(__package__, "hierarchy_of_space"), {**parameters, "space": space}
    ).fetchall()
    matrix = load_matrix(db.apsw, find_space(db.apsw, space))
    found = FoundClusters([], [])
    for level, of_level in groupby(rows, key=itemgetter(0)):
        columns = zip(*of_level, strict=True)
        _, ids, labels, parents, probabilities, outlier_scores, core_distances, *lambdas = columns
        births, max_lambdas = (np.array(each, np.float64) for each in lambdas)  # None becomes NaN
        clusters = describe(
            matrix,
            level,
            np.array(ids, np.int64),
            _whole_numbers(labels),
            np.array(probabilities, np.float64),
            births,
            None if level == 1 else _whole_numbers(parents),
            max_lambdas,
        )
        members = zip(ids, labels, probabilities, outlier_scores, core_distances, strict=True)
        found.clusters.extend(clusters)
        found.members.extend(MemberRow(level, *measures) for measures in members)
        if level > 1:
            found.counts.update(_counts(level, len(clusters), labels, probabilities))
    return found


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's clusters, computed anew."""
    parameters = {**recorded.parameters, "within": recorded_argument(db, recorded)}
    found = compute(db, space_read_by(db, recorded), parameters)
    ruled = _of_level_1(sum(row.level == 1 for row in found.members))
    if ruled != {name: parameters[name] for name in ruled}:
        raise CannotReplay(
            f"run {recorded.id} recorded other sizes of level 1 than the rules give for its items: "
            + ", ".join(f"{name} {parameters[name]}, not {size}" for name, size in ruled.items())
        )
    return result_again(db, recorded.id, found)


def _of_level_1(n: int) -> dict[str, int]:
    """By the rules for n items, to which later ones are assigned; those below depend on each cluster's size."""
    from nearsql.udfs.clustering.levels import RULES

    return {
        "min_cluster_size": RULES[0].min_cluster_size(n),
        "min_samples": min(RULES[0].min_samples, n - 1),
    }


def _whole_numbers(labels: Sequence[int | None]) -> NDArray[np.int64]:
    """The labels, (n,), -1 for NULL."""
    return np.array([-1 if label is None else label for label in labels], np.int64)


def _counts(
    level: int, clusters: int, labels: Sequence[int | None], probabilities: Sequence[float]
) -> dict[str, int | float]:
    noise = sum(label is None for label in labels)
    joined = sum(
        label is not None and probability == 0.0
        for label, probability in zip(labels, probabilities, strict=True)
    )
    return {
        f"clusters_level_{level}": clusters,
        f"noise_level_{level}": noise,
        f"noise_share_level_{level}": round(noise / len(labels), 4),
        f"joined_level_{level}": joined,
    }
