"""The topics of each space: the SQL function `topics`, run and recorded.

cluster_topics(db, ["digits/pixels"], min_cluster_size=10)
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.cluster.groups import ClusterResult, Group, cluster_groups
from nearsql.pipeline.cluster.results import FoundClusters, MemberRow, describe, result_again
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.run_spaces import space_read_by
from nearsql.pipeline.within import recorded_argument
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql

PACKAGES = ("evoc", "numba", "scipy", "scikit-learn", "faiss-cpu")


def cluster_topics(
    db: dbapi.Connection,
    spaces: Sequence[str] | None = None,
    *,
    min_cluster_size: int = 5,
    min_samples: int = 5,
    n_neighbors: int = 15,
    noise_level: float = 0.5,
    seed: int = 42,
    downsample: int = 1,
    within: str | None = None,
    quiet: bool = True,
) -> list[ClusterResult]:
    """Finds the topics of the named spaces, or of all there are, each on its own; 1 is the coarsest level.

    The parameters are those of the SQL function `topics`; spaces are skipped and errors raised as by
    `cluster_spaces`. Besides those of level 1, the counts of a result have the number of levels, the one
    that persists the most (`persistent_level`, where there are several), and for each level its
    persistence and, below the first, its clusters, noise and its share (`clusters_level_2`, ...).
    """

    def parameters(group: Group) -> dict[str, Any]:
        return {
            "method": "topics",
            "space": group.space,
            "min_cluster_size": min_cluster_size,
            "min_samples": min_samples,
            "n_neighbors": n_neighbors,
            "noise_level": noise_level,
            "random_state": seed,
            "downsample": downsample,
        }

    return cluster_groups(
        db,
        spaces,
        downsample,
        parameters,
        compute,
        packages=PACKAGES,
        seed=seed,
        within=within,
        quiet=quiet,
    )


def compute(db: dbapi.Connection, space: str, parameters: dict[str, Any]) -> FoundClusters:
    """All levels of topics of the space, by a run's parameters, `within` as SQL takes it."""
    rows = db.execute(
        read_sql(__package__, "topics_of_space"), {**parameters, "space": space}
    ).fetchall()
    matrix = load_matrix(db.apsw, find_space(db.apsw, space))
    found = FoundClusters([], [])
    persistence: dict[int, float] = {}
    for level, of_level in groupby(rows, key=itemgetter(0)):
        _, ids, labels, parent_levels, parents, probabilities, persistences = zip(
            *of_level, strict=True
        )
        parent_of = dict(zip(labels, zip(parents, parent_levels, strict=True), strict=True))
        clusters = describe(
            matrix,
            level,
            np.array(ids, np.int64),
            _whole_numbers(labels),
            np.array(probabilities, np.float64),
        )
        for cluster in clusters:
            parent, parent_level = parent_of[cluster.label]
            found.clusters.append(cluster._replace(parent=parent, parent_level=parent_level))
        found.members.extend(
            MemberRow(level, item, label, probability, None, None)
            for item, label, probability in zip(ids, labels, probabilities, strict=True)
        )
        if level > 1:
            found.counts.update(_counts(level, len(clusters), labels))
        if persistences[0] is not None:
            persistence[level] = persistences[0]
            found.counts[f"persistence_level_{level}"] = persistences[0]
        found.counts["levels"] = level
    if persistence:
        found.counts["persistent_level"] = max(persistence, key=persistence.__getitem__)
    return found


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's clusters, computed anew."""
    parameters = {**recorded.parameters, "within": recorded_argument(db, recorded)}
    found = compute(db, space_read_by(db, recorded), parameters)
    return result_again(db, recorded.id, found)


def _whole_numbers(labels: Sequence[int | None]) -> NDArray[np.int64]:
    """The labels, (n,), -1 for NULL."""
    return np.array([-1 if label is None else label for label in labels], np.int64)


def _counts(level: int, clusters: int, labels: Sequence[int | None]) -> dict[str, int | float]:
    noise = sum(label is None for label in labels)
    return {
        f"clusters_level_{level}": clusters,
        f"noise_level_{level}": noise,
        f"noise_share_level_{level}": round(noise / len(labels), 4),
    }
