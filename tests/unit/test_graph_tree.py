"""The spanning tree from a neighbour graph: against the exact one, and against slow twins."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from nearsql.udfs.clustering import component_joins, neighbor_search
from nearsql.udfs.clustering import graph_tree as module
from nearsql.udfs.clustering.component_joins import join_components
from nearsql.udfs.clustering.distance_filter import filtered
from nearsql.udfs.clustering.forest import Forest
from nearsql.udfs.clustering.graph_tree import GraphTree, graph_tree
from nearsql.udfs.clustering.listed_edges import ListedEdges, _range_maxima
from nearsql.udfs.clustering.neighbor_search import (
    Lists,
    divided,
    listed_neighbors,
    probes_for,
    true_neighbors,
)
from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, spanning_tree
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.spaces import Space

Rows = NDArray[np.float32]


def never() -> None:
    """A poll that never stops."""


def matrix_of(rows: Rows) -> Matrix:
    return Matrix(np.arange(len(rows)), rows, Space(1, "s", rows.shape[1], "l2", 0, 0))


def lists_of(rows: Rows, count: int) -> Lists:
    """Lists around points drawn at random, all of them searched for everyone."""
    centroids = rows[np.random.default_rng(0).choice(len(rows), min(count, len(rows)), False)]
    scaled = filtered(rows).scaled
    centres = filtered(rows).scaled_part(np.arange(len(centroids)))
    apart = ((scaled[:, None] - centres[None]) ** 2).sum(axis=2)
    nearest = np.argsort(apart, axis=1, kind="stable").astype(np.int32)
    sizes = np.bincount(nearest[:, 0], minlength=len(centres))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Lists(centres, np.argsort(nearest[:, 0], kind="stable"), starts, nearest)


def reachability(rows: Rows, min_samples: int) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    apart = np.sqrt(((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2))
    core = np.sort(apart, axis=1)[:, min_samples]
    return np.maximum(np.maximum(apart, core[:, None]), core[None, :])


def points() -> st.SearchStrategy[Rows]:
    """From 2 to 50 points: small whole numbers tie and repeat, floats do not."""
    shapes = st.tuples(st.integers(2, 50), st.integers(1, 4))
    whole = st.integers(-2, 2).map(float)
    real = st.floats(-100, 100, width=32)
    return st.one_of(
        arrays(np.float32, shapes, elements=whole, fill=st.nothing()),
        arrays(np.float32, shapes, elements=real),
    )


def clusters(n: int, d: int, groups: int, spread: float, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=spread, size=(groups, d))
    return (centres[rng.integers(0, groups, n)] + rng.normal(size=(n, d))).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 8), count=st.integers(1, 6))
@example(rows=np.zeros((30, 3), np.float32), min_samples=4, count=3)
@example(rows=np.array([[0.0], [1.0]], np.float32), min_samples=1, count=1)
def test_lists_that_are_all_searched_give_the_exact_tree(
    rows: Rows, min_samples: int, count: int
) -> None:
    n = len(rows)
    rank = min(min_samples, n - 1)
    graph, _ = neighbor_graph(matrix_of(rows), rank)
    exact = spanning_tree(rows, neighbor_graph(matrix_of(rows), n - 1)[0], rank)
    lists = lists_of(rows, count)
    probes = len(lists.centroids)
    made = graph_tree(filtered(rows), graph.astype(np.int32), rank, lists, probes, never)
    np.testing.assert_array_equal(made.tree.core_distances, exact.core_distances)
    np.testing.assert_array_equal(np.sort(made.tree.edges[:, 2]), np.sort(exact.edges[:, 2]))
    assert made.components == 1


@settings(max_examples=50, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 8))
def test_a_graph_of_everything_gives_the_library_s_own_walk(rows: Rows, min_samples: int) -> None:
    n = len(rows)
    rank = min(min_samples, n - 1)
    everything, _ = neighbor_graph(matrix_of(rows), n - 1)
    shuffled = np.random.default_rng(0).permuted(everything, axis=1).astype(np.int32)
    made = graph_tree(filtered(rows), shuffled, rank, lists_of(rows, 1), 1, never)
    exact = spanning_tree(rows, everything, rank)
    np.testing.assert_array_equal(made.tree.edges, exact.edges)


@settings(max_examples=60, deadline=None)
@given(rows=points(), seed=st.integers(0, 99))
def test_the_tree_of_listed_edges_is_minimal_and_its_ties_are_all_there(
    rows: Rows, seed: int
) -> None:
    n = len(rows)
    k = min(4, n - 1)
    rng = np.random.default_rng(seed)
    graph = np.array([rng.permutation(np.delete(np.arange(n), p))[:k] for p in range(n)], np.int32)
    weights = reachability(rows, min(2, n - 1))
    core = weights.diagonal().copy()
    apart = np.take_along_axis(weights, graph.astype(np.int64), 1)
    listed = ListedEdges(graph, apart, core)
    chain = Forest.of(n)  # some tree: it need not be a good one
    steps = np.arange(n - 1)
    chain.add(steps, steps + 1, weights[steps, steps + 1])
    tree = listed.minimum_tree(chain, never)
    # The slow twin: scipy's tree of the same edges, all shifted so that none is 0.
    own = np.concatenate([np.repeat(np.arange(n), k), steps])
    other = np.concatenate([graph.ravel(), steps + 1])
    dense = np.full((n, n), np.inf)
    dense[own, other] = dense[other, own] = weights[own, other] + 1.0
    twin = minimum_spanning_tree(np.where(np.isfinite(dense), dense, 0.0)).sum() - (n - 1)
    assert tree.weights.sum() == pytest.approx(twin)
    # An edge ties when the lighter ones among all do not connect its ends.
    ties, _ = listed.tied(tree, at_most=10**6)
    expected = set()
    for p, q in zip(own.tolist(), other.tolist(), strict=True):
        lighter = np.argwhere(dense < dense[p, q])
        shape = coo_array((np.ones(len(lighter)), lighter.T), shape=(n, n))
        _, component = connected_components(shape)
        if component[p] != component[q]:
            expected.add((min(p, q), max(p, q)))
    listed_pairs = {(min(p, int(q)), max(p, int(q))) for p in range(n) for q in graph[p]}
    found = {(min(p, q), max(p, q)) for p, q in ties.tolist()}
    assert found & listed_pairs == expected & listed_pairs
    if found - listed_pairs:  # edges of the chain that the tree has
        assert found <= expected


def test_a_tree_heavier_than_a_listed_edge_is_refused() -> None:
    rows = np.array([[0.0], [1.0], [2.0]], np.float32)
    listed = ListedEdges(
        np.array([[1], [0], [1]], np.int32), np.array([[1.0], [1.0], [1.0]]), np.zeros(3)
    )
    tree = Forest.of(len(rows))
    tree.add(np.array([0, 0]), np.array([1, 2]), np.array([1.0, 2.0]))
    with pytest.raises(ArithmeticError, match="lighter than the spanning tree allows"):
        listed.tied(tree, at_most=100)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 20])
def test_range_maxima(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    table = _range_maxima(values)
    for level in range(len(table)):
        for start in range(n):
            assert table[level, start] == values[start : start + 2**level].max()


def joined(rows: Rows, graph: NDArray[np.int32], min_samples: int = 2) -> GraphTree:
    ready = filtered(rows)
    return graph_tree(ready, graph, min_samples, lists_of(rows, 12), 1, never)


@pytest.mark.parametrize("are_exact", [True, False])
def test_components_are_joined_by_real_edges(
    are_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Groups so far apart that no list leads from one to another.
    rows = clusters(600, 5, 6, 500.0)
    graph, _ = neighbor_graph(matrix_of(rows), 10)
    if not are_exact:
        monkeypatch.setattr(component_joins, "_FEWEST_SEARCHED", 0)
        monkeypatch.setattr(component_joins, "_SHARE_SEARCHED", 10**9)
    made = joined(rows, graph.astype(np.int32))
    exact = spanning_tree(rows, neighbor_graph(matrix_of(rows), 40)[0], 2)
    assert made.components >= 6
    assert made.are_joins_exact is are_exact
    weights = reachability(rows, 2)
    ends = made.tree.edges[:, :2].astype(np.int64)
    np.testing.assert_allclose(made.tree.edges[:, 2], weights[ends[:, 0], ends[:, 1]], rtol=1e-12)
    if are_exact:
        np.testing.assert_array_equal(made.tree.edges, exact.edges)
    else:
        assert made.tree.edges[:, 2].sum() <= exact.edges[:, 2].sum() * 1.02


def test_joins_of_single_points_are_the_exact_tree() -> None:
    # A forest without an edge: joining alone makes the whole tree.
    rows = clusters(80, 3, 4, 3.0)
    weights = reachability(rows, 3)
    forest = Forest.of(80)
    core = np.sort(np.sqrt(((rows[:, None] - rows[None]).astype(float) ** 2).sum(2)), axis=1)[:, 3]
    assert join_components(filtered(rows), core, lists_of(rows, 3), forest, never)
    twin = minimum_spanning_tree(np.triu(weights, 1)).sum()
    assert forest.weights.sum() == pytest.approx(twin)


def test_recall_and_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clusters(6000, 12, 40, 1.0)
    matrix, ready = matrix_of(rows), filtered(rows)
    lists = divided(ready, 0, never)
    assert sorted(lists.order.tolist()) == list(range(6000))
    assert len(lists.centroids) == 150  # n / 40, fewer than 2 sqrt(n)
    sample = true_neighbors(matrix, 15, 1, never)
    truth, _ = neighbor_graph(matrix, 15)
    np.testing.assert_array_equal(sample.neighbors, truth[sample.rows])
    few, many = probes_for(lists, sample, 0.6), probes_for(lists, sample, 0.97)
    assert few < many
    monkeypatch.setattr(neighbor_search, "_GROUP", 1000)  # several groups
    for probes, least in ((few, 0.6), (many, 0.97)):
        graph = listed_neighbors(matrix, ready, lists, 15, probes, never)
        assert (graph >= 0).all()
        assert (graph != np.arange(6000)[:, None]).all()
        assert all(len(set(row)) == 15 for row in graph.tolist())
        # What choosing the probes promised, of another sample, within its error.
        found = true_neighbors(matrix, 15, 2, never).recall(graph)
        slow = np.mean([len(set(a) & set(b)) for a, b in zip(graph, truth, strict=True)]) / 15
        assert found == pytest.approx(slow, abs=0.03)
        assert slow > least - 0.03


def test_listed_neighbors_are_the_nearest_of_the_lists_searched() -> None:
    rows = clusters(900, 4, 9, 4.0)
    ready = filtered(rows)
    lists = lists_of(rows, 10)
    graph = listed_neighbors(matrix_of(rows), ready, lists, 6, 2, never)
    wide = rows.astype(np.float64)
    for p in range(0, 900, 7):
        probed = lists.nearest[p, :2]
        while sum(len(lists.members(number)) for number in probed) <= 6:
            probed = lists.nearest[p, : len(probed) + 1]
        members = np.concatenate([lists.members(number) for number in probed])
        members = members[members != p]
        apart = np.linalg.norm(wide[members] - wide[p], axis=1)
        got = np.sort(np.linalg.norm(wide[graph[p]] - wide[p], axis=1))
        np.testing.assert_allclose(got, np.sort(apart)[:6], rtol=1e-5)


def test_points_in_a_corner_of_tiny_lists_are_searched_for_everywhere() -> None:
    rows = clusters(300, 3, 3, 20.0)
    # Each point knows only its own list, and that holds three points.
    order = np.lexsort(rows.T)
    number = np.empty(300, np.int64)
    number[order] = np.arange(300) // 3
    lists = Lists(
        np.zeros((100, 3), np.float32),
        np.argsort(number, kind="stable"),
        np.arange(0, 301, 3),
        number[:, None].astype(np.int32),
    )
    graph = listed_neighbors(matrix_of(rows), filtered(rows), lists, 8, 1, never)
    truth, _ = neighbor_graph(matrix_of(rows), 8)
    np.testing.assert_array_equal(np.sort(graph, axis=1), np.sort(truth, axis=1))


def test_unsure_points_are_searched_for_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clusters(1500, 6, 12, 2.5)
    graph, _ = neighbor_graph(matrix_of(rows), 5)
    lists = lists_of(rows, 20)
    whole = graph_tree(filtered(rows), graph.astype(np.int32), 5, lists, 20, never)
    monkeypatch.setattr(module, "_FIRST_SEARCHED", 3)
    monkeypatch.setattr(module, "_MOST_SEARCHED", 50)
    parts = graph_tree(filtered(rows), graph.astype(np.int32), 5, lists, 20, never)
    exact = spanning_tree(rows, neighbor_graph(matrix_of(rows), n_neighbors_for(1500, 5))[0], 5)
    for made in (whole, parts):
        np.testing.assert_array_equal(np.sort(made.tree.edges[:, 2]), np.sort(exact.edges[:, 2]))


def test_poll_can_stop_the_work() -> None:
    rows = clusters(3000, 8, 10, 2.0)
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise TimeoutError("enough")

    lists = divided(filtered(rows), 0, never)
    with pytest.raises(TimeoutError, match="enough"):
        listed_neighbors(matrix_of(rows), filtered(rows), lists, 8, 4, stop)
    graph, _ = neighbor_graph(matrix_of(rows), 8)
    calls = 0
    with pytest.raises(TimeoutError, match="enough"):
        graph_tree(filtered(rows), graph.astype(np.int32), 5, lists, 4, stop)
