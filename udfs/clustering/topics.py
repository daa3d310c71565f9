"""Topics: EVoC's layers, clusters of embeddings at several granularities at once.

EVoC (L. McInnes and others, the package evoc) lays the neighbour graph out in few dimensions, clusters
there by density, and takes the minimum cluster sizes at which the clustering persists as its layers.
Three things are done otherwise here than in its class EVoC:

- The neighbour graph is exact and ours, not the one that its nearest-neighbour descent draws at random:
  a stored graph serves, and spaces of metric l2 have topics, too.
- Rows that are the same are taken as one. EVoC links each of many equal points to a few others of them,
  at random, and takes what is linked for different clusters.
- A layer of one cluster is left out. EVoC makes one where nothing splits, of the densest few points.

Importing this module is cheap; evoc, which brings numba, is imported when topics are found.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.numba_threads import alone_in_one_thread
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.space_points import euclidean

Poll = Callable[[], None]

# EVoC's own: how its layout is made.
_EPOCHS = 50
_MOST_DIMENSIONS = 15
_TINY = float(np.finfo(np.float32).tiny)  # EVoC's similarity of what is not similar at all
# Layers whose clusters are the same to a greater share (Jaccard) are not both taken.
_MOST_SIMILAR = 0.2
_MOST_LAYERS = 10


class Graph(Protocol):
    """Gives the k nearest others of every row, as `neighbor_graph` does: (places, distances)."""

    def __call__(self, matrix: Matrix, k: int, *, poll: Poll) -> tuple[Ids, Distances]: ...


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How to find topics. The names and defaults are those of evoc.EVoC."""

    base_min_cluster_size: int = 5  # of the finest level
    min_samples: int = 5
    n_neighbors: int = 15  # counts the point itself
    noise_level: float = 0.5  # 0: cluster more. 1: call more noise.
    random_state: int = 42


@dataclass(frozen=True, slots=True)
class TopicLevel:
    """The clusters of n points at one granularity."""

    labels: NDArray[np.int64]  # (n,), from 0; -1 is noise
    probabilities: NDArray[np.float64]  # (n,), EVoC's membership strengths; 0 for noise
    # (clusters, 2): level and label of the nearest coarser cluster around each; (0, -1): noise in all.
    parents: NDArray[np.int64]
    persistence: float | None  # EVoC's; None of the finest level, which is taken whatever it is

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return len(self.parents)


def fewest_for_topics(settings: TopicSettings) -> int:
    """Of fewer different points nothing is asked: they cannot be two clusters, or not be measured."""
    return max(2 * settings.base_min_cluster_size, settings.min_samples + 2)


def topics(
    matrix: Matrix,
    settings: TopicSettings,
    poll: Poll = lambda: None,
    graph: Graph = neighbor_graph,
) -> list[TopicLevel]:
    """EVoC's layers of the rows of a matrix, the coarsest first; at least one level.

    The same rows, settings, library versions and machine give the same result, whatever the number of
    threads. Clusters are nested: at each coarser level all points of a cluster are in one cluster, or all
    are noise. Equal rows are one point, and get its label. Where no two clusters are found, one
    level says that all is noise. graph: what finds the neighbours. poll is called between the steps, and
    may raise. Raises SqlFunctionError for a space of metric ip.
    """
    points = euclidean(matrix)
    first, point_of = _different(points.vectors)
    n = len(first)
    if n < fewest_for_topics(settings):
        return [_all_noise(len(point_of))]
    if n < len(points.ids):
        matrix = Matrix(matrix.ids[first], matrix.vectors[first], matrix.space)
        points = Matrix(points.ids[first], points.vectors[first], points.space)
    width = min(settings.n_neighbors, n)
    places, distances = graph(matrix, width - 1, poll=poll)
    if matrix.space.metric == "cosine":
        distances = np.maximum(-np.log2(np.maximum(1 - distances, _TINY)), 0.0)
    with alone_in_one_thread(poll):
        layers = _layers(points.vectors, places, distances, settings, poll)
    layers = [layer for layer in layers if layer[0].max() >= 1]
    if not layers:
        return [_all_noise(len(point_of))]
    found: list[TopicLevel] = []
    for labels, strengths, persistence in reversed(layers):
        of_rows = labels.astype(np.int64)[point_of]
        found.append(
            TopicLevel(
                of_rows,
                np.where(of_rows < 0, 0.0, strengths.astype(np.float64)[point_of]),
                _parents(of_rows, [level.labels for level in found]),
                persistence,
            )
        )
    return found


