"""Nearest neighbours of every point among those of a few lists: an approximate graph of recorded recall.

k-means divides the points into lists around centroids (an inverted file: Jegou, Douze and Schmid 2011).
Each point is compared with those in the lists nearest to it, as many as a sample of the points needs.
A list is multiplied with all points that it is searched for at once, so that almost all of the time goes
to matrix products.

What is found does not depend on the number of threads: the same products are made, each by one thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import FLOAT32_ROUNDOFF, FilteredPoints
from nearsql.udfs.clustering.nearest_heap import replace_farthest
from nearsql.udfs.search.faiss_calls import faiss_module, matrix_multiplication
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.workers import Poll, in_order, in_threads

Places = NDArray[np.int64]

# Lists are 2 sqrt(n): shorter ones are closer to a point's surroundings, and slower to multiply.
_LISTS_PER_ROOT = 2
_FEWEST_PER_LIST = 40
# Points that k-means is given for each list, and its steps: more of either take longer than they save.
_POINTS_PER_LIST = 25
_STEPS = 6
# A point is compared with so many lists at most, and at least.
_MOST_PROBES = 64
_FEWEST_PROBES = 4
# Points whose true neighbours are looked for, to choose the number of lists and to measure recall.
_SAMPLED = 512
# Points whose neighbours are searched for together: each list is read once for all of them.
_GROUP = 1 << 15
# Points whose nearest centroids are looked for at a time.
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Lists:
    """The points divided into lists."""

    centroids: NDArray[np.float32]  # (m, d), of scaled rows
    order: Places  # (n,), the points by list
    starts: Places  # (m + 1,): list i is order[starts[i] : starts[i + 1]]
    nearest: NDArray[np.int32]  # (n, most probes), the lists nearest to each point, its own first

    def members(self, number: int) -> Places:
        """The points of a list, ascending."""
        return self.order[self.starts[number] : self.starts[number + 1]]


def divided(points: FilteredPoints, seed: int, poll: Callable[[], None]) -> Lists:
    """The points in about 2 sqrt(n) lists. The same points and seed give the same lists."""
    n, d = points.rows.shape
    count = max(1, min(round(_LISTS_PER_ROOT * n**0.5), n // _FEWEST_PER_LIST))
    probes = min(count, _MOST_PROBES)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(n, min(n, _POINTS_PER_LIST * count), replace=False))
    faiss = faiss_module()
    clustering = faiss.Clustering(d, count)
    clustering.seed = int(rng.integers(2**31))
    clustering.niter = _STEPS
    clustering.min_points_per_centroid = 1
    sample = points.scaled_part(chosen)

    def train(_: int) -> None:
        with matrix_multiplication():
            clustering.train(sample, faiss.IndexFlatL2(d))

    in_threads(train, [0], sample.size * count, poll)
    centroids = faiss.vector_to_array(clustering.centroids).reshape(count, d)
    found = np.empty((n, probes), np.int32)

    def assign(start: int) -> None:
        rows = points.scaled_part(slice(start, start + _BLOCK))
        with matrix_multiplication():
            _, lists = faiss.knn(rows, centroids, probes, faiss.METRIC_L2)
        found[start : start + _BLOCK] = lists

    in_threads(assign, range(0, n, _BLOCK), n * count * d, poll)
    sizes = np.bincount(found[:, 0], minlength=count)
    order = np.argsort(found[:, 0], kind="stable")
    return Lists(centroids, order, np.concatenate([[0], np.cumsum(sizes)]), found)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some points with their true neighbours."""

    rows: Places  # (s,)
    neighbors: Places  # (s, k)

    def recall(self, graph: NDArray[np.integer]) -> float:
        """The share of the true neighbours that are in the graph's lists, (n, k)."""
        found = _shared(np.ascontiguousarray(graph[self.rows], np.int64), self.neighbors)
        return float(found) / self.neighbors.size


def true_neighbors(points: Matrix, k: int, seed: int, poll: Callable[[], None]) -> Sample:
    """The k nearest others of some points, by comparing them with all."""
    n = len(points.ids)
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, _SAMPLED), replace=False))
    ids, _ = nearest(points, points.vectors[rows], k, exclude=points.ids[rows], poll=poll)
    return Sample(rows, np.searchsorted(points.ids, ids))


def probes_for(lists: Lists, sample: Sample, recall: float) -> int:
    """How many of its nearest lists a point should be compared with to find this share of neighbours."""
    own_list = lists.nearest[:, 0]
    where = own_list[sample.neighbors]
    # At which place of a point's nearest lists each of its neighbours is.
    is_there = lists.nearest[sample.rows][:, None, :] == where[:, :, None]
    found = is_there.any(axis=2)
    at = np.where(found, is_there.argmax(axis=2), lists.nearest.shape[1])
    shares = np.array([(at < probes).mean() for probes in range(lists.nearest.shape[1] + 1)])
    enough = np.flatnonzero(shares >= recall)
    wanted = int(enough[0]) if len(enough) else lists.nearest.shape[1]
    return min(lists.nearest.shape[1], max(_FEWEST_PROBES, wanted))


