"""A sweep is the library's clustering at each size, and its cliffs are by the rule."""

import itertools
import warnings
from dataclasses import replace

import hdbscan
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.udfs.clustering.spanning_tree import SpanningTree, n_neighbors_for, spanning_tree
from nearsql.udfs.clustering.sweep import (
    SweepRow,
    default_sizes,
    is_cliff,
    suggested_size,
    sweep,
)

Rows = NDArray[np.float32]


def tree_of(rows: Rows, min_samples: int) -> SpanningTree:
    k = n_neighbors_for(len(rows), min_samples)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.astype(np.float64))
    return spanning_tree(rows, found.kneighbors(return_distance=False), min_samples)


def by_the_library(rows: Rows, size: int, **parameters: object) -> SweepRow:
    with warnings.catch_warnings(), stable_sort():
        warnings.simplefilter("ignore")  # infinite lambdas of duplicates, scikit-learn's renamings
        model = hdbscan.HDBSCAN(min_cluster_size=size, algorithm="prims_kdtree", **parameters).fit(
            rows.astype(np.float64)
        )
    labels = model.labels_.tolist()
    clusters = sorted(set(labels) - {-1})
    n, noise = len(labels), labels.count(-1)
    largest = max((labels.count(label) for label in clusters), default=0)
    persistence = float(np.mean(model.cluster_persistence_)) if clusters else None
    return SweepRow(
        size, len(clusters), noise, noise / n, largest, largest / n, persistence, is_cliff=False
    )


@pytest.fixture(scope="module")
def digits() -> Rows:
    return load_digits().data[:900].astype(np.float32)


@pytest.mark.parametrize(("method", "epsilon"), [("eom", 0.0), ("leaf", 0.0), ("leaf", 22.0)])
def test_each_size_is_the_librarys(digits: Rows, method: str, epsilon: float) -> None:
    sizes = [2, 5, 7, 20, 60, 450, 901]
    chosen = {"cluster_selection_method": method, "cluster_selection_epsilon": epsilon}
    rows = list(sweep(tree_of(digits, 5), sizes, **chosen))
    expected = [by_the_library(digits, size, min_samples=5, **chosen) for size in sizes]
    assert [replace(row, is_cliff=False) for row in rows] == expected
    assert {row.clusters for row in rows} > {0}
    assert rows[-1].persistence is None


@settings(deadline=None, max_examples=30)
@given(
    st.integers(3, 50).flatmap(
        lambda n: arrays(np.float32, (n, 2), elements=st.integers(0, 9).map(float))
    ),
    st.sets(st.integers(2, 60), min_size=1, max_size=5).map(sorted),
)
def test_ties_and_duplicates_too(rows: Rows, sizes: list[int]) -> None:
    found = list(sweep(tree_of(rows, 2), sizes))
    expected = [by_the_library(rows, size, min_samples=2) for size in sizes]
    assert [replace(row, is_cliff=False) for row in found] == expected


def row(size: int, clusters: int, noise: float = 0.3, largest: float = 0.2) -> SweepRow:
    return SweepRow(size, clusters, 0, noise, 0, largest, 0.1 if clusters else None, False)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (row(150, 53), row(160, 3), True),
        (row(150, 53), row(160, 26), False),  # 2 * 160 / 150 * 26 = 55.5
        (row(150, 53), row(160, 24), True),
        (row(5, 100), row(10, 26), False),  # twice the size may quarter the number
        (row(5, 100), row(10, 24), True),
        (row(10, 2), row(15, 0), True),  # all of them gone
        (row(10, 0), row(15, 0), False),
        (row(10, 3), row(11, 7), True),  # and up again
        (row(10, 3), row(11, 6), False),
        (row(10, 9, noise=0.3), row(15, 9, noise=0.51), True),
        (row(10, 9, noise=0.5), row(15, 9, noise=0.25), True),
        (row(10, 9, noise=0.3), row(15, 9, noise=0.45), False),
        (row(10, 9, largest=0.3), row(15, 8, largest=0.75), True),
        (row(10, 9, largest=0.75), row(15, 9, largest=0.5), True),
        (row(10, 9, largest=0.3), row(15, 8, largest=0.4), False),
    ],
)
def test_a_cliff_is_by_the_rule(before: SweepRow, after: SweepRow, expected: bool) -> None:
    assert is_cliff(before, after) is expected


def test_cliffs_are_against_the_size_before(digits: Rows) -> None:
    rows = list(sweep(tree_of(digits, 5), default_sizes(len(digits))))
    assert not rows[0].is_cliff
    for before, after in itertools.pairwise(rows):
        assert after.is_cliff == is_cliff(before, after)
    assert {row.is_cliff for row in rows} == {True, False}


def test_default_sizes() -> None:
    assert default_sizes(1797) == [5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700]
    assert default_sizes(40) == [5, 7, 10, 15, 20]
    assert default_sizes(2) == [5]
    assert default_sizes(330_000)[-3:] == [70_000, 100_000, 150_000]


def test_the_suggested_size_persists_and_is_far_from_cliffs() -> None:
    def rows(*found: tuple[float | None, bool, float]) -> list[SweepRow]:
        return [
            SweepRow(size, 0, 0, 0.0, 0, largest, persistence, is_cliff)
            for size, (persistence, is_cliff, largest) in enumerate(found, start=2)
        ]

    low, high = (0.1, False, 0.2), (0.3, False, 0.2)
    cliff, one_for_all = (0.3, True, 0.2), (0.4, False, 0.6)
    assert suggested_size(rows(low, high, low)) == 3
    assert suggested_size(rows(low, high, high)) == 3
    assert suggested_size(rows(low, high, cliff, low)) == 2  # beside a cliff, on either side
    assert suggested_size(rows(low, one_for_all)) == 2
    assert suggested_size(rows(one_for_all, cliff, one_for_all)) == 4  # there is no better
    assert suggested_size(rows(low, cliff)) == 3  # there is none without a cliff
    assert suggested_size(rows((None, False, 0.0), (None, False, 0.0))) is None
    assert suggested_size([]) is None
