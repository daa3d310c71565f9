"""Clusters within clusters: the recipe to the letter, and without losing anybody on the way down."""

import itertools
import warnings
from collections.abc import Iterator

import hdbscan
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.udfs.clustering.hdbscan_tree import cut
from nearsql.udfs.clustering.levels import (
    RULES,
    Level,
    LevelRule,
    TreeOf,
    cluster_levels,
    hanging_on,
)
from nearsql.udfs.clustering.spanning_tree import SpanningTree, n_neighbors_for, spanning_tree

Rows = NDArray[np.float32]

# The same recipe in small, so that few points have clusters in clusters.
SMALL = (
    LevelRule(smallest_parent=2, min_samples=2, at_least=4, share=10),
    LevelRule(smallest_parent=8, min_samples=2, at_least=3, share=5),
    LevelRule(smallest_parent=5, min_samples=1, at_least=2, share=3, at_most=4),
)


def trees_of(rows: Rows) -> TreeOf:
    def tree_of(chosen: NDArray[np.int64], min_samples: int) -> SpanningTree:
        part = np.ascontiguousarray(rows[chosen])
        k = n_neighbors_for(len(part), min_samples)
        found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(part.astype(np.float64))
        return spanning_tree(part, found.kneighbors(return_distance=False), min_samples)

    return tree_of


