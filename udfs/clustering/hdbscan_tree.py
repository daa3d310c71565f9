"""From a spanning tree to clusters, by the hdbscan library's own code but for the merges (linkage.py)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.linkage import single_linkage
from nearsql.udfs.clustering.spanning_tree import SpanningTree


@dataclass(frozen=True, slots=True)
class Clustering:
    """A flat clustering of n points; all arrays are (n,)."""

    labels: NDArray[np.int64]  # -1 is noise
    probabilities: NDArray[np.float64]  # strength of membership, 0 for noise
    outlier_scores: NDArray[np.float64]  # GLOSH: 0 in the heart of a cluster, towards 1 far outside
    # Of the point's cluster, NaN for noise: 1 / the distance at which it split off from its parent, and at
    # which its last points part or it splits. A probability is a point's own lambda / the latter.
    birth_lambdas: NDArray[np.float64]
    max_lambdas: NDArray[np.float64]


def cut(
    tree: SpanningTree,
    *,
    min_cluster_size: int,
    cluster_selection_method: str = "eom",
    cluster_selection_epsilon: float = 0.0,
) -> Clustering:
    """Cuts the tree into clusters of at least min_cluster_size points.

    The parameters are hdbscan.HDBSCAN's, and so are the results.
    """
    from hdbscan._hdbscan_tree import outlier_scores
    from hdbscan.hdbscan_ import _tree_to_labels

    hierarchy = single_linkage(tree.edges)
    # Clusters that are duplicates of one point live to lambda = inf; the library subtracts those.
    with np.errstate(invalid="ignore"):
        labels, probabilities, _, condensed, _ = _tree_to_labels(
            None,
            hierarchy,
            min_cluster_size,
            cluster_selection_method=cluster_selection_method,
            cluster_selection_epsilon=float(cluster_selection_epsilon),
        )
        scores = outlier_scores(condensed)
    return Clustering(labels, probabilities, scores, *_lambdas(condensed, labels))


def _lambdas(
    condensed: NDArray[np.void], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lambda at which each point's cluster split off from its parent, and the largest of its rows.

    A selected cluster is the node of the condensed tree that holds all its points and no others:
    the only one above them with as many points.
    """
    n = len(labels)
    sizes = np.bincount(labels[labels >= 0])
    is_node = condensed["child"] >= n
    node_parent = dict(zip(condensed["child"][is_node], condensed["parent"][is_node], strict=True))
    node_size = dict(
        zip(condensed["child"][is_node], condensed["child_size"][is_node], strict=True)
    )
    node_lambda = dict(
        zip(condensed["child"][is_node], condensed["lambda_val"][is_node], strict=True)
    )
    point_parent = np.empty(n, dtype=np.int64)
    point_parent[condensed["child"][~is_node]] = condensed["parent"][~is_node]
    largest = np.zeros(int(condensed["parent"].max()) + 1)
    np.maximum.at(largest, condensed["parent"], condensed["lambda_val"])
    lambdas = np.full((2, len(sizes) + 1), np.nan)
    _, firsts = np.unique(labels[labels >= 0], return_index=True)
    members = np.flatnonzero(labels >= 0)[firsts]
    for cluster, (size, member) in enumerate(zip(sizes, members, strict=True)):
        node = point_parent[member]
        while node_size[node] != size:
            node = node_parent[node]
        lambdas[:, cluster] = node_lambda[node], largest[node]
    # Noise, -1, takes the last.
    births, most = lambdas[:, labels]
    return births, most