def listed_neighbors(
    matrix: Matrix,
    points: FilteredPoints,
    lists: Lists,
    k: int,
    probes: int,
    poll: Callable[[], None],
) -> NDArray[np.int32]:
    """The k nearest others of each point, (n, k) and in no order, in the `probes` lists nearest to it.

    By float32 distances. matrix, points: the same rows. A point whose lists hold fewer than k others is
    searched for in more of them.
    """
    n, d = points.rows.shape
    held = np.cumsum(np.diff(lists.starts)[lists.nearest], axis=1)
    depth = np.maximum(probes, (held <= k).sum(axis=1) + 1)
    groups = -(-n // _GROUP)
    neighbors = np.empty((n, k), np.int32)

    def search(group: int, poll: Poll) -> NDArray[np.int32]:
        # Every so-manyth point: all groups ask for all lists alike.
        own = np.arange(group, n, groups)
        found = np.full((len(own), k), -1, np.int32)
        squares = np.full((len(own), k), np.inf, np.float32)
        for block, members, apart in compared(points, lists, own, depth[own], poll):
            _keep_nearest(apart, block, own, members, squares, found)
        return found

    for group, found in enumerate(in_order(search, range(groups), n * k * d, poll)):
        neighbors[group::groups] = found
    # Points in a corner of tiny lists.
    few = np.flatnonzero((neighbors < 0).any(axis=1))
    if len(few):
        ids, _ = nearest(matrix, matrix.vectors[few], k, exclude=matrix.ids[few], poll=poll)
        neighbors[few] = np.searchsorted(matrix.ids, ids)
    return neighbors


def compared(
    points: FilteredPoints, lists: Lists, own: Places, depth: Places, poll: Poll
) -> Iterator[tuple[Places, Places, NDArray[np.float32]]]:
    """Compares some points with the members of the lists nearest to them, list by list.

    own: the points, (m,). depth: (m,), how many lists each is compared with. Gives (block, members, apart):
    the places in `own` that ask for a list, its members, and float32 squared distances of their scaled
    rows, (block, members), wrong by no more than `comparison_error`.
    """
    rows = points.scaled_part(own)
    wanted = lists.nearest[own]
    asking, ranks = np.nonzero(np.arange(wanted.shape[1]) < depth[:, None])
    asked = wanted[asking, ranks]
    asking = asking[np.argsort(asked, kind="stable")]
    ends = np.cumsum(np.bincount(asked, minlength=len(lists.centroids)))
    for number, end in enumerate(ends):
        poll()
        block = asking[(ends[number - 1] if number else 0) : end]
        members = lists.members(number)
        if len(block) and len(members):
            yield block, members, _squared_distances(rows[block], points.scaled_part(members))


def comparison_error(d: int) -> float:
    """How wrong a squared distance of two scaled rows, of norms up to 1, may be in `compared`."""
    # |p|^2 + |q|^2 - 2 p @ q: d roundings of numbers that sum to at most 4, and a few more.
    return 4 * (d + 16) * FLOAT32_ROUNDOFF


def _squared_distances(
    rows: NDArray[np.float32], others: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The squared distance between each of the rows, (m, d), and of the others, (c, d), by one thread."""
    faiss = faiss_module()
    pointer = faiss.swig_ptr
    out = np.empty((len(rows), len(others)), np.float32)
    with matrix_multiplication():
        faiss.pairwise_L2sqr(
            rows.shape[1], len(rows), pointer(rows), len(others), pointer(others), pointer(out)
        )
    return out


@njit(cache=True, nogil=True)
def _keep_nearest(
    apart: NDArray[np.float32],
    block: Places,
    own: Places,
    members: Places,
    squares: NDArray[np.float32],
    found: NDArray[np.int32],
) -> None:
    """Puts members into the lists of the block's points where they are nearer than those listed."""
    for r in range(len(block)):
        p = block[r]
        heap, places = squares[p], found[p]
        for c in range(len(members)):
            value = apart[r, c]
            if value >= heap[0] or members[c] == own[p]:
                continue
            replace_farthest(heap, places, value, members[c])


@njit(cache=True, nogil=True)
def _shared(lists: Places, others: Places) -> int:
    """How many of the entries of each row of `others` are in that row of `lists`, in total."""
    count = 0
    for i in range(len(others)):
        for q in others[i]:
            for p in lists[i]:
                if p == q:
                    count += 1
                    break
    return count
