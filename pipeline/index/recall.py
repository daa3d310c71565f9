"""How much an index finds, and how hard it has to look for that.

recall@k is the share of the k found that are no farther from the query than its k-th nearest neighbour
really is, averaged over queries: as ann-benchmarks counts it (Aumueller, Bernhardsson and Faithfull 2020,
doi:10.1016/j.is.2019.02.006), so that of equally distant neighbours each will do.

The queries are items of the space, each of which is kept out of its own answer. The effort is chosen on
one sample of them and the recall that is recorded is measured on another: a number that was searched for
would come out too high.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.index.vectors import SpaceVectors

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# For these k; one between is searched like the next, and one above the last exactly.
RECALL_AT = (1, 10, 100)

# Queries by which the effort is chosen, and by which recall is then measured: at recall@10 = 0.99 its
# standard error is near 0.0016 with a thousand.
TUNED_ON, MEASURED_ON = 500, 1000
# vec0 looks at every vector: it misses only what float32 cannot tell apart, and takes long for that.
VEC0_MEASURED_ON = 50
# The candidates to begin with, in multiples of k. For k = 1 more cost nothing.
_FIRST_CANDIDATES = {1: 8, 10: 2, 100: 2}
_MOST_CANDIDATES = 32
# efSearch to begin with, and to end with: beyond it an exact search is nearly as quick.
_FIRST_EF, _MOST_EF = 16, 2048
_QUERY_BLOCK = 128

# (queries (m, d), c candidates, effort) -> places (m, >= c), -1 where there is none.
Candidates = Callable[[Vectors, int, int], Ids]


@dataclass(frozen=True)
class Sample:
    """Items as queries. places: (m,) ascending. distances: (m, 100) to their nearest others, inf where none."""

    places: Ids
    queries: Vectors
    distances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effort:
    """How an index is searched for k neighbours: what `vector_indexes.parameters_json` says by k.

    effort: efSearch of hnsw, nprobe of ivf. candidates: looked at exactly, in multiples of k.
    """

    effort: int
    candidates: int


def draw(
    vectors: SpaceVectors, sizes: tuple[int, ...], seed: int, advance: Callable[[int], None]
) -> list[Sample]:
    """Samples of so many items, no item in two of them, with their exact neighbours.

    Where the space is too small for that, each sample is the whole space.
    """
    n = len(vectors)
    if sum(sizes) <= n:
        drawn = np.random.default_rng(seed).permutation(n)[: sum(sizes)]
        groups = [np.sort(group) for group in np.split(drawn, np.cumsum(sizes)[:-1])]
    else:
        groups = [np.arange(n)]
    samples = []
    for places in groups:
        distances = vectors.exact_distances_to_nearest(places, max(RECALL_AT), advance)
        samples.append(Sample(places, vectors.take(places), distances))
    return samples if len(samples) == len(sizes) else samples * len(sizes)


def recalls(
    vectors: SpaceVectors, candidates: Candidates, sample: Sample, k: int, how: Effort
) -> NDArray[np.float64]:
    """recall@k of each query of the sample, (m,), searched in that way."""
    out = np.empty(len(sample.places), np.float64)
    c = min(how.candidates * k + 1, len(vectors))  # one more: the item itself is among them
    for start in range(0, len(out), _QUERY_BLOCK):
        part = slice(start, start + _QUERY_BLOCK)
        queries, itself = sample.queries[part], sample.places[part, None]
        places = candidates(queries, c, how.effort)
        places = np.where(places == itself, -1, places)
        found = vectors.distances(queries, places)
        out[part] = recall_of_distances(found, sample.distances[part], k)
    return out


def recall_of_distances(
    found: NDArray[np.float64], exact: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """recall@k of each query, (m,): found and exact distances, (m, any), inf where there is none."""
    there = np.minimum(np.isfinite(exact).sum(axis=1), k)
    farthest = exact[np.arange(len(exact)), np.maximum(there - 1, 0)]
    near = (found <= farthest[:, None]) & np.isfinite(found)
    counted = np.minimum(near.sum(axis=1), there)
    return np.divide(counted, there, out=np.ones(len(exact)), where=there > 0)


def choose(
    vectors: SpaceVectors,
    candidates: Candidates,
    sample: Sample,
    k: int,
    least: int,
    lists: int | None,
    target: float,
) -> Effort:
    """The least effort found, from `least` on, whose recall@k is the target, by one standard error.

    lists: of an ivf index, None for hnsw. Where the most effort does not reach the target, what found
    most. Each step takes half as much effort again; where that brings little, more candidates are tried
    beside it, and what found more is gone on with.
    """
    most = lists or min(_MOST_EF, len(vectors))
    now = Effort(min(most, least), _FIRST_CANDIDATES[k])
    if lists is None:  # faiss's ef is no less than the candidates that it is to give
        now = Effort(min(most, max(least, _FIRST_EF, now.candidates * k)), now.candidates)
    lowest, mean = _lowest(vectors, candidates, sample, k, now)
    while lowest < target:
        steps = []
        if now.effort < most:
            more = min(most, math.ceil(now.effort * 1.5))
            steps.append(Effort(more, now.candidates))
        if now.candidates < _MOST_CANDIDATES and now.candidates * k < len(vectors):
            steps.append(Effort(now.effort, 2 * now.candidates))
        best: tuple[float, float, Effort] | None = None
        for step in steps:
            step_lowest, step_mean = _lowest(vectors, candidates, sample, k, step)
            if best is None or step_mean > best[1]:
                best = step_lowest, step_mean, step
            if step_lowest >= target or step_mean - mean > (target - mean) / 2:
                break
        if best is None:
            break
        lowest, mean, now = best
    return now


def _lowest(
    vectors: SpaceVectors, candidates: Candidates, sample: Sample, k: int, how: Effort
) -> tuple[float, float]:
    """(recall@k less its standard error, recall@k). Of a whole space it has no such error."""
    found = recalls(vectors, candidates, sample, k, how)
    mean = float(found.mean())
    if len(found) == len(vectors) or len(found) < 2:
        return mean, mean
    return mean - float(found.std(ddof=1)) / math.sqrt(len(found)), mean
