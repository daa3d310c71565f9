"""Clusters of each space by HDBSCAN: the SQL function `hdbscan`, run and recorded."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nearsql.pipeline.cluster.groups import (
    ClusterResult,
    Group,
    cluster_groups,
    effective_neighbors,
)
from nearsql.pipeline.cluster.results import FoundClusters, MemberRow, describe, result_again
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.run_spaces import space_read_by
from nearsql.pipeline.within import recorded_argument
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql

# What the result depends on, besides what every run's does.
PACKAGES = ("hdbscan", "numba", "faiss-cpu", "scikit-learn")


def cluster_spaces(
    db: dbapi.Connection,
    spaces: Sequence[str] | None = None,
    *,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    downsample: int = 1,
    selection: str = "eom",
    epsilon: float = 0.0,
    neighbors: str = "auto",
    within: str | None = None,
    quiet: bool = True,
) -> list[ClusterResult]:
    """Clusters the named spaces, or all there are, each on its own; gives a result for each.

    The parameters are those of the SQL function `hdbscan`. Spaces that cannot be clustered (fewer than
    two sampled items, or a metric that is no distance) are skipped, and the reason is said. Raises
    LookupError for a space that is not there, and UserError when one changes while it is clustered.
    """

    def parameters(group: Group) -> dict[str, Any]:
        wanted = min_samples or min_cluster_size
        return {
            "method": "hdbscan",
            "space": group.space,
            "min_cluster_size": min_cluster_size,
            "min_samples": max(1, min(wanted, group.sampled - 1)),
            "downsample": downsample,
            "selection": selection,
            "epsilon": epsilon,
            "neighbors": effective_neighbors(neighbors, group.sampled),
        }

    return cluster_groups(
        db, spaces, downsample, parameters, compute, packages=PACKAGES, within=within, quiet=quiet
    )


def compute(db: dbapi.Connection, space: str, parameters: dict[str, Any]) -> FoundClusters:
    """One level of clusters of the space, by a run's parameters, `within` as SQL takes it."""
    rows = db.execute(
        read_sql(__package__, "hdbscan_of_space"), {**parameters, "space": space}
    ).fetchall()
    ids, labels, probabilities, _, _, births, max_lambdas = zip(*rows, strict=True)
    clusters = describe(
        load_matrix(db.apsw, find_space(db.apsw, space)),
        1,
        np.array(ids, np.int64),
        np.array([-1 if label is None else label for label in labels], np.int64),
        np.array(probabilities, np.float64),
        np.array(births, np.float64),  # None becomes NaN
        max_lambdas=np.array(max_lambdas, np.float64),
    )
    return FoundClusters(clusters, [MemberRow(1, *row[:5]) for row in rows])


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's clusters, computed anew."""
    parameters = {**recorded.parameters, "within": recorded_argument(db, recorded)}
    found = compute(db, space_read_by(db, recorded), parameters)
    return result_again(db, recorded.id, found)
