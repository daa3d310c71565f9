"""A neighbour graph made by others: the vectors are sent to them once, and they search for some items at a time.

The distance of two vectors is computed from these two alone, so that it does not matter who does it, nor for
how many items at a time: the rows are those of `exact_graph_blocks`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.engines import Facts, Workers
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK, nearest
from nearsql.udfs.search.stored_vectors import new_matrix
from nearsql.udfs.spaces import Space

# item ids (m,), their neighbours' (m, k), distances (m, k)
Block = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

# Multiplications that are worth being sent for: some seconds of one core.
_WORTH_SENDING = 1e11


@dataclass(frozen=True, slots=True, eq=False)
class GraphTask:
    """All vectors, by parts of a Matrix, and how many neighbours each has. subset: only these item ids."""

    space: Space
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    squared_norms: NDArray[np.float64]
    k: int
    subset: NDArray[np.int64] | None = None
    device: str = "cpu"

    @classmethod
    def of(cls, matrix: Matrix, k: int, subset: NDArray[np.int64] | None) -> "GraphTask":
        """k: at most the number of items less one."""
        return cls(matrix.space, matrix.ids, matrix.vectors, matrix.squared_norms, k, subset)

    @property
    def items(self) -> NDArray[np.int64]:
        """The items of the graph, ascending."""
        if self.subset is None:
            return self.ids
        return np.intersect1d(self.ids, self.subset)

    def load(self) -> "GraphWork":
        """The same as work to be done."""
        return GraphWork(self)


class GraphWork:
    """The neighbours of items, by their places among the items of the graph."""

    def __init__(self, task: GraphTask) -> None:
        self._task, self._items = task, task.items
        self._matrix = new_matrix(task.ids, task.vectors, task.squared_norms, task.space)
        self.timings = {"model": 0.0}

    @property
    def facts(self) -> Facts:
        return Facts()

    def prepare(self, value: tuple[int, int]) -> tuple[int, int]:
        """Nothing is left to be prepared."""
        return value

    def __call__(self, batch: Sequence[tuple[int, int]], besides: Any) -> list[Block]:
        """batch: places, from one to before another."""
        started = time.perf_counter()
        blocks = [self._block(self._items[first:last]) for first, last in batch]
        self.timings["model"] += (time.perf_counter() - started) * 1000
        return blocks

    def _block(self, items: NDArray[np.int64]) -> Block:
        matrix, task = self._matrix, self._task
        queries = matrix.vectors[matrix.positions(items)]
        return items, *nearest(matrix, queries, task.k, subset=task.subset, exclude=items)


def graph_by(workers: Workers, task: GraphTask, first: int) -> Iterator[Block]:
    """The graph in the order of its items, from a place on; each block but the last of QUERY_BLOCK items or
    a multiple."""
    n = len(task.items)
    of_a_block = float(QUERY_BLOCK) * n * task.space.dimensions
    height = QUERY_BLOCK * max(1, min(64, int(_WORTH_SENDING // of_a_block)))
    # With few items, as many parts as there are likely to be workers.
    height = min(height, QUERY_BLOCK * max(1, n // QUERY_BLOCK // 16))
    places = ((start, min(start + height, n)) for start in range(first, n, height))
    for blocks in workers.map(places, 1):
        yield from blocks
