"""The rule by which new vectors join clusters, against brute force and on held-out digits."""

import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

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
from nearsql.udfs.clustering import member_bounds
from nearsql.udfs.clustering.cluster_model import ClusterModel
from nearsql.udfs.clustering.hdbscan_tree import Clustering, cut
from nearsql.udfs.clustering.member_codes import member_codes
from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, spanning_tree
from nearsql.udfs.search.exact_distances import exact_distances_to_rows
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.row_search import search_among
from nearsql.udfs.spaces import Space


def clustered(
    rows: NDArray[np.float32], size: int, samples: int
) -> tuple[Clustering, ClusterModel]:
    k = n_neighbors_for(len(rows), samples)
    graph = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows.astype(np.float64))
    tree = spanning_tree(rows, graph.kneighbors(return_distance=False), samples)
    found = cut(tree, min_cluster_size=size)
    members = Matrix(np.arange(len(rows)), rows, Space(1, "s", rows.shape[1], "l2", 0, 0))
    least = min(samples, len(rows) - 1)
    model = ClusterModel(
        members,
        tree.core_distances,
        found.labels,
        found.birth_lambdas,
        found.max_lambdas,
        least,
        False,
    )
    return found, model


@contextmanager
def quantised_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_bounds, "_MANY_NUMBERS", 1)
        patch.setattr(member_bounds, "OFTEN", 0)
        yield


def by_brute_force(model: ClusterModel, vector: NDArray[np.float32]) -> tuple[int, float]:
    """The rule as it is written down: all members, one after another, in float64."""
    apart = np.sqrt(((model.members.vectors.astype(float) - vector.astype(float)) ** 2).sum(axis=1))
    core = np.sort(apart)[model.min_samples - 1]
    reach = np.maximum(np.maximum(apart, core), model.core_distances)
    q = min(range(len(apart)), key=lambda i: (reach[i], apart[i], i))
    if model.labels[q] < 0:
        return -1, reach[q]
    if reach[q] > 0 and 1 / reach[q] < model.birth_lambdas[q]:
        return -1, reach[q]
    return int(model.labels[q]), reach[q]


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(8, 60), st.just(2)),
        elements=st.integers(-3, 3).map(float) | st.floats(-5, 5, width=16),
        fill=st.nothing(),
    ),
    queries=arrays(
        np.float32, (6, 2), elements=st.integers(-4, 4).map(float) | st.floats(-6, 6, width=16)
    ),
    samples=st.integers(1, 5),
)
def test_assign_is_the_rule(
    rows: NDArray[np.float32], queries: NDArray[np.float32], samples: int
) -> None:
    _, model = clustered(rows, 3, samples)
    labels, distances = model.assign(queries)
    for query, label, distance in zip(queries, labels, distances, strict=True):
        assert (label, pytest.approx(distance, rel=1e-9)) == by_brute_force(model, query)


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(8, 90), st.integers(1, 40)),
        elements=st.integers(-3, 3).map(float) | st.floats(-5, 5, width=16),
    ),
    size=st.sampled_from([1e-30, 1.0, 1e15]),
    samples=st.integers(1, 8),
    data=st.data(),
)
def test_one_vector_by_bounds_is_the_same_as_by_a_search(
    rows: NDArray[np.float32], size: float, samples: int, data: st.DataObject
) -> None:
    rows = rows * np.float32(size)
    _, model = clustered(rows, 3, samples)
    number = st.integers(-4, 4).map(float) | st.floats(-9, 9, width=16)
    query = data.draw(arrays(np.float32, rows.shape[1], elements=number)) * np.float32(size)
    for vector in (query, rows[0], -rows[-1]):
        found, distances = model.hang_by_search(vector[None, :])
        assert model.hang_one(vector) == (found[0], distances[0])
        with quantised_at_once():
            assert model.hang_one(vector) == (found[0], distances[0])


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(1, 30), st.integers(1, 70)),
        elements=st.floats(-(2.0**124), 2.0**124, width=32) | st.floats(-1, 1, width=32),
        fill=st.nothing(),
    ),
    data=st.data(),
)
def test_bounds_hold_the_distances(rows: NDArray[np.float32], data: st.DataObject) -> None:
    number = st.floats(-(2.0**124), 2.0**124, width=32) | st.floats(-1, 1, width=32)
    query = data.draw(arrays(np.float32, rows.shape[1], elements=number, fill=st.nothing()))
    apart = exact_distances_to_rows(rows, query, "l2", None)
    members = Matrix(np.arange(len(rows)), rows, Space(1, "s", rows.shape[1], "l2", 0, 0))
    for lower, upper in (
        member_codes(rows).bounds(query),
        search_among(members, None).distance_bounds(query, None),
    ):
        assert (lower <= apart).all()
        assert (apart <= upper).all()


def test_codes_are_close_enough_to_leave_few_members() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(40, 256))[rng.integers(40, size=2000)]).astype(np.float32)
    rows += rng.normal(size=rows.shape).astype(np.float32) * 0.3
    # One row of another size does not coarsen the codes of the others.
    rows[7] *= 1e6
    lower, upper = member_codes(rows[1:]).bounds(rows[0])
    nearest = np.sort(upper)[9]
    assert 10 <= (lower <= nearest).sum() <= 30


