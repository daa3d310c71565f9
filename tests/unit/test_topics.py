"""EVoC's layers as levels: equal to EVoC from the same graph, nested, repeatable, duplicates together."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import load_digits

from nearsql.udfs.clustering.topics import TopicLevel, TopicSettings, fewest_for_topics, topics
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.space_points import normalized
from nearsql.udfs.spaces import Metric, Space


def matrix(rows: ArrayLike, metric: Metric = "l2") -> Matrix:
    vectors = np.ascontiguousarray(rows, dtype=np.float32)
    ids = np.arange(1, len(vectors) + 1)
    return Matrix(ids, vectors, Space(1, "s", vectors.shape[1], metric, 0, 0))


@pytest.fixture(scope="module")
def digits() -> NDArray[np.float32]:
    return load_digits().data[:700].astype(np.float32)


def blobs(seed: int, n: int, dimensions: int = 8) -> NDArray[np.float32]:
    """Groups of groups of points, and some points of none."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(3, dimensions)) * 30
    fine = coarse[rng.integers(0, 3, 8)] + rng.normal(size=(8, dimensions)) * 6
    rows = fine[rng.integers(0, 8, n)] + rng.normal(size=(n, dimensions))
    rows[: n // 8] = rng.normal(size=(n // 8, dimensions)) * 30
    return rows.astype(np.float32)


def assert_nested(levels: list[TopicLevel]) -> None:
    """Parents are what they should be, found cluster by cluster."""
    for number, level in enumerate(levels, start=1):
        assert level.labels.max(initial=-1) + 1 == level.n_clusters == len(level.parents)
        assert ((level.labels < 0) <= (level.probabilities == 0)).all()
        assert ((level.probabilities >= 0) & (level.probabilities <= 1)).all()
        for label in range(level.n_clusters):
            is_in = level.labels == label
            around = (0, -1)
            for above in range(1, number):
                labels = set(levels[above - 1].labels[is_in].tolist())
                assert len(labels) == 1
                if labels != {-1}:
                    around = (above, labels.pop())
            assert tuple(level.parents[label]) == around
    sizes = [level.n_clusters for level in levels]
    assert sizes == sorted(sizes)


def test_equals_evoc_from_the_same_neighbours(
    digits: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    import evoc.clustering as evoc

    asked = TopicSettings(base_min_cluster_size=8, noise_level=0.3, random_state=7)

    def exact(data: NDArray[np.float32], n_neighbors: int, random_state: object) -> object:
        places, distances = neighbor_graph(matrix(digits, "cosine"), n_neighbors - 1)
        own = np.arange(len(data))[:, None]
        similarity = np.maximum(1 - distances, np.finfo(np.float32).tiny)
        apart = np.maximum(-np.log2(similarity), 0)
        lists = np.hstack([own, places]).astype(np.int32)
        return lists, np.hstack([np.zeros_like(own), apart]).astype(np.float32)

    monkeypatch.setattr(evoc, "knn_graph", exact)
    layers, strengths, persistence, *_ = evoc.evoc_clusters(
        normalized(digits),
        noise_level=asked.noise_level,
        base_min_cluster_size=asked.base_min_cluster_size,
        random_state=np.random.RandomState(asked.random_state),
    )
    found = topics(matrix(digits, "cosine"), asked)
    assert len(found) == len(layers) >= 2
    for level, labels, strength, score in zip(
        reversed(found), layers, strengths, persistence, strict=True
    ):
        np.testing.assert_array_equal(level.labels, labels)
        np.testing.assert_array_equal(level.probabilities, np.where(labels < 0, 0, strength))
        assert (level.persistence or 0.0) == score
    assert found[-1].persistence is None
    assert_nested(found)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_levels_are_nested_and_come_again(digits: NDArray[np.float32], metric: Metric) -> None:
    first, second = (topics(matrix(digits, metric), TopicSettings()) for _ in range(2))
    assert len(first) >= 2
    assert_nested(first)
    for one, other in zip(first, second, strict=True):
        assert one.labels.tobytes() == other.labels.tobytes()
        assert one.probabilities.tobytes() == other.probabilities.tobytes()
        assert one.persistence == other.persistence
    another = topics(matrix(digits, metric), TopicSettings(random_state=1))
    assert another[-1].labels.tobytes() != first[-1].labels.tobytes()


def test_the_number_of_threads_makes_no_difference(digits: NDArray[np.float32]) -> None:
    found = []
    before = numba.get_num_threads()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            found.append(topics(matrix(digits), TopicSettings())[-1].labels.tobytes())
            assert numba.get_num_threads() == threads
    finally:
        numba.set_num_threads(before)
    assert found[0] == found[1]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 150),
    dimensions=st.integers(1, 6),
    copies=st.integers(1, 4),
    min_cluster_size=st.integers(2, 9),
    min_samples=st.integers(1, 9),
    n_neighbors=st.integers(2, 20),
    metric=st.sampled_from(["l2", "cosine"]),
)
def test_any_points(
    seed: int,
    n: int,
    dimensions: int,
    copies: int,
    min_cluster_size: int,
    min_samples: int,
    n_neighbors: int,
    metric: Metric,
) -> None:
    rows = np.tile(blobs(seed, n, dimensions), (copies, 1))
    asked = TopicSettings(min_cluster_size, min_samples, n_neighbors)
    levels = topics(matrix(rows, metric), asked)
    assert_nested(levels)
    assert len(levels) >= 1
    for level in levels:
        assert level.labels.shape == level.probabilities.shape == (n * copies,)
        assert level.n_clusters != 1
        # Copies go together.
        assert len(np.unique(level.labels.reshape(copies, n), axis=0)) <= 1
        sizes = np.bincount(level.labels[level.labels >= 0])
        assert sizes.min(initial=10**9) >= min_cluster_size
    if n < fewest_for_topics(asked):
        assert [level.n_clusters for level in levels] == [0]


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((100, 6)),
        np.repeat([[0.0, 0.0], [9.0, 9.0]], 60, axis=0),
        np.zeros((40, 3)),
        np.empty((0, 3)),
    ],
)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_few_different_points_have_no_topics(rows: ArrayLike, metric: Metric) -> None:
    (level,) = topics(matrix(rows, metric), TopicSettings())
    assert level.n_clusters == 0
    assert (level.labels == -1).all()
    assert (level.probabilities == 0).all()
    assert level.persistence is None


