"""Maps: what they keep and how long they take, beside umap-learn: `python -m benchmarks.projection [--write]`

Fashion-MNIST, 10,000 of its images and all 70,000 (784 dimensions, Euclidean). What a map keeps is the
share of the 15 nearest others of 2,000 images that are among the 15 nearest on the map. Times are from
vectors to coordinates, neighbours included, after a first map of 5,000 points that loads and compiles.
umap-learn's default takes no seed and all threads. With a seed, which is nearsql's default, it takes one
thread: only nearsql's neighbours are searched in all threads then. "Neighbors graph" takes most of the true
neighbours and not all, as umap-learn does. "Stored neighbors" leaves the search out, as for a space whose
neighbours `nearsql neighbors` has stored. Every map is made --repeats times: kept is the mean, and seconds
the median.

Then new points are placed on a map of the others, in several ways. With --write the tables are put into
docs/maps.md.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from benchmarks.options import add_assets, command_line
from benchmarks.search.data import fashion_mnist
from nearsql.udfs.clustering.approximate_graph import approximate_neighbors
from nearsql.udfs.clustering.approximations import is_graph
from nearsql.udfs.map_places import MemberPlaces, fuzzy_weights
from nearsql.udfs.projection import Settings, project
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import nearest, neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.spaces import Space

SCRIPT = "python -m benchmarks.projection"
PAGE = Path(__file__).parents[1] / "docs" / "maps.md"
K = 15
SEED = 42
STORED = "nearsql umap, stored neighbors", "nearsql umap, stored neighbors, no seed"
# Of the maps made from stored neighbours, without the search.
layout_seconds: list[float] = []
_SAMPLED = 2000
_WARM = 5000  # more than the 4,096 up to which umap-learn compares all pairs
_MAPS = ("points", "map", "neighbours kept", "seconds", "to umap-learn's default")
_PLACES = ("points", "placed", "rule", "neighbours kept", "microseconds each")

Rows = NDArray[np.float32]
Coordinates = NDArray[np.floating]


def main() -> None:
    """Measures, prints, writes if asked."""
    parser = command_line(SCRIPT, __doc__, writes="put the tables into the page")
    add_assets(parser, "fashion-mnist/", is_required=True)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10_000, 70_000], help="how many images"
    )
    parser.add_argument("--tsne", action="store_true", help="t-SNE, too, which takes minutes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # umap's advice
    faiss.omp_set_num_threads(arguments.threads)
    images = np.concatenate(fashion_mnist(arguments.assets))
    order = np.random.default_rng(SEED).permutation(len(images))
    maps: list[tuple[str, ...]] = []
    for n in arguments.sizes:
        maps += show(_MAPS, measured_maps(images[np.sort(order[:n])], arguments))
    digits = load_digits().data.astype(np.float32)
    places = show(_PLACES, placed("digits", digits[:1600], 400))
    places += show(_PLACES, placed("Fashion-MNIST", images[np.sort(order[:11_000])], 1000))
    if arguments.write:
        threads = f"{arguments.threads} thread{'s' * (arguments.threads > 1)}"
        text = f"{markdown(_MAPS, maps)}\n\n{markdown(_PLACES, places)}\n\n*{threads}.*"
        write_between_marks(PAGE, SCRIPT, text)


def measured_maps(rows: Rows, asked: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """A line for each map of the rows; umap-learn's default is the first."""
    n = len(rows)
    matrix = as_matrix(rows)
    sample = np.sort(np.random.default_rng(0).choice(n, min(n, _SAMPLED), replace=False))
    truth = neighbors(matrix, sample)
    default: float | None = None
    for name, make in maps_of(n, asked.tsne).items():
        make(rows[:_WARM])
        shares, times = [], []
        for _ in range(asked.repeats):
            start = time.perf_counter()
            found = make(rows)
            times.append(time.perf_counter() - start)
            if name in STORED:
                times[-1] = layout_seconds.pop()
            shares.append(kept(truth, neighbors(as_matrix(found), sample)))
        share, seconds = float(np.mean(shares)), float(np.median(times))
        default = default or seconds
        yield f"{n:,}", name, f"{share:.4f}", f"{seconds:.1f}", f"{seconds / default:.2f}"


