"""The spanning tree against the hdbscan library's, edge by edge, ties included."""

import numpy as np
import pytest
from hdbscan._hdbscan_linkage import mst_linkage_core, mst_linkage_core_vector
from hdbscan._hdbscan_reachability import mutual_reachability
from hdbscan.dist_metrics import DistanceMetric
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nearsql.udfs.clustering import products as products_module
from nearsql.udfs.clustering import spanning_tree as module
from nearsql.udfs.clustering.boruvka import minimum_spanning_tree
from nearsql.udfs.clustering.distance_filter import distance, distances_to, filtered
from nearsql.udfs.clustering.exact_neighbors import (
    Neighbors,
    measured_neighbors,
    nearest_by_products,
    settled,
)
from nearsql.udfs.clustering.prim import prim_over_edges, prim_over_points
from nearsql.udfs.clustering.products import Products, products
from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, spanning_tree
from nearsql.udfs.clustering.tied_edges import leaf_order, tied_edges

Rows = NDArray[np.float32]


def never() -> None:
    """A poll that never stops."""


def all_distances(rows: Rows) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.sqrt(((wide[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2))


def knn(rows: Rows, k: int) -> NDArray[np.int64]:
    """The neighbour graph by brute force, each point itself excluded."""
    apart = all_distances(rows)
    np.fill_diagonal(apart, -1.0)
    return np.argsort(apart, axis=1, kind="stable")[:, 1 : k + 1]


def ours(rows: Rows, min_samples: int) -> module.SpanningTree:
    graph = knn(rows, n_neighbors_for(len(rows), min_samples))
    return spanning_tree(rows, graph, min_samples)


def librarys(rows: Rows, core_distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The library's walk over all pairs (algorithm='prims_kdtree' of hdbscan.HDBSCAN)."""
    result: NDArray[np.float64] = mst_linkage_core_vector(
        rows.astype(np.float64), core_distances, DistanceMetric.get_metric("euclidean")
    )
    return result


def points() -> st.SearchStrategy[Rows]:
    """From 2 to 50 points in up to 5 dimensions: small whole numbers tie and repeat, floats do not."""
    shapes = st.tuples(st.integers(2, 50), st.integers(1, 5))
    whole = st.integers(-2, 2).map(float)
    real = st.floats(-100, 100, width=32)
    return st.one_of(
        arrays(np.float32, shapes, elements=whole, fill=st.nothing()),
        arrays(np.float32, shapes, elements=real),
    )


@settings(max_examples=150, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 12))
@example(rows=np.zeros((30, 3), np.float32), min_samples=4)
@example(rows=np.array([[0.0], [1.0]], np.float32), min_samples=5)
def test_tree_is_the_librarys_edge_by_edge(rows: Rows, min_samples: int) -> None:
    tree = ours(rows, min_samples)
    rank = max(1, min(min_samples, len(rows) - 1))
    expected_cores = np.sort(all_distances(rows), axis=1)[:, rank]
    np.testing.assert_allclose(tree.core_distances, expected_cores, rtol=1e-12)
    np.testing.assert_array_equal(tree.edges, librarys(rows, tree.core_distances))


@settings(max_examples=50, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 12))
def test_weight_equals_that_of_the_full_reachability_matrix(rows: Rows, min_samples: int) -> None:
    dense = mst_linkage_core(mutual_reachability(all_distances(rows), max(1, min_samples)))
    assert ours(rows, min_samples).edges[:, 2].sum() == pytest.approx(dense[:, 2].sum(), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 12))