def _layers(
    rows: NDArray[np.float32],
    places: Ids,
    distances: Distances,
    settings: TopicSettings,
    poll: Poll,
) -> list[tuple[NDArray[Any], NDArray[Any], float | None]]:
    """(labels, strengths, persistence) of each layer, the finest first: evoc.evoc_clusters from its graph on.

    places, distances: (n, k - 1), the nearest others.
    """
    from evoc.clustering import build_cluster_layers
    from evoc.graph_construction import neighbor_graph_matrix
    from evoc.label_propagation import label_propagation_init
    from evoc.node_embedding import node_embedding

    n, dimensions = rows.shape
    # EVoC's lists begin with the point itself.
    lists = np.column_stack([np.arange(n), places]).astype(np.int32)
    apart = np.column_stack([np.zeros(n), distances]).astype(np.float32)
    width = lists.shape[1]
    poll()
    graph = neighbor_graph_matrix(float(width), lists, apart, True)
    poll()
    random = np.random.RandomState(settings.random_state)
    # It starts from principal components, of which there are no more than dimensions.
    few = min(max(width // 4, 4), _MOST_DIMENSIONS, dimensions)
    start = label_propagation_init(
        graph,
        n_components=few,
        approx_n_parts=np.clip(int(8 * np.sqrt(n)), 256, 16384),
        random_scale=0.1,
        scaling=0.5,
        noise_level=settings.noise_level,
        random_state=random,
        data=rows,
    )
    poll()
    layout = node_embedding(
        graph,
        n_components=few,
        n_epochs=_EPOCHS,
        initial_embedding=start,
        noise_level=settings.noise_level,
        random_state=random,
        reproducible_flag=True,
        initial_alpha=0.1,
    )
    poll()
    labels, strengths, persistence = build_cluster_layers(
        layout,
        min_samples=settings.min_samples,
        base_min_cluster_size=settings.base_min_cluster_size,
        reproducible_flag=True,
        min_similarity_threshold=_MOST_SIMILAR,
        max_layers=_MOST_LAYERS,
    )
    # Of the finest layer, the persistence is not measured and given as 0.
    measured = [float(value) if value else None for value in persistence]
    return list(zip(labels, strengths, measured, strict=True))


def _different(rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which rows differ: the first of each kind (m,), ascending, and of each row the kind (n,)."""
    first: list[int] = []
    kinds: dict[bytes, int] = {}
    kind_of = np.empty(len(rows), np.int64)
    for place, row in enumerate(rows):
        # Adding 0 makes a plain zero of a negative one, which is equal to it.
        digest = hashlib.blake2b((row + np.float32(0)).tobytes(), digest_size=16).digest()
        kind = kinds.setdefault(digest, len(first))
        if kind == len(first):
            first.append(place)
        kind_of[place] = kind
    return np.array(first, np.int64), kind_of


def _parents(labels: NDArray[np.int64], above: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """`TopicLevel.parents` of labels, given those of all coarser levels, the first first."""
    parents = np.tile([0, -1], (int(labels.max()) + 1, 1))
    is_in = labels >= 0
    for level, coarser in enumerate(above, start=1):
        both = is_in & (coarser >= 0)
        parents[labels[both]] = np.column_stack([np.full(both.sum(), level), coarser[both]])
    return parents


def _all_noise(n: int) -> TopicLevel:
    return TopicLevel(np.full(n, -1), np.zeros(n), np.empty((0, 2), np.int64), None)
