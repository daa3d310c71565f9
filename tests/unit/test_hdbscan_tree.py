"""Labels, probabilities and outlier scores: equal to hdbscan.HDBSCAN's, to the last bit."""

import warnings
from typing import Any

import hdbscan
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.udfs.clustering.hdbscan_tree import Clustering, cut
from nearsql.udfs.clustering.spanning_tree import SpanningTree, n_neighbors_for, spanning_tree

Rows = NDArray[np.float32]


def tree_of(rows: Rows, min_samples: int) -> SpanningTree:
    k = n_neighbors_for(len(rows), min_samples)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.astype(np.float64))
    return spanning_tree(rows, found.kneighbors(return_distance=False), min_samples)


def library(rows: Rows, **parameters: Any) -> hdbscan.HDBSCAN:
    # Prim's walk is what the library takes above 60 dimensions, and exact.
    with warnings.catch_warnings(), stable_sort():
        warnings.simplefilter(
            "ignore"
        )  # infinite lambdas of duplicates, and scikit-learn's renamings
        return hdbscan.HDBSCAN(algorithm="prims_kdtree", **parameters).fit(rows.astype(np.float64))


def assert_same(found: Clustering, expected: hdbscan.HDBSCAN) -> None:
    np.testing.assert_array_equal(found.labels, expected.labels_)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities_)
    np.testing.assert_array_equal(found.outlier_scores, expected.outlier_scores_)


@pytest.fixture(scope="module")
def digits() -> Rows:
    return np.ascontiguousarray(load_digits().data, dtype=np.float32)


@pytest.fixture(scope="module")
def digits_trees(digits: Rows) -> dict[int, SpanningTree]:
    return {min_samples: tree_of(digits, min_samples) for min_samples in (1, 5, 10)}


@pytest.mark.parametrize(
    ("min_cluster_size", "min_samples", "method", "epsilon"),
    [
        (5, 1, "eom", 0.0),
        (5, 5, "leaf", 0.0),
        (10, 5, "eom", 0.0),
        (20, 10, "eom", 0.0),
        (10, 10, "leaf", 0.0),
        (5, 5, "leaf", 20.0),
        (15, 1, "eom", 22.0),
    ],
)
def test_digits_as_the_library(
    digits: Rows,
    digits_trees: dict[int, SpanningTree],
    min_cluster_size: int,
    min_samples: int,
    method: str,
    epsilon: float,
) -> None:
    found = cut(
        digits_trees[min_samples],
        min_cluster_size=min_cluster_size,
        cluster_selection_method=method,
        cluster_selection_epsilon=epsilon,
    )
    expected = library(
        digits,
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        cluster_selection_method=method,
        cluster_selection_epsilon=epsilon,
    )
    assert expected.labels_.max() > 5  # there is something to be equal in
    assert_same(found, expected)


@settings(max_examples=100, deadline=None)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(2, 50), st.integers(1, 4)),
        elements=st.integers(-2, 2).map(float) | st.floats(-10, 10, width=32),
        fill=st.nothing(),
    ),
    min_cluster_size=st.integers(2, 8),
    min_samples=st.integers(1, 8),
    method=st.sampled_from(["eom", "leaf"]),
    epsilon=st.sampled_from([0.0, 1.5]),
)
@example(np.zeros((20, 2), np.float32), 3, 2, "eom", 0.0)  # one point, twenty times
@example(np.zeros((3, 2), np.float32), 8, 2, "eom", 0.0)  # fewer than a cluster
def test_random_points_as_the_library(
    rows: Rows, min_cluster_size: int, min_samples: int, method: str, epsilon: float
) -> None:
    found = cut(
        tree_of(rows, min_samples),
        min_cluster_size=min_cluster_size,
        cluster_selection_method=method,
        cluster_selection_epsilon=epsilon,
    )
    expected = library(
        rows,
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        cluster_selection_method=method,
        cluster_selection_epsilon=epsilon,
    )
    assert_same(found, expected)


def test_fewer_points_than_a_cluster_are_all_noise() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = cut(tree_of(rows, 5), min_cluster_size=5)
    assert found.labels.tolist() == [-1] * 4
    assert found.probabilities.tolist() == [0.0] * 4
    assert np.isnan(found.birth_lambdas).all()
    assert np.isnan(found.max_lambdas).all()


def test_birth_lambda_is_where_the_cluster_left_its_parent() -> None:
    # Two groups of five on a line, 10 apart: both are born when the line is cut at distance 10.
    rows = np.array([[float(i)] for i in (0, 1, 2, 3, 4, 14, 15, 16, 17, 18)], np.float32)
    found = cut(tree_of(rows, 1), min_cluster_size=5)
    assert sorted(set(found.labels.tolist())) == [0, 1]
    assert found.birth_lambdas.tolist() == [0.1] * 10
    # Within, all are 1 apart.
    assert found.max_lambdas.tolist() == [1.0] * 10


def test_lambdas_on_digits_are_the_condensed_trees(
    digits: Rows, digits_trees: dict[int, SpanningTree]
) -> None:
    found = cut(digits_trees[5], min_cluster_size=10)
    expected = library(digits, min_cluster_size=10, min_samples=5)
    condensed = expected.condensed_tree_
    births = dict(zip(condensed._raw_tree["child"], condensed._raw_tree["lambda_val"], strict=True))
    for label, node in enumerate(sorted(condensed._select_clusters())):
        assert set(found.birth_lambdas[found.labels == label]) == {births[node]}
        rows = condensed._raw_tree[condensed._raw_tree["parent"] == node]
        assert set(found.max_lambdas[found.labels == label]) == {rows["lambda_val"].max()}
    # By these, a probability is what the library says it is.
    is_point = condensed._raw_tree["child"] < len(digits)
    own = np.empty(len(digits))
    own[condensed._raw_tree["child"][is_point]] = condensed._raw_tree["lambda_val"][is_point]
    inside = found.labels >= 0
    most = found.max_lambdas[inside]
    np.testing.assert_array_equal(
        np.minimum(own[inside], most) / most, expected.probabilities_[inside]
    )