@example(rows=np.repeat(np.eye(4, dtype=np.float32), 12, axis=0), min_samples=7)
def test_lists_are_made_from_products_kept_or_not(rows: Rows, min_samples: int) -> None:
    # Lists shorter than all there are, so that what is beyond them has to be bounded.
    rank = max(1, min(min_samples, len(rows) - 1))
    k = min(len(rows) - 1, rank + 1)
    apart = np.sort(all_distances(rows), axis=1)[:, 1:]
    ready = products(filtered(rows), never)
    assert ready.kept is not None
    for way in (ready, Products(ready.points, None)):
        lists: Neighbors = nearest_by_products(way, k, never)
        for p, (places, beyond) in enumerate(zip(lists.indices, lists.beyond, strict=True)):
            assert len({*places.tolist(), p}) == k + 1
            outside = np.setdiff1d(np.arange(len(rows)), [*places, p])
            assert (all_distances(rows)[p, outside] >= beyond).all()
        lists = settled(way, lists, rank, never)
        np.testing.assert_allclose(lists.distances[:, :rank], apart[:, :rank], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 12))
def test_tree_is_the_same_from_lists_and_from_products_kept_or_not(
    rows: Rows, min_samples: int
) -> None:
    expected = ours(rows, min_samples).edges
    np.testing.assert_array_equal(spanning_tree(rows, None, min_samples).edges, expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products_module, "KEPT_POINTS", 0)
        np.testing.assert_array_equal(spanning_tree(rows, None, min_samples).edges, expected)


def test_products_are_those_of_all_pairs_whatever_the_blocks() -> None:
    rows = np.random.default_rng(4).normal(size=(1500, 7)).astype(np.float32)  # three blocks
    made = products(filtered(rows), never)
    assert made.kept is not None
    np.testing.assert_array_equal(made.kept, made.kept.T)
    wide = made.points.scaled.astype(np.float64)
    np.testing.assert_allclose(made.kept, wide @ wide.T, atol=1e-6)
    block = np.array([3, 1, 1499])
    np.testing.assert_array_equal(made.of(block), made.kept[block])


@pytest.mark.parametrize("shape", [(700, 40), (2000, 8)])
def test_points_that_the_lists_do_not_connect(shape: tuple[int, int]) -> None:
    # Clusters far apart and larger than the lists: every edge between them has to be searched for.
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=50, size=(7, shape[1]))
    rows = (centres[rng.integers(0, 7, shape[0])] + rng.normal(size=shape)).astype(np.float32)
    tree = ours(rows, 5)
    np.testing.assert_array_equal(tree.edges, librarys(rows, tree.core_distances))


def test_points_far_from_the_origin_lose_no_precision() -> None:
    # Squared float32 norms of 1e8 swallow distances of 1e-2: only float64 tells these points apart.
    rng = np.random.default_rng(1)
    rows = (np.float32(4096) + rng.integers(-8, 8, (120, 6)) * np.float32(2**-10)).astype(
        np.float32
    )
    # Lists as float32 would have them: hardly better than chance.
    careless = np.argsort(
        (rows**2).sum(1)[:, None] + (rows**2).sum(1)[None, :] - 2 * rows @ rows.T, axis=1
    )
    graph = np.array([[q for q in row if q != p][:32] for p, row in enumerate(careless)])
    tree = spanning_tree(rows, graph, 4)
    np.testing.assert_array_equal(tree.core_distances, np.sort(all_distances(rows), axis=1)[:, 4])
    np.testing.assert_array_equal(tree.edges, librarys(rows, tree.core_distances))


def test_huge_and_tiny_coordinates_neither_overflow_nor_vanish() -> None:
    rng = np.random.default_rng(2)
    for scale in (1e-25, 1e25):
        rows = (rng.normal(size=(90, 4)) * scale).astype(np.float32)
        tree = ours(rows, 3)
        assert np.isfinite(tree.edges).all()
        assert (tree.edges[:, 2] > 0).all()
        np.testing.assert_array_equal(tree.edges, librarys(rows, tree.core_distances))


def test_core_distances_do_not_count_the_point_itself() -> None:
    rows = np.array([[0.0], [1.0], [3.0], [7.0]], np.float32)
    assert ours(rows, 1).core_distances.tolist() == [1.0, 1.0, 2.0, 4.0]
    assert ours(rows, 2).core_distances.tolist() == [3.0, 2.0, 3.0, 6.0]
    # More than there are: as many as there are, as in the library.
    assert ours(rows, 99).core_distances.tolist() == [7.0, 6.0, 4.0, 7.0]


