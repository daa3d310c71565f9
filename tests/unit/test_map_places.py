"""New points on a map: weights against the libraries', exact places for equal vectors, PCA's axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from nearsql.udfs.map_places import (
    MemberPlaces,
    fuzzy_weights,
    gaussian_weights,
    geometric_medians,
)
from nearsql.udfs.projection import Settings, principal_axes, project
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.spaces import Metric, Space


def matrix(rows: ArrayLike, metric: Metric = "l2") -> Matrix:
    vectors = np.ascontiguousarray(rows, dtype=np.float32)
    ids = np.arange(1, len(vectors) + 1) * 3
    return Matrix(ids, vectors, Space(1, "s", vectors.shape[1], metric, 0, 0))


@pytest.fixture(scope="module")
def digits() -> NDArray[np.float32]:
    return load_digits().data[:600].astype(np.float32)


def cost(place: NDArray[np.floating], places: ArrayLike, weights: ArrayLike) -> float:
    """The weighted sum of distances from a place to others."""
    return float((np.asarray(weights) * np.linalg.norm(places - place, axis=1)).sum())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.integers(2, 30),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_fuzzy_weights_add_up_as_they_should(seed: int, m: int, k: int, scale: float) -> None:
    distances = np.sort(np.random.default_rng(seed).gamma(2.0, scale, (m, k)), axis=1)
    weights = fuzzy_weights(distances)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (np.diff(weights, axis=1) <= 0).all()
    if k > 2:  # of two, the other one has all the weight there is
        np.testing.assert_allclose(weights[:, 1:].sum(axis=1), np.log2(k), atol=2e-5)


def test_fuzzy_weights_are_umaps() -> None:
    from umap.umap_ import compute_membership_strengths, smooth_knn_dist

    distances = np.sort(np.random.default_rng(0).gamma(2.0, 1.0, (40, 15)), axis=1)
    single = distances.astype(np.float32)
    sigmas, rhos = smooth_knn_dist(single, 15.0, local_connectivity=0.0)
    places = np.tile(np.arange(15), (40, 1)).astype(np.int32)
    _, _, strengths, _ = compute_membership_strengths(places, single, sigmas, rhos, bipartite=True)
    np.testing.assert_allclose(fuzzy_weights(distances).ravel(), strengths, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("perplexity", [2.0, 5.0, 10.0])
def test_gaussian_weights_have_the_perplexity(perplexity: float) -> None:
    distances = np.sort(np.random.default_rng(1).gamma(2.0, 1.0, (20, 30)), axis=1)
    weights = gaussian_weights(distances, perplexity)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1)
    np.testing.assert_allclose(np.exp(entropy), perplexity, rtol=1e-3)
    # All of a row come from one Gaussian: log weights fall with the squared distance.
    ratio = np.log(weights[:, 0] / weights[:, 5]) / (distances[:, 5] ** 2 - distances[:, 0] ** 2)
    other = np.log(weights[:, 0] / weights[:, 3]) / (distances[:, 3] ** 2 - distances[:, 0] ** 2)
    np.testing.assert_allclose(ratio, other, rtol=1e-6)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize(("method", "n_components"), [("umap", 2), ("umap", 4), ("tsne", 2)])
def test_places_are_weighted_medians(
    digits: NDArray[np.float32], method: str, n_components: int, metric: Metric
) -> None:
    asked = Settings(method, n_components, n_neighbors=6, perplexity=3.0)  # type: ignore[arg-type]
    members = matrix(digits[:200], metric)
    where = np.random.default_rng(2).normal(size=(200, n_components)).astype(np.float32)
    model = MemberPlaces(members, where, asked)
    found = model.place(digits[200:230])
    k = 6 if method == "umap" else 9
    for row, place in zip(digits[200:230], found, strict=True):
        if metric == "l2":
            apart = np.linalg.norm(members.vectors.astype(float) - row, axis=1)
        else:
            apart = 1 - normalize(members.vectors.astype(float)) @ normalize([row.astype(float)])[0]
        nearest = np.argsort(apart, kind="stable")[:k]
        one = apart[nearest][None]
        weights = (fuzzy_weights(one) if method == "umap" else gaussian_weights(one, 3.0))[0]
        # The sum of distances that the median makes least, found by a general method.
        best = minimize(cost, where[nearest].mean(axis=0), (where[nearest], weights), tol=1e-10)
        assert cost(place, where[nearest], weights) <= best.fun * (1 + 1e-5)
    # Each alone is where it is among the others.
    alone = np.concatenate([model.place(row[None]) for row in digits[200:230]])
    assert alone.tobytes() == found.tobytes()


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_a_members_vector_takes_its_place(
    digits: NDArray[np.float32], method: str, metric: Metric
) -> None:
    rows = np.concatenate([digits[:100], digits[:100]])  # each twice: the first one's place
    where = np.random.default_rng(3).normal(size=(200, 2)).astype(np.float32)
    model = MemberPlaces(matrix(rows, metric), where, Settings(method))  # type: ignore[arg-type]
    np.testing.assert_array_equal(model.place(digits[:100]), where[:100])


def test_few_members_and_far_vectors_have_finite_places() -> None:
    rows = np.eye(3, 4)
    where = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    for method in ("umap", "tsne"):
        model = MemberPlaces(matrix(rows), where, Settings(method, perplexity=1.0))  # type: ignore[arg-type]
        far = model.place(np.full((2, 4), 1e6, np.float32))
        assert np.isfinite(far).all()
        assert ((far >= 0) & (far <= 1)).all()
    same = MemberPlaces(matrix(np.ones((20, 4))), np.ones((20, 2), np.float32), Settings("umap"))
    np.testing.assert_array_equal(same.place(np.zeros((1, 4), np.float32)), [[1, 1]])


def test_placed_points_lie_near_their_class(digits: NDArray[np.float32]) -> None:
    """A map of half of the points, the other half placed: neighbours share labels as within the map."""
    labels = load_digits().target[:600]
    members = matrix(digits[:400])
    for method in ("umap", "tsne"):
        asked = Settings(method)  # type: ignore[arg-type]
        where = project(members, asked).coordinates
        placed = MemberPlaces(members, where, asked).place(digits[400:])
        apart = np.linalg.norm(placed[:, None] - where[None], axis=2)
        same = (labels[:400][np.argsort(apart, axis=1)[:, :5]] == labels[400:, None]).mean()
        assert same > 0.8


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_axes_place_as_pca_does(digits: NDArray[np.float32], metric: Metric) -> None:
    members = matrix(digits[:300], metric)
    axes = principal_axes(members, 5)
    rows = digits[300:].astype(np.float64)
    fitted = digits[:300].astype(np.float64)
    if metric == "cosine":
        rows, fitted = normalize(rows), normalize(fitted)
    expected = PCA(5, svd_solver="full").fit(fitted)
    scale = np.abs(expected.transform(fitted)).max()
    given_rows = rows.astype(np.float32)
    np.testing.assert_allclose(axes.place(given_rows), expected.transform(rows), atol=1e-6 * scale)
    np.testing.assert_allclose(axes.variance_shares, expected.explained_variance_ratio_, rtol=1e-5)
    found = project(members, Settings("pca", n_components=5))
    assert found.axes is not None
    assert found.axes.place(given_rows).tobytes() == axes.place(given_rows).tobytes()


def test_geometric_medians() -> None:
    line = np.array([[[0.0], [1.0], [10.0]]])
    weights = np.array([[1.0, 1.0, 1.0]])
    np.testing.assert_allclose(geometric_medians(line, weights), [[1.0]], atol=1e-3)
    # One with more than half of the weight is the median; of equal places, they are.
    heavy = np.array([[1.0, 1.0, 2.5]])
    np.testing.assert_allclose(geometric_medians(line, heavy), [[10.0]], atol=1e-3)
    np.testing.assert_array_equal(
        geometric_medians(np.ones((2, 5, 2)), np.ones((2, 5))), [[1, 1]] * 2
    )
    triangle = np.array([[[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]]])
    np.testing.assert_allclose(geometric_medians(triangle, weights), triangle.mean(axis=1))
