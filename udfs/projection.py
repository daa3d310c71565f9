"""Maps: few coordinates for each point of a space, by UMAP, t-SNE or PCA.

UMAP and t-SNE start from the neighbour graph that search and clustering use, too.
Importing this module is cheap; the libraries are imported by the method that needs them.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.compiled_umap import import_umap
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.numba_threads import alone, alone_in_one_thread
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.space_points import euclidean

Method = Literal["umap", "tsne", "pca"]
METHODS: tuple[Method, ...] = ("umap", "tsne", "pca")
FEWEST_POINTS = 3

Coordinates = NDArray[np.float32]
Poll = Callable[[], None]


class Graph(Protocol):
    """Gives the k nearest others of every row, as `neighbor_graph` does: (places, distances)."""

    def __call__(self, matrix: Matrix, k: int, *, poll: Poll) -> tuple[Ids, Distances]: ...


# From here on the spectral layout that UMAP starts from may not end in reasonable time.
_TOO_MANY_FOR_SPECTRAL = 1_000_000
# Up to so many dimensions PCA decomposes the covariance matrix: exact, and quick for many points.
_COVARIANCE_DIMENSIONS = 4096
# Rows that PCA places at a time: in float64 they take twice their memory.
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Projection:
    """Where each of n points lies, and of PCA by what axes."""

    coordinates: Coordinates  # (n, n_components)
    axes: "Axes | None" = None
    # Of the neighbours that it started from, the share that are true ones; None: all, or none were used.
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Axes:
    """The principal axes of some points, by which PCA places any other: exactly as it placed them."""

    mean: NDArray[np.float64]  # (d,)
    directions: NDArray[np.float64]  # (n_components, d), of length 1
    variance_shares: NDArray[np.float64]  # (n_components,), NaN where all points are equal

    def place(self, rows: NDArray[np.float32]) -> Coordinates:
        """The coordinates, (m, n_components), of rows (m, d) of Euclidean geometry."""
        found = np.empty((len(rows), len(self.directions)), "<f4")
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK].astype(np.float64)
            found[start : start + _BLOCK] = (block - self.mean) @ self.directions.T
        return found


@dataclass(frozen=True, slots=True)
class Settings:
    """How to project. The names and defaults are those of umap-learn and openTSNE."""

    method: Method = "umap"
    n_components: int = 2
    n_neighbors: int = 15  # umap; counts the point itself
    min_dist: float = 0.1  # umap
    perplexity: float = 30.0  # tsne
    random_state: int | None = 42  # None: all threads, and another map each time
    neighbors: str = "auto"  # umap and tsne: one of approximations.NEIGHBORS

    @property
    def neighbors_needed(self) -> int:
        """How many nearest others of each point the method starts from; 0 for pca."""
        return {"umap": self.n_neighbors - 1, "tsne": int(3 * self.perplexity), "pca": 0}[
            self.method
        ]

    def parameters(self) -> dict[str, Any]:
        """Those that the method looks at, by name."""
        used = {
            "umap": ("n_neighbors", "min_dist", "random_state", "neighbors"),
            "tsne": ("perplexity", "random_state", "neighbors"),
            "pca": (),
        }[self.method]
        values = asdict(self)
        return {name: values[name] for name in ("method", "n_components", *used)}


def effective(settings: Settings, n: int, dimensions: int) -> Settings:
    """The settings as they can be used on n points.

    n_neighbors is lowered to n - 1 (umap-learn's most) and perplexity to a third of the other points, but
    not below 1. What cannot be mended so raises SqlFunctionError.
    """
    if n < FEWEST_POINTS:
        raise SqlFunctionError(
            f"a map needs at least {FEWEST_POINTS} items, not {n}: embed more of them, or sample less"
        )
    if settings.n_components < 2:
        raise SqlFunctionError(f"n_components must be at least 2, not {settings.n_components}")
    if settings.method == "tsne" and settings.n_components != 2:
        raise SqlFunctionError(
            f"t-SNE makes maps of 2 components, not {settings.n_components}: use umap or pca"
        )
    most = {"umap": max(2, n - 2), "tsne": 2, "pca": min(n, dimensions)}[settings.method]
    if settings.n_components > most:
        raise SqlFunctionError(
            f"{settings.method} of {n} items with {dimensions} dimensions has at most {most} "
            f"components, not {settings.n_components}"
        )
    return replace(
        settings,
        n_neighbors=min(settings.n_neighbors, n - 1),
        perplexity=max(1.0, min(settings.perplexity, (n - 1) / 3)),
    )


def project(
    matrix: Matrix,
    settings: Settings,
    poll: Poll = lambda: None,
    graph: Graph = neighbor_graph,
) -> Projection:
    """Coordinates, (n, n_components) float32, of the rows of a matrix.

    The same rows, settings, library versions and machine give the same bytes, unless random_state is
    None. poll is called where the method allows it (UMAP's own steps do not) and may raise. graph: what
    finds the neighbours, such as one that knows them already.
    """
    settings = effective(settings, *matrix.vectors.shape)
    axes = None
    if settings.method == "pca":
        axes = principal_axes(matrix, settings.n_components, poll)
        found = axes.place(_of_euclidean_geometry(matrix))
    else:
        method = {"umap": _umap, "tsne": _tsne}[settings.method]
        found = np.ascontiguousarray(method(matrix, settings, poll, graph), dtype="<f4")
    if not np.isfinite(found).all():
        raise SqlFunctionError(
            f"{settings.method} found no finite coordinates for space '{matrix.space.name}': "
            "try another method"
        )
    return Projection(found, axes)


def _refuse_inner_products(matrix: Matrix) -> None:
    if matrix.space.metric == "ip":
        euclidean(matrix)  # says why


def _umap(matrix: Matrix, settings: Settings, poll: Poll, graph: Graph) -> NDArray[Any]:
    _refuse_inner_products(matrix)
    n = len(matrix.ids)
    places, distances = graph(matrix, settings.neighbors_needed, poll=poll)
    # UMAP's lists begin with the point itself.
    indices = np.column_stack([np.arange(n), places])
    distances = np.column_stack([np.zeros(n), distances])

    # The spectral layout is made of eigenvectors, of which a few points have too few.
    few = n <= settings.n_components + 2
    many = n >= _TOO_MANY_FOR_SPECTRAL
    reducer = import_umap().UMAP(
        n_components=settings.n_components,
        n_neighbors=settings.n_neighbors,
        min_dist=settings.min_dist,
        metric="cosine" if matrix.space.metric == "cosine" else "euclidean",
        init="random" if few else "pca" if many else "spectral",
        random_state=settings.random_state,
        n_jobs=_threads(settings),
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        # We map these points only, and never ask for others to be placed among them.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\] \(knn_search_index\)")
        with alone(poll) if settings.random_state is None else alone_in_one_thread(poll):
            return cast(NDArray[Any], reducer.fit_transform(matrix.vectors))


def _threads(settings: Settings) -> int:
    """Of umap-learn and openTSNE, -1 for all: several add the forces in another order each time."""
    return -1 if settings.random_state is None else 1


def _tsne(matrix: Matrix, settings: Settings, poll: Poll, graph: Graph) -> NDArray[Any]:
    _refuse_inner_products(matrix)
    n, dimensions = matrix.vectors.shape
    k = min(n - 1, settings.neighbors_needed)
    places, distances = graph(matrix, k, poll=poll)
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.initialization import random, rescale
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    affinities = PerplexityBasedNN(
        perplexity=settings.perplexity, knn_index=PrecomputedNeighbors(places, distances)
    )
    start = np.zeros((n, 2))
    if dimensions >= 2:
        axes = principal_axes(matrix, 2, poll)
        start = axes.place(_of_euclidean_geometry(matrix)).astype(np.float64)
    if start[:, 0].std() > 0:
        start = rescale(start)
    else:  # points on a line, or all equal, have no principal plane
        start = random(n, 2, random_state=settings.random_state)

    def on_iteration(*_: Any) -> bool:
        poll()
        return False  # go on

    reducer = TSNE(
        n_components=2,
        random_state=settings.random_state,
        n_jobs=_threads(settings),
        callbacks=on_iteration,
        callbacks_every_iters=5,
    )
    return np.asarray(reducer.fit(affinities=affinities, initialization=start))


def principal_axes(matrix: Matrix, n_components: int, poll: Poll = lambda: None) -> Axes:
    """The axes along which the rows of a matrix vary the most; of a cosine space, the normalised rows."""
    from sklearn.decomposition import PCA

    poll()
    rows = _of_euclidean_geometry(matrix)
    n, dimensions = rows.shape
    use_covariance = dimensions <= _COVARIANCE_DIMENSIONS and n >= dimensions
    # Both solvers are exact and draw nothing at random; scikit-learn fixes the signs (svd_flip).
    solver = PCA(n_components, svd_solver="covariance_eigh" if use_covariance else "full")
    # Where all points are equal, the shares of variance are 0 / 0.
    with np.errstate(invalid="ignore"):
        solver.fit(rows.astype(np.float64))
    return Axes(solver.mean_, solver.components_, solver.explained_variance_ratio_)


def _of_euclidean_geometry(matrix: Matrix) -> NDArray[np.float32]:
    return (euclidean(matrix) if matrix.space.metric == "cosine" else matrix).vectors