@settings(max_examples=50, deadline=None)
@given(rows=points())
def test_filter_never_overstates_a_distance(rows: Rows) -> None:
    ready = filtered(rows)
    dots = ready.scaled @ ready.scaled.T
    claimed = ready.low[:, None] + ready.low[None, :] - 2.0 * dots
    true = (all_distances(rows) * ready.scale) ** 2
    assert (claimed <= true * (1 + 1e-9)).all()


@settings(max_examples=50, deadline=None)
@given(rows=points(), data=st.data())
def test_many_distances_are_those_one_by_one(rows: Rows, data: st.DataObject) -> None:
    n = len(rows)
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=11)), np.int64)
    p = data.draw(st.integers(0, n - 1))
    found = np.empty(len(places))
    distances_to(rows, p, places, found)
    # To the last bit: ties decide where a walk goes.
    assert found.tolist() == [distance(rows, p, q) for q in places]


@settings(max_examples=50, deadline=None)
@given(rows=points(), data=st.data())
def test_rows_are_centred_and_scaled_in_float64(rows: Rows, data: st.DataObject) -> None:
    ready, n = filtered(rows), len(rows)
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=9)), np.int64)
    expected = ((rows - ready.centre) * ready.scale).astype(np.float32)
    np.testing.assert_array_equal(ready.scaled, expected)
    np.testing.assert_array_equal(ready.scaled_part(places), expected[places])
    np.testing.assert_array_equal(ready.scaled_part(slice(1, n - 1)), expected[1 : n - 1])


@settings(max_examples=50, deadline=None)
@given(rows=points(), min_samples=st.integers(1, 6))
def test_walk_over_ties_is_the_walk_over_all_pairs(rows: Rows, min_samples: int) -> None:
    tree = ours(rows, min_samples)
    ready = products(filtered(rows), never)
    graph = knn(rows, n_neighbors_for(len(rows), min_samples))
    rank = max(1, min(min_samples, len(rows) - 1))
    lists = settled(ready, measured_neighbors(ready, graph, never), rank, never)
    edges, weights = minimum_spanning_tree(ready, lists, tree.core_distances, never)
    ties = tied_edges(ready, edges, weights, tree.core_distances, never, at_most=10**6)
    assert ties is not None
    walk = prim_over_edges(len(rows), *ties)
    np.testing.assert_array_equal(walk, prim_over_points(rows, tree.core_distances, never))


def test_equidistant_points_take_the_walk_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.eye(80, dtype=np.float32)
    expected = ours(rows, 2).edges
    walks = []

    def counted(*args: object) -> NDArray[np.float64]:
        walks.append(args)
        return prim_over_points(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_TIES", 0)  # the 3,160 ties of these points are now too many
    monkeypatch.setattr(module, "prim_over_points", counted)
    np.testing.assert_array_equal(ours(rows, 2).edges, expected)
    assert len(walks) == 1


def test_a_tree_that_is_not_minimal_is_refused() -> None:
    rows = np.array([[0.0], [1.0], [2.0]], np.float32)
    edges = np.array([[0, 1], [0, 2]])
    weights = np.array([distance(rows, 0, 1), distance(rows, 0, 2)])
    with pytest.raises(ArithmeticError, match="not minimal"):
        tied_edges(products(filtered(rows), never), edges, weights, np.zeros(3), never, at_most=100)


def test_leaf_order_puts_the_heaviest_edge_of_a_path_between_its_ends() -> None:
    edges = np.array([[0, 3], [1, 2], [3, 1]])
    order, gaps = leaf_order(edges, np.array([1.0, 2.0, 5.0]))
    assert order.tolist() == [0, 3, 1, 2]
    assert gaps.tolist() == [0.0, 1.0, 5.0, 2.0]


def test_poll_can_stop_the_work() -> None:
    def stop() -> None:
        raise TimeoutError("enough")

    rows = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    with pytest.raises(TimeoutError, match="enough"):
        spanning_tree(rows, knn(rows, n_neighbors_for(200, 5)), 5, poll=stop)