def test_a_place_of_many_copies_is_not_torn_apart() -> None:
    rows = np.concatenate([np.zeros((300, 8), np.float32), blobs(1, 200)])
    levels = topics(matrix(rows), TopicSettings())
    assert len(levels[0].parents) >= 2
    for level in levels:
        assert len(set(level.labels[:300].tolist())) == 1
    # The copies change nothing for the others; -0.0 is a copy of 0.0.
    rows[:300:2] = -0.0
    alone = topics(matrix(rows[299:]), TopicSettings())
    for level, same in zip(levels, alone, strict=True):
        np.testing.assert_array_equal(level.labels[299:], same.labels)


def test_groups_far_apart_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    rows = rng.normal(size=(240, 10)) + 40 * np.eye(4, 10)[truth]
    for level in topics(matrix(rows), TopicSettings(base_min_cluster_size=20)):
        for label in range(level.n_clusters):
            assert len(set(truth[level.labels == label].tolist())) == 1


def test_inner_products_are_refused(digits: NDArray[np.float32]) -> None:
    with pytest.raises(SqlFunctionError, match="inner products are not distances"):
        topics(matrix(digits, "ip"), TopicSettings())


def test_poll_stops_it(digits: NDArray[np.float32]) -> None:
    for allowed in range(4):
        calls = []

        def stop(allowed: int = allowed, calls: list[int] = calls) -> None:
            calls.append(1)
            if len(calls) > allowed:
                raise TimeoutError("enough")

        def graph(matrix: Matrix, k: int, *, poll: object) -> object:
            return neighbor_graph(matrix, k)

        with pytest.raises(TimeoutError, match="enough"):
            topics(matrix(digits), TopicSettings(), stop, graph)  # type: ignore[arg-type]
    assert len(topics(matrix(digits[:30]), TopicSettings())) == 1  # nothing stays locked