@pytest.mark.parametrize("is_numba_loaded", [True, False])
def test_members_are_quantised_once_that_is_worth_it(
    monkeypatch: pytest.MonkeyPatch, is_numba_loaded: bool
) -> None:
    monkeypatch.setattr(member_bounds, "_MANY_NUMBERS", 1)
    loaded = {"numba": None} if is_numba_loaded else {}
    monkeypatch.setattr(member_bounds, "sys", SimpleNamespace(modules=loaded))
    often = member_bounds.OFTEN if is_numba_loaded else member_bounds.OFTEN_WITHOUT_NUMBA
    rng = np.random.default_rng(0)
    _, model = clustered(rng.normal(size=(60, 3)).astype(np.float32), 5, 3)
    queries = rng.normal(size=(often + 30, 3)).astype(np.float32)
    labels, distances = model.assign(queries)
    seen = []
    for query, label, distance in zip(queries, labels, distances, strict=True):
        found = model.assign(query[None, :])
        assert (found[0][0], found[1][0]) == (label, distance)
        seen.append(model.bounds.codes is not None)
    assert seen == [False] * often + [True] * 30


def test_a_vector_far_away_takes_no_copy_of_all_members() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20_000, 64)).astype(np.float32)
    members = Matrix(np.arange(len(rows)), rows, Space(1, "s", 64, "l2", 0, 0))
    known = np.ones(len(rows))
    model = ClusterModel(members, known, np.zeros(len(rows), np.int64), known, known, 5, False)
    far = np.full(64, 1e6, np.float32)
    found, distances = model.hang_by_search(far[None, :])
    tracemalloc.start()
    try:
        assert model.hang_one(far) == (found[0], distances[0])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes


def test_assign_looks_as_far_as_it_must() -> None:
    # The 400 members around a query are noise-like in that their own core distances are huge (each
    # asks for its 300th neighbour); the member that it hangs on is found only by looking past them.
    rng = np.random.default_rng(0)
    near = rng.normal(size=(400, 3)).astype(np.float32)
    dense = (rng.normal(size=(400, 3)) * 0.01 + 2.0).astype(np.float32)
    _, model = clustered(np.vstack([near, dense]), 50, 300)
    queries = rng.normal(size=(40, 3)).astype(np.float32)
    labels, distances = model.assign(queries)
    assert [model.hang_one(query)[1] for query in queries] == distances.tolist()
    with quantised_at_once():
        assert [model.hang_one(query)[1] for query in queries] == distances.tolist()
    for query, label, distance in zip(queries, labels, distances, strict=True):
        assert (label, pytest.approx(distance, rel=1e-9)) == by_brute_force(model, query)


def test_a_point_amid_a_cluster_joins_it_and_one_far_away_none() -> None:
    rows = np.array([[float(i)] for i in (0, 1, 2, 3, 4, 14, 15, 16, 17, 18)], np.float32)
    found, model = clustered(rows, 5, 1)
    labels, distances = model.assign(np.array([[2.5], [16.5], [9.0], [1000.0]], np.float32))
    assert labels.tolist() == [found.labels[0], found.labels[5], found.labels[0], -1]
    assert distances[3] == 982.0
    # The clusters were born at distance 10: up to there they reach, and no farther.
    labels, _ = model.assign(np.array([[28.0], [28.5]], np.float32))
    assert labels.tolist() == [found.labels[5], -1]


def test_held_out_digits_go_where_clustering_all_would_put_them() -> None:
    rows = load_digits().data.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(rows))
    held_out, kept = order[: len(rows) * 15 // 100], order[len(rows) * 15 // 100 :]
    found, model = clustered(rows[kept], 20, 5)
    labels, _ = model.assign(rows[held_out])

    everything, _ = clustered(rows, 20, 5)
    # The labels of both clusterings, paired by where most of the kept points are.
    pairs = {-1: -1}
    for label in range(everything.labels.max() + 1):
        there = found.labels[everything.labels[kept] == label]
        pairs[label] = int(np.bincount(there[there >= 0], minlength=1).argmax())
    again = np.array([pairs[label] for label in everything.labels[held_out]])
    agreement = (labels == again).mean()
    print(f"agreement with clustering again: {agreement:.3f}")
    # The members themselves do not all keep their clusters when the others come back: nobody's
    # new points could do much better.
    kept_again = np.array([pairs[label] for label in everything.labels[kept]])
    stability = (found.labels == kept_again).mean()
    print(f"agreement of the members themselves: {stability:.3f}")
    assert agreement > stability - 0.03

    with warnings.catch_warnings(), stable_sort():
        warnings.simplefilter("ignore")
        library = hdbscan.HDBSCAN(
            min_cluster_size=20, min_samples=5, algorithm="prims_kdtree", prediction_data=True
        ).fit(rows[kept].astype(np.float64))
        theirs, _ = hdbscan.approximate_predict(library, rows[held_out].astype(np.float64))
        # Of the core distances that it clustered by, which otherwise it takes for others here: a new
        # point's of one member more, the members' of one less.
        library.min_samples -= 1
        library.prediction_data_.core_distances = model.core_distances
        same, sureness = hdbscan.approximate_predict(library, rows[held_out].astype(np.float64))
    np.testing.assert_array_equal(library.labels_, found.labels)
    places, distances = model.hang(rows[held_out])
    both = same == labels
    assert both.mean() > 0.97  # it looks at a few members only
    np.testing.assert_allclose(
        model.probabilities_of(places, distances)[both], sureness[both], rtol=1e-6
    )
    assert len(set(sureness[both].tolist())) > 20
    print(f"agreement with approximate_predict: {(labels == theirs).mean():.3f}")
    print(f"approximate_predict with clustering again: {(theirs == again).mean():.3f}")
    assert (labels == theirs).mean() > 0.9
    assert agreement >= (theirs == again).mean() - 0.02