def nested_blobs(seed: int, n: int = 900) -> Rows:
    """Three groups of four groups of points each, and a twentieth of the points anywhere."""
    rng = np.random.default_rng(seed)
    coarse = np.array([[0, 0, 0, 0], [60, 0, 0, 0], [0, 60, 0, 0]])
    fine = coarse[:, None] + rng.normal(0, 4, (3, 4, 4))
    points = fine[rng.integers(3, size=n), rng.integers(4, size=n)] + rng.normal(0, 1.5, (n, 4))
    points[: n // 20] = rng.uniform(-60, 120, (n // 20, 4))
    return points.astype(np.float32)


def to_the_letter(rows: Rows) -> list[dict[int, tuple[int, int]]]:
    """The recipe, by the library: of each level, of each clustered row, its parent and its cluster.

    Clusters are numbered within their parent.
    """

    def split(chosen: list[int], size: int, samples: int) -> dict[int, int]:
        with warnings.catch_warnings(), stable_sort():
            warnings.simplefilter("ignore")  # scikit-learn's renamings
            model = hdbscan.HDBSCAN(
                min_cluster_size=size, min_samples=samples, algorithm="prims_kdtree"
            ).fit(rows[chosen].astype(np.float64))
        return {
            row: int(label) for row, label in zip(chosen, model.labels_, strict=True) if label >= 0
        }

    def clusters(level: dict[int, tuple[int, int]]) -> Iterator[tuple[int, list[int]]]:
        for number, cluster in enumerate(sorted(set(level.values()))):
            yield number, [row for row in sorted(level) if level[row] == cluster]

    n = len(rows)
    first = {row: (0, label) for row, label in split(list(range(n)), max(50, n // 100), 10).items()}
    second: dict[int, tuple[int, int]] = {}
    for parent, chosen in clusters(first):
        if len(chosen) >= 30:
            found = split(chosen, max(15, len(chosen) // 10), 5)
            second |= {row: (parent, label) for row, label in found.items()}
    third: dict[int, tuple[int, int]] = {}
    for parent, chosen in clusters(second):
        if len(chosen) >= 15:
            found = split(chosen, min(50, max(5, len(chosen) // 5)), 3)
            third |= {row: (parent, label) for row, label in found.items()}
    return [first, second, third]


def numbered(level: dict[int, tuple[int, int]], n: int) -> list[int]:
    """Labels of n rows: clusters in the order of (parent, label)."""
    order = sorted(set(level.values()))
    return [order.index(level[row]) if row in level else -1 for row in range(n)]


@pytest.mark.parametrize("seed", range(6))
def test_the_seed_rules_are_the_recipe_to_the_letter(seed: int) -> None:
    rows = nested_blobs(seed)
    expected = to_the_letter(rows)
    found = cluster_levels(len(rows), trees_of(rows), seed_rules=True)
    assert len(expected[1]) > 0  # level 2 is not empty, or nothing was compared
    for level, wanted in zip(found, expected, strict=True):
        assert level.labels.tolist() == numbered(wanted, len(rows))
        parents = [parent for parent, _ in sorted(set(wanted.values()))]
        assert level.parents.tolist() == (parents if level is not found[0] else [-1] * len(parents))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_split_is_split_as_by_the_recipe(seed: int) -> None:
    rows = nested_blobs(seed)
    tree_of = trees_of(rows)
    letter = cluster_levels(len(rows), tree_of, seed_rules=True)
    found = cluster_levels(len(rows), tree_of)
    assert found[0].labels.tolist() == letter[0].labels.tolist()
    for parent in range(len(found[0].parents)):
        (children,) = np.nonzero(letter[1].parents == parent)
        of_parent = found[0].labels == parent
        if len(children) < 2:  # it stays as it is
            (only,) = np.nonzero(found[1].parents == parent)[0]
            assert (found[1].labels[of_parent] == only).all()
            continue
        inside = np.isin(letter[1].labels, children)
        pairs = set(zip(letter[1].labels[inside], found[1].labels[inside], strict=True))
        assert len(pairs) == len(children) == len({mine for _, mine in pairs})
        np.testing.assert_array_equal(
            found[1].probabilities[of_parent], letter[1].probabilities[of_parent]
        )
        assert (found[1].members[inside] == np.flatnonzero(inside)).all()
        assert (found[1].probabilities[of_parent & ~inside] == 0).all()


def assert_is_a_hierarchy(levels: list[Level], n: int) -> None:
    for above, level in zip([None, *levels], levels, strict=False):
        labels = set(level.labels.tolist()) - {-1}
        assert labels == set(range(len(level.parents)))  # dense, and none empty
        assert len(level.births) == len(level.parents)
        assert len(level.labels) == len(level.probabilities) == n
        assert ((level.members >= 0) == (level.labels >= 0)).all()
        inside = np.flatnonzero(level.labels >= 0)
        who = level.members[inside]
        assert (level.members[who] == who).all()
        assert (level.labels[who] == level.labels[inside]).all()
        assert (level.probabilities[inside[who != inside]] == 0).all()
        assert (level.probabilities[level.labels < 0] == 0).all()
        if above is None:
            assert (level.parents == -1).all()
        else:
            assert (np.diff(level.parents) >= 0).all()
            assert (above.labels[inside] == level.parents[level.labels[inside]]).all()


POINTS = st.integers(0, 60).flatmap(
    lambda n: st.one_of(
        arrays(np.float32, (n, 2), elements=st.integers(0, 12).map(float)),  # ties, duplicates
        arrays(np.float32, (n, 2), elements=st.floats(0, 9, width=16)),
        st.integers(0, 2**32 - 1).map(lambda seed: nested_blobs(seed, n)),
    )
)


@settings(deadline=None, max_examples=60)
@given(POINTS, st.booleans())
def test_levels_are_a_hierarchy_that_loses_nobody(rows: Rows, seed_rules: bool) -> None:
    levels = cluster_levels(len(rows), trees_of(rows), rules=SMALL, seed_rules=seed_rules)
    assert_is_a_hierarchy(levels, len(rows))
    for above, level in itertools.pairwise(levels):
        if seed_rules:
            assert (above.labels[level.labels >= 0] >= 0).all()
            assert (level.members[level.labels >= 0] == np.flatnonzero(level.labels >= 0)).all()
        else:
            assert ((level.labels >= 0) == (above.labels >= 0)).all()
            # A cluster has itself as its only child, or two at least.
            children = np.bincount(level.parents, minlength=len(above.parents))
            assert (children >= 1).all()
            for parent in np.flatnonzero(children == 1):
                (child,) = np.flatnonzero(level.parents == parent)
                assert ((level.labels == child) == (above.labels == parent)).all()
                assert level.births[child] == above.births[parent]


def test_the_recipe_on_real_sizes_loses_points_and_ours_does_not() -> None:
    rows = nested_blobs(1, 2000)
    letter = cluster_levels(len(rows), trees_of(rows), seed_rules=True)
    found = cluster_levels(len(rows), trees_of(rows))
    noise = [int((level.labels < 0).sum()) for level in letter]
    assert noise[0] < noise[1] < noise[2]
    assert [int((level.labels < 0).sum()) for level in found] == [noise[0]] * 3
    assert_is_a_hierarchy(found, len(rows))


@pytest.mark.parametrize("smallest_parent", [2, 100])  # no two are found, or looked for
def test_an_unsplit_cluster_keeps_its_measures(smallest_parent: int) -> None:
    rng = np.random.default_rng(3)
    rows = np.concatenate([rng.normal(0, 1, (40, 2)), rng.normal(50, 1, (20, 2))])
    rows = rows.astype(np.float32)
    below = LevelRule(smallest_parent=smallest_parent, min_samples=3, at_least=19, share=1000)
    first, second = cluster_levels(60, trees_of(rows), rules=(SMALL[0], below))
    assert len(first.parents) == 2
    for name in ("labels", "probabilities", "outlier_scores", "core_distances", "births"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert second.parents.tolist() == [0, 1]


def test_min_cluster_sizes() -> None:
    assert [RULES[0].min_cluster_size(n) for n in (100, 4999, 5100, 330_000)] == [50, 50, 51, 3300]
    assert [RULES[1].min_cluster_size(n) for n in (30, 159, 160, 999)] == [15, 15, 16, 99]
    assert [RULES[2].min_cluster_size(n) for n in (15, 29, 30, 249, 250, 9999)] == [
        5,
        5,
        6,
        49,
        50,
        50,
    ]
    assert [rule.smallest_parent for rule in RULES] == [2, 30, 15]
    assert [rule.min_samples for rule in RULES] == [10, 5, 3]


def slowly_hanging_on(tree: SpanningTree, is_member: NDArray[np.bool_]) -> list[int]:
    """The rule as it reads: of all edges from who is reached to who is not, always the shortest."""
    found = [row if member else -1 for row, member in enumerate(is_member)]
    edges = [(w, int(a), int(b)) for a, b, w in tree.edges.tolist()]
    while -1 in found:
        frontier = [
            (weight, to, found[start])
            for weight, a, b in edges
            for start, to in ((a, b), (b, a))
            if found[start] >= 0 and found[to] < 0
        ]
        _, point, member = min(frontier)
        found[point] = member
    return found


@settings(deadline=None, max_examples=60)
@given(POINTS.filter(lambda rows: len(rows) >= 2), st.data())
def test_who_joins_hangs_on_the_nearest_along_the_tree(rows: Rows, data: st.DataObject) -> None:
    n = len(rows)
    is_member = data.draw(arrays(np.bool_, n))
    is_member[data.draw(st.integers(0, n - 1))] = True
    tree = trees_of(rows)(np.arange(n), 2)
    found = hanging_on(tree, is_member)
    assert found.tolist() == slowly_hanging_on(tree, is_member)
    # And so no other member is reached by a path whose longest edge is shorter.
    longest = np.full((n, n), np.inf)
    np.fill_diagonal(longest, 0.0)
    for a, b, weight in tree.edges.tolist():
        longest[int(a), int(b)] = longest[int(b), int(a)] = weight
    for k in range(n):
        longest = np.minimum(longest, np.maximum(longest[:, k : k + 1], longest[k]))
    for point in range(n):
        assert longest[point, found[point]] == longest[point, is_member].min()


def test_one_cut_of_the_whole_tree_is_level_one() -> None:
    rows = nested_blobs(2)
    tree = trees_of(rows)(np.arange(len(rows)), 10)
    found = cut(tree, min_cluster_size=50)
    (level,) = cluster_levels(len(rows), trees_of(rows), rules=RULES[:1])
    np.testing.assert_array_equal(level.labels, found.labels)
    np.testing.assert_array_equal(level.probabilities, found.probabilities)
    np.testing.assert_array_equal(level.outlier_scores, found.outlier_scores)
    np.testing.assert_array_equal(level.core_distances, tree.core_distances)
    inside = found.labels >= 0
    np.testing.assert_array_equal(level.births[found.labels[inside]], found.birth_lambdas[inside])
