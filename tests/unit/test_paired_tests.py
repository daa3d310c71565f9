"""The tests of paired values against their definitions, counted out."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs.paired_tests import mcnemar, wilcoxon


def mcnemar_by_counting(gained: int, lost: int) -> float:
    """Twice the chance that so few or fewer of so many tosses are heads, at most 1."""
    n = gained + lost
    tail = sum(Fraction(comb(n, heads), 2**n) for heads in range(min(gained, lost) + 1))
    return float(min(Fraction(1), 2 * tail))


def wilcoxon_by_counting(differences: list[float]) -> float:
    """Twice the smaller share of all choices of signs whose rank sum is as extreme, at most 1."""
    differing = [d for d in differences if d]
    sizes = sorted(abs(d) for d in differing)
    ranks = [
        sum(size < abs(d) for size in sizes) + (sum(size == abs(d) for size in sizes) + 1) / 2
        for d in differing
    ]
    found = sum(rank for rank, d in zip(ranks, differing, strict=True) if d > 0)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in product((0, 1), repeat=len(ranks))
    ]
    low = sum(one <= found for one in sums) / len(sums)
    high = sum(one >= found for one in sums) / len(sums)
    return min(1.0, 2 * min(low, high))


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    p = mcnemar(gained, lost)
    if gained + lost == 0:
        assert p is None
    else:
        assert p == pytest.approx(mcnemar_by_counting(gained, lost), rel=1e-9)


def test_mcnemar_of_many() -> None:
    # The chi-squared approximation with the correction of Edwards: (|40600 - 40000| - 1)**2 / 80600.
    assert mcnemar(40_600, 40_000) == pytest.approx(0.0348, abs=5e-4)
    assert mcnemar(0, 100_000) == 0.0


@settings(deadline=None)  # the first example imports scipy
@given(st.lists(st.integers(-4, 4), max_size=9))
def test_wilcoxon_counts_every_choice_of_signs(differences: list[int]) -> None:
    p = wilcoxon(np.array(differences, np.float64))
    if not any(differences):
        assert p is None
    else:
        assert p == pytest.approx(wilcoxon_by_counting(list(map(float, differences))))


def test_wilcoxon_takes_equal_differences_for_equal() -> None:
    thirds = np.array([2 / 3 - 1 / 3, 1 / 3 - 0, 1 - 2 / 3, -1 / 2])
    assert len(set(np.abs(thirds[:3]).tolist())) > 1
    assert wilcoxon(thirds) == pytest.approx(wilcoxon_by_counting([1.0, 1.0, 1.0, -2.0]))


def test_wilcoxon_of_many() -> None:
    random = np.random.default_rng(0)
    none, some = random.normal(size=2000), random.normal(0.2, size=2000)
    p_none, p_some = wilcoxon(none), wilcoxon(some)
    assert p_none is not None
    assert p_some is not None
    assert p_none > 0.01
    assert p_some < 1e-6
