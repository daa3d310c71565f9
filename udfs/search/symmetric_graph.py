"""The neighbour graph by half of the multiplications: a score of two rows counts for both.

Rows are taken in blocks, and blocks are multiplied with each other in tiles. Each block is first
multiplied with itself, which finds near rows where neighbours in the file are near (photographs of a
day, one class after the other), and tells what score is worth a look. Then the first block is multiplied
with all later ones, the second with all later than itself, and so on: after its turn a block has met all
others. Of a tile only the scores are looked at that are among the best so far, of its rows or of its
columns; all others are passed over by one comparison.

The result is that of a search for each row, to the last bit: which rows are compared when decides only
which candidates are looked at in float64.
"""

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search import memory
from nearsql.udfs.search.best_candidates import BestCandidates, bytes_for
from nearsql.udfs.search.faiss_calls import faiss_module, matrix_multiplication
from nearsql.udfs.search.query_blocks import Distances, Ids, Queries
from nearsql.udfs.search.row_search import QUERY_BLOCK, Search
from nearsql.udfs.search.workers import Poll, in_order

# Rows in a block: a multiple of QUERY_BLOCK, and twice as many where there are very many rows. Products of
# smaller blocks are slower, and fewer blocks save less: a half less half of one block's share.
_HEIGHT = QUERY_BLOCK
_MANY_ROWS = 1 << 13
# Fewer rows are searched as quickly one block after the other.
_LEAST_BLOCKS = 4
# More neighbours than this share of the rows are more work to select than multiplying is.
_SHARE = 1 / 64
# Floating-point operations of one task: so many that handing it over costs nothing beside them.
_OPERATIONS = 1e10
# The search goes on without the symmetry when so great a part of the rows had to be searched for after all.
_LEFT_OVER = 0.25
# Rows whose candidates are decided on together: of about as many candidates, so that few places are empty.
_DECIDED = 64

Block = tuple[int, Ids, Distances]
Task = tuple[int, range]


def is_worthwhile(search: Search, k: int, first: int) -> bool:
    """Whether the graph of the rows from `first` on comes sooner so, and fits an eighth of the memory."""
    own = search.n - first
    return (
        k > 0
        and own >= _LEAST_BLOCKS * _HEIGHT
        and k <= own * _SHARE
        and own * bytes_for(k) <= memory.memory_limit() // 8
        and bool(
            np.isfinite(search.product_errors(search.squared_norms[first:])).mean() > 1 - _LEFT_OVER
        )
    )