def maps_of(n: int, with_tsne: bool) -> dict[str, Callable[[Rows], Coordinates]]:
    """Ways to make a map of n points, by name."""
    from umap import UMAP

    ways: dict[str, Callable[[Rows], Coordinates]] = {
        "umap-learn, default": lambda rows: UMAP().fit_transform(rows),
        "umap-learn, seeded": lambda rows: UMAP(random_state=SEED).fit_transform(rows),
        "nearsql umap": lambda rows: ours(rows, Settings("umap", random_state=SEED)),
        "nearsql umap, no seed": lambda rows: ours(rows, Settings("umap", random_state=None)),
        STORED[0]: lambda rows: from_stored(rows, Settings("umap", random_state=SEED)),
        STORED[1]: lambda rows: from_stored(rows, Settings("umap", random_state=None)),
        "nearsql pca": lambda rows: ours(rows, Settings("pca")),
    }
    if not is_graph("auto", n):  # else these are what there is already
        ways["nearsql umap, neighbors graph"] = lambda rows: ours(
            rows, Settings("umap", random_state=SEED, neighbors="graph")
        )
        ways["nearsql umap, neighbors graph, no seed"] = lambda rows: ours(
            rows, Settings("umap", random_state=None, neighbors="graph")
        )
    if with_tsne:
        ways["nearsql tsne"] = lambda rows: ours(rows, Settings("tsne", random_state=SEED))
    return ways


def placed(name: str, rows: Rows, held_out: int) -> Iterator[tuple[str, ...]]:
    """A line for each rule that places the last rows on a map of those before: neighbours among these."""
    from umap import UMAP

    seen, new = rows[:-held_out], rows[-held_out:]
    members = as_matrix(seen)
    truth, distances = nearest(members, new, K)
    settings = Settings("umap", random_state=SEED)
    where = ours(seen, settings)
    weights = fuzzy_weights(distances)
    weights /= weights.sum(axis=1, keepdims=True)
    reducer = UMAP(random_state=SEED).fit(seen)
    reducer.transform(new[:10])
    rules: dict[str, tuple[Coordinates, Callable[[], Coordinates]]] = {
        "nearsql: weighted geometric median": (
            where,
            lambda: MemberPlaces(members, where, settings).place(new),
        ),
        "weighted mean": (where, lambda: np.einsum("mk,mkc->mc", weights, where[truth])),
        "place of the nearest": (where, lambda: where[truth[:, 0]]),
        "umap-learn: transform": (reducer.embedding_, lambda: reducer.transform(new)),
    }
    for rule, (among, place) in rules.items():
        start = time.perf_counter()
        found = place()
        seconds = time.perf_counter() - start
        near, _ = nearest(as_matrix(among), np.ascontiguousarray(found, np.float32), K)
        each = f"{1e6 * seconds / held_out:.0f}" if rule.startswith(("nearsql", "umap")) else ""
        yield f"{name}, {len(seen):,}", f"{held_out:,}", rule, f"{kept(truth, near):.4f}", each


def from_stored(rows: Rows, settings: Settings) -> Coordinates:
    """A map by nearsql from neighbours that are there already; notes its seconds."""
    matrix = as_matrix(rows)
    known = neighbor_graph(matrix, settings.n_neighbors - 1)
    start = time.perf_counter()
    found = project(matrix, settings, graph=lambda matrix, k, *, poll: known).coordinates
    layout_seconds.append(time.perf_counter() - start)
    return found


def ours(rows: Rows, settings: Settings) -> Coordinates:
    """A map by nearsql, its neighbours computed: the true ones, or most of them, as 'auto' has it."""
    matrix = as_matrix(rows)
    if not is_graph(settings.neighbors, len(rows)):
        return project(matrix, settings).coordinates

    def most(matrix: Matrix, k: int, *, poll: Callable[[], None]) -> tuple[Ids, Distances]:
        places, distances, _ = approximate_neighbors(matrix, k, poll)
        return places, distances

    return project(matrix, settings, graph=most).coordinates


def as_matrix(rows: Any) -> Matrix:
    """The rows as a space's matrix."""
    vectors = np.ascontiguousarray(rows, np.float32)
    return Matrix(np.arange(len(vectors)), vectors, Space(0, "s", vectors.shape[1], "l2", 0, 0))


def neighbors(matrix: Matrix, sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """The K nearest others of each sampled row."""
    ids, _ = nearest(matrix, matrix.vectors[sample], K, exclude=sample)
    return ids


def kept(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """The share of each row's true neighbours that are among those found."""
    return float((truth[:, :, None] == found[:, None, :]).any(axis=2).mean())


def show(headers: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Prints the rows as a table, and gives them."""
    found = list(rows)
    print(tabulate(found, headers, disable_numparse=True), flush=True)
    return found


def markdown(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of a page."""
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
