"""ARI and AMI are scikit-learn's, on any two labellings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.metrics.cluster import expected_mutual_information as library_expected

from nearsql.udfs.cluster_agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    expected_mutual_information,
    overlaps,
)

labellings = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        *[
            st.lists(st.integers(-1, 8) | st.just(2**62), min_size=n, max_size=n).map(
                lambda labels: np.array(labels, np.int64)
            )
        ]
        * 2
    )
)


@given(labellings)
def test_both_are_the_librarys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    assert adjusted_rand(a, b) == adjusted_rand_score(a, b)
    ours = adjusted_mutual_information(overlaps(a, b))
    theirs = adjusted_mutual_info_score(a, b)
    # Where all labellings of these sizes are alike, both are 0 / 0 and come down to rounding errors.
    table = contingency_matrix(a, b)
    if table.shape != (1, 1) and max(table.shape) < len(a):
        assert ours == pytest.approx(theirs, abs=1e-9)


@given(labellings)
def test_overlaps_are_the_contingency_table(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = overlaps(*pair)
    dense = np.zeros((len(found.labels_a), len(found.labels_b)), np.int64)
    dense[found.rows, found.columns] = found.counts
    assert (dense == contingency_matrix(*pair)).all()
    assert (found.sizes_a == dense.sum(1)).all()
    assert (found.sizes_b == dense.sum(0)).all()
    assert (found.counts > 0).all()


@pytest.mark.parametrize("n", [50, 5000, 40_000])
@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_expected_information_leaves_out_nothing_that_counts(n: int, skew: float) -> None:
    """Large clusters, in whose distributions most overlaps are left out."""
    random = np.random.default_rng(n)
    weights = 1 / np.arange(1, 21) ** skew
    a, b = (random.choice(20, n, p=weights / weights.sum()) for _ in range(2))
    table = contingency_matrix(a, b, sparse=True)
    found = overlaps(a, b)
    ours = expected_mutual_information(found.sizes_a, found.sizes_b)
    assert ours == pytest.approx(library_expected(table, n), rel=1e-8)


def test_the_same_partition_agrees_wholly_and_chance_not_at_all() -> None:
    random = np.random.default_rng(0)
    a = random.integers(0, 30, 3000)
    renamed = random.permutation(30)[a]
    assert adjusted_rand(a, renamed) == 1.0
    assert adjusted_mutual_information(overlaps(a, renamed)) == pytest.approx(1.0)
    shuffled = random.permutation(a)
    assert adjusted_mutual_information(overlaps(a, shuffled)) == pytest.approx(0.0, abs=0.01)


def test_what_has_no_pair_is_undefined() -> None:
    for n in (0, 1):
        a = np.zeros(n, np.int64)
        assert adjusted_rand(a, a) is None
        assert adjusted_mutual_information(overlaps(a, a)) is None


def test_it_can_be_ended_between_sizes() -> None:
    asked: list[None] = []
    sizes = np.array([3, 4, 5, 6])
    expected_mutual_information(sizes, sizes, lambda: asked.append(None))
    assert len(asked) == 4

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        expected_mutual_information(sizes, sizes, stop)