class SymmetricGraph:
    """One computation of the k nearest other rows of every row from `first` on.

    apart: (n,), where rows of the same number must not find each other, such as those of one fold of a
    cross-validation; each must have k others. Rows that would have to be searched for are then left to
    the caller: their places are -1.
    next: the first row that `blocks` has not given yet.
    """

    def __init__(self, search: Search, k: int, first: int = 0, apart: Ids | None = None) -> None:
        self._search, self._k, self.next = search, k, first
        # In as few bytes as will do, since all pairs are looked at.
        self._apart = None if apart is None else np.unique(apart, return_inverse=True)[1]
        if self._apart is not None and self._apart.max(initial=0) < 128:
            self._apart = self._apart.astype(np.int8)
        n = search.n
        self._height = _HEIGHT * (2 if n - first >= _MANY_ROWS else 1)
        starts = [*range(0, first, self._height), *range(first, n, self._height)]
        self._bounds = [*starts, n]
        # The first block whose neighbours are wanted.
        self._own = len(range(0, first, self._height))
        errors = search.product_errors(search.squared_norms)
        if search.metric != "l2":  # a vector of zeros is equally far from everything
            errors[search.squared_norms == 0] = np.inf
        self._candidates: dict[int, BestCandidates] = {
            i: BestCandidates(k, errors[self._part(i)]) for i in range(self._own, len(starts))
        }
        self._transforms: dict[int, Any] = {}
        self._unmet = dict.fromkeys(self._candidates, len(starts))
        self._lock = threading.Lock()
        self._decided = self._left = 0
        self._scratch = _Scratch(self._height)

    def blocks(self, poll: Poll | None) -> Iterator[Block]:
        """(first row, places, distances) of one block after the other.

        They end early, at row `next`, when too many rows have more candidates than there is room for.
        """
        n, first = self._search.n, self.next
        numbers = self._search.products((n - first) * (n + first) // (2 * n))
        done: dict[int, Block] = {}
        for blocks in in_order(self._multiply, self._tasks(), numbers, poll):
            done.update((block[0], block) for block in blocks)
            while block := done.pop(self.next, None):
                self.next += len(block[1])
                yield block

    def _tasks(self) -> Iterator[Task]:
        """Which block to multiply with which others, in order."""
        last = len(self._bounds) - 1
        pair = 2.0 * self._height**2 * self._search.dimensions
        step = max(1, int(_OPERATIONS / pair))
        for i in range(self._own, last):
            yield i, range(i, i + 1)
        for i in range(self._own, last):
            if self._left > _LEFT_OVER * max(self._decided, 1):
                return
            for start, stop in ((0, self._own), (i + 1, last)):
                for j in range(start, stop, step):
                    yield i, range(j, min(j + step, stop))

    def _part(self, i: int) -> slice:
        return slice(self._bounds[i], self._bounds[i + 1])

    def _multiply(self, task: Task, check: Poll) -> list[Block]:
        """Multiplies a block with some others; gives those blocks that have now met all."""
        i, others = task
        mine = self._candidates[i]
        transform = self._transforms.get(i) or self._transform(i)
        if i not in others:
            self._transforms[i] = transform  # for the other tasks of this block
        met = []
        for j in others:
            check()
            scores = self._scores(transform, j)
            mask = self._scratch.mask[: scores.size].reshape(scores.shape)
            if self._apart is not None:
                ours = self._apart[self._part(i)]
                np.equal(self._apart[self._part(j), None], ours, out=mask)
                np.copyto(scores, -np.inf, where=mask)
            theirs = self._candidates.get(j)  # None of rows whose neighbours are not wanted
            if i == j:
                np.fill_diagonal(scores, -np.inf)
                if len(scores) > self._k:
                    mine.limit_by(scores)
            else:
                rows, columns = _above(scores, mine.limits, mask)
                order = np.argsort(columns.astype(np.uint16), kind="stable")  # by radix
                rows, columns = rows[order], columns[order]
                mine.add(columns, scores[rows, columns], rows + self._bounds[j])
            if theirs is not None:
                rows, columns = _above(scores, theirs.limits[:, None], mask)
                theirs.add(rows, scores[rows, columns], columns + self._bounds[i])
            for block in {i, j} & self._unmet.keys():
                with self._lock:
                    self._unmet[block] -= 1
                    has_met_all = self._unmet[block] == 0
                if has_met_all:
                    met.append(self._decide(block, check))
        return met

    def _transform(self, i: int) -> Any:
        """faiss's linear map of a vector to its products with the rows of block i, less what l2 needs.

        Its products are faiss's BLAS's, in the calling thread alone; numpy's take all threads there are.
        """
        search, part = self._search, self._part(i)
        vectors = search.vectors_of(part.start, part.stop)
        is_l2 = search.metric == "l2"
        faiss = faiss_module()
        transform = faiss.LinearTransform(search.dimensions, len(vectors), is_l2)
        if is_l2:  # minus the squared distance: 2 x y - x x - y y
            vectors = vectors * np.float32(2)
            faiss.copy_array_to_vector(-search.squared_norms[part].astype(np.float32), transform.b)
        elif search.inverse_norms is not None:
            vectors = vectors * search.inverse_norms[part, None]
        faiss.copy_array_to_vector(vectors.ravel(), transform.A)
        transform.is_trained = True
        return transform

    def _scores(self, transform: Any, j: int) -> NDArray[np.float32]:
        """The scores of the rows of block j, with the rows that the transform is of: (rows, those)."""
        search, part = self._search, self._part(j)
        vectors = search.vectors_of(part.start, part.stop)
        size = len(vectors) * transform.d_out
        scores = self._scratch.scores[:size].reshape(len(vectors), transform.d_out)
        pointer = faiss_module().swig_ptr
        with matrix_multiplication():
            transform.apply_noalloc(len(vectors), pointer(vectors), pointer(scores))
        if search.metric == "l2":
            scores -= search.squared_norms[part, None].astype(np.float32)
        elif search.inverse_norms is not None:
            scores *= search.inverse_norms[part, None]
        return scores

    def _decide(self, i: int, check: Poll) -> Block:
        """The nearest of each row of a block that has met all others, by float64 distances."""
        candidates = self._candidates.pop(i)
        self._transforms.pop(i, None)
        start, stop = self._bounds[i], self._bounds[i + 1]
        queries = Queries(self._search.vectors_of(start, stop), np.arange(start, stop))
        places, counts = candidates.best()
        nearest = np.empty((len(queries), self._k), np.int64)
        distances = np.empty((len(queries), self._k), np.float64)
        known = np.flatnonzero(~candidates.is_open)
        known = known[np.argsort(counts[known], kind="stable")]
        for at in range(0, len(known), _DECIDED):
            rows = known[at : at + _DECIDED]
            chosen = places[rows, : counts[rows[-1]]]
            nearest[rows], distances[rows] = self._search.nearest_of(
                queries.take(rows), chosen, self._k
            )
        left = np.flatnonzero(candidates.is_open)
        if self._apart is not None:
            nearest[left], distances[left] = -1, np.inf
        elif len(left):
            nearest[left], distances[left] = self._search.nearest(
                queries.vectors[left], self._k, queries.exclude[left], check
            )
        with self._lock:
            self._decided += len(queries)
            self._left += len(left)
        return start, nearest, distances


class _Scratch(threading.local):
    """Memory for the scores of one tile, for each thread, made when it first needs it."""

    def __init__(self, height: int) -> None:
        self._size = height * height

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Not initialised."""
        return np.empty(self._size, np.float32)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Not initialised."""
        return np.empty(self._size, np.bool_)


def _above(
    scores: NDArray[np.float32], limits: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[Ids, Ids]:
    """(rows, columns) of the scores above their limits, row by row. mask: to work in."""
    np.greater(scores, limits, out=mask)
    if mask.size % 8:
        return cast(tuple[Ids, Ids], np.nonzero(mask))
    # Eight at a time: there are few.
    words = np.flatnonzero(mask.reshape(-1).view(np.uint64) != 0)
    word, place = np.nonzero(mask.reshape(-1, 8)[words])
    return np.divmod(words[word] * 8 + place, scores.shape[1])
