"""Where a vector that a map did not see belongs on it: at the weighted median of its neighbours' places.

The geometric median: the place with the least weighted sum of distances to theirs. Neighbours on several
islands of a map leave it on one of them, where their mean would be in the sea between: of 400 digits placed
among 1,200, 15 nearest, it keeps 53% of the true neighbours, umap-learn's `transform` 54%, the mean 44%
(`python -m benchmarks.projection`). Neither the members of the map nor other new vectors move or matter, so that a vector's place is the same
alone and among others, now and later. A vector that equals a member's takes that member's place.

The weights are those by which the method would have tied the vector to its neighbours:

- UMAP: exp(-distance / s), s such that all but the nearest add up to log2(k). So umap-learn's
  `transform` begins (init_graph_transform); it then moves the point a little, which here is left out.
- t-SNE: a Gaussian around the vector of the map's perplexity, as openTSNE's `transform` has it.

Where PCA puts a vector is computed from its axes: `projection.Axes.place`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.projection import Coordinates, Settings
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK, nearest

Poll = Callable[[], None]

_STEPS = 64  # halvings, umap-learn's number
_ENOUGH = 1e-5  # umap-learn's tolerance
_MEDIAN_STEPS = 64
_SMALLEST_STEP = 1e-9  # of how far a row's places are apart
_NARROWEST = 1e-3  # of the mean distance


@dataclass(frozen=True, slots=True)
class MemberPlaces:
    """The members of a map by UMAP or t-SNE, and where they are."""

    members: Matrix  # as they are stored, ids ascending
    coordinates: Coordinates  # (n, n_components)
    settings: Settings  # effective ones of the map

    def place(self, rows: NDArray[np.float32], poll: Poll = lambda: None) -> Coordinates:
        """The coordinates, (m, n_components), of vectors (m, d)."""
        n = len(self.members.ids)
        is_umap = self.settings.method == "umap"
        k = self.settings.n_neighbors if is_umap else int(3 * self.settings.perplexity)
        found = np.empty((len(rows), self.coordinates.shape[1]), "<f4")
        for start in range(0, len(rows), QUERY_BLOCK):
            block = rows[start : start + QUERY_BLOCK]
            ids, distances = nearest(self.members, block, min(n, k), poll=poll)
            if is_umap:
                weights = fuzzy_weights(distances)
            else:
                weights = gaussian_weights(distances, self.settings.perplexity)
            # Neighbours come by (distance, id): of several equal members, the first one's place.
            same = distances[:, 0] <= _no_distance(self.members)
            weights[same] = 0.0
            weights[same, 0] = 1.0
            places = self.coordinates[np.searchsorted(self.members.ids, ids)].astype(np.float64)
            found[start : start + QUERY_BLOCK] = geometric_medians(places, weights)
        return found


def geometric_medians(
    places: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The geometric median, (m, c), of each row's places (m, k, c) by their weights (m, k).

    By Weiszfeld's iteration from the mean, each step the mean by weight / distance; a place that is met
    exactly stays where it is.
    """
    found = np.einsum("mk,mkc->mc", weights / weights.sum(axis=1, keepdims=True), places)
    spread = np.abs(places - found[:, None]).max(axis=(1, 2), initial=0.0)
    least = np.maximum(_SMALLEST_STEP * spread, 1e-30)
    for _ in range(_MEDIAN_STEPS):
        apart = np.linalg.norm(places - found[:, None], axis=2)
        pull = weights / np.maximum(apart, least[:, None])
        found = np.einsum("mk,mkc->mc", pull / pull.sum(axis=1, keepdims=True), places)
    return found


def fuzzy_weights(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP's membership strengths of neighbours, (m, k) with k >= 2, by ascending distances, not scaled.

    exp(-distance / s) with the s that makes those of all but the nearest add up to log2(k) (McInnes,
    Healy, Melville 2018, section 3.1, with no local connectivity, as umap-learn places new points); s is
    at least a thousandth of the mean distance.
    """
    others = distances[:, 1:]
    target = np.log2(distances.shape[1])
    low, high = np.zeros(len(distances)), np.full(len(distances), np.inf)
    scale = np.ones(len(distances))
    for _ in range(_STEPS):
        total = _decayed(others, scale).sum(axis=1)
        off = total - target
        going = np.abs(off) >= _ENOUGH
        if not going.any():
            break
        high = np.where(going & (off > 0), scale, high)
        low = np.where(going & (off <= 0), scale, low)
        middle = np.where(np.isinf(high), 2 * scale, (low + high) / 2)
        scale = np.where(going, middle, scale)
    narrowest = np.maximum(_NARROWEST * distances.mean(axis=1), np.finfo(np.float64).tiny)
    return _decayed(distances, np.maximum(scale, narrowest))


def gaussian_weights(distances: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """openTSNE's probabilities of neighbours, (m, k), by ascending distances; each row adds up to 1."""
    from openTSNE.affinity import joint_probabilities_nn

    m, k = distances.shape
    found = joint_probabilities_nn(
        np.tile(np.arange(k), (m, 1)),
        np.ascontiguousarray(distances, np.float64),
        [perplexity],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=k,
        n_jobs=1,
    )
    weights = np.asarray(found.todense())
    # Far neighbours of equal distance may all underflow: then they count alike.
    weights[~(weights.sum(axis=1) > 0)] = 1.0
    return weights


def _decayed(distances: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(distances > 0, np.exp(-distances / scale[:, None]), 1.0)


def _no_distance(members: Matrix) -> float:
    """Up to what distance two vectors are the same: a cosine distance is rounded where it is 0."""
    return 1e-12 if members.space.metric == "cosine" else 0.0
