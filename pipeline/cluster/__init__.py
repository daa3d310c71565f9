"""Cluster: which groups each space has, who belongs to them, and how much is noise.

    cluster_spaces(db, ["digits/pixels"], min_cluster_size=20)

What computes has no transaction open; then one short transaction writes a space's clusters and
memberships. Each space is a run of its own, and no run touches another's rows.
"""

import importlib
from typing import cast

from nearsql.pipeline.cluster.groups import ClusterResult
from nearsql.pipeline.cluster.run import cluster_spaces
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.udfs import dbapi

__all__ = ["METHODS", "ClusterResult", "cluster_spaces", "recompute"]

# What a run calls its method, and the module whose `recompute(db, recorded)` computes it again.
METHODS = {
    "hdbscan": "nearsql.pipeline.cluster.run",
    "levels": "nearsql.pipeline.cluster.levels",
    "topics": "nearsql.pipeline.cluster.topics",
    "hdbscan of loss distances": "nearsql.pipeline.cluster.losses",
}


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A clustering run's result, computed anew."""
    method = recorded.parameters.get("method")
    if method not in METHODS:
        raise CannotReplay(
            f"run {recorded.id} clustered by {method!r}; what can be replayed is "
            + ", ".join(METHODS)
        )
    module = importlib.import_module(METHODS[method])
    return cast(Again, module.recompute(db, recorded))
