"""Merges of spanning trees: bit for bit those of the hdbscan library's own code."""

import numpy as np
import pytest
from hdbscan._hdbscan_linkage import label
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearsql.udfs.clustering.linkage import single_linkage


def library(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(label(edges[np.argsort(edges.T[2], kind="stable"), :]))


@st.composite
def spanning_trees(draw: st.DrawFn) -> NDArray[np.float64]:
    """Any tree's edges in any order, either end first, among whose lengths many are equal, some infinite."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = rng.permutation(n)
    # From chains, whose ways to the root are the longest, to stars.
    reach = draw(st.integers(1, n))
    targets = [rng.integers(max(0, i - reach), i) for i in range(1, n)]
    ends = np.stack([names[1:], names[targets]], axis=1)
    lengths = draw(
        st.lists(st.sampled_from([0.0, 1.0, 1.5, np.inf]), min_size=n - 1, max_size=n - 1)
    )
    edges = np.column_stack(
        [np.where(rng.random(n - 1)[:, None] < 0.5, ends, ends[:, ::-1]), lengths]
    )
    return np.ascontiguousarray(rng.permutation(edges), np.float64)


@given(spanning_trees())
def test_merges_are_those_of_the_library(edges: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(single_linkage(edges), library(edges))


@pytest.mark.parametrize("n", [2, 3, 5000])
def test_a_chain_from_its_middle_outwards(n: int) -> None:
    # Each merge adds a point to one large set: the longest way to a root, were it not cut short.
    chain = np.column_stack([np.arange(n - 1), np.arange(1, n)]).astype(np.float64)
    edges = np.column_stack([chain, np.abs(np.arange(n - 1) - n / 2)])
    found = single_linkage(edges)
    np.testing.assert_array_equal(found, library(edges))
    assert found[-1, 3] == n
