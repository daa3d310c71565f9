"""The hdbscan library with a stable sort of its spanning trees' edges, as nearsql has.

The library sorts them by numpy's default, which takes another way on each kind of CPU: of edges that are
equally long now one, now the other comes first, and the labels of the same points differ from CPU to CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hdbscan.hdbscan_
import numpy as np


class _StableNumpy:
    """numpy, whose argsort is stable."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def argsort(values: Any) -> Any:
        """As numpy's."""
        return np.argsort(values, kind="stable")


@contextmanager
def stable_sort() -> Iterator[None]:
    """While it lasts, edges that are equally long stay in the order in which the library found them."""
    before = hdbscan.hdbscan_.np
    hdbscan.hdbscan_.np = _StableNumpy()
    try:
        yield
    finally:
        hdbscan.hdbscan_.np = before
