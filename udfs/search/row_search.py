"""The search among the rows of a matrix: candidates by float32 scores, decided in float64.

Few queries are scanned for one by one, many are multiplied with the rows in blocks. Either way float32
only says which rows may be among the nearest, and how wrong it may be is known: where its rounding could
have hidden a nearer row, more candidates are taken.
"""

import functools
import weakref
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.exact_distances import exact_distances
from nearsql.udfs.search.faiss_calls import faiss_module, matrix_multiplication
from nearsql.udfs.search.query_blocks import (
    Distances,
    Found,
    Ids,
    Queries,
    Scratch,
    merged,
    padded,
)
from nearsql.udfs.search.stored_vectors import Matrix
from nearsql.udfs.search.workers import Poll, in_order, in_threads, worker_count
from nearsql.udfs.spaces import Metric

# Queries answered together: the height of the blocks that matrix multiplication works on. Higher ones
# are no faster, as long as the rows come in long blocks too.
QUERY_BLOCK = 512
# Up to so many queries, one pass over the matrix for each is faster than a matrix multiplication.
_FEW_QUERIES = 3
# Floating-point operations of one call of faiss, about half a second of one core. Who interrupts does not
# wait for it, but the threads at work stop only between calls.
_OPERATIONS = 4e10
# Multiplications of matrices that take as long as reading one number from memory.
_PER_NUMBER = 16
# Numbers that one thread scans at a time: some milliseconds, so that a thread whose core is also wanted by
# others does not hold up the rest for long.
_SCANNED = 1 << 24
# Bytes of rows that are scaled or gathered at a time.
_SCRATCH = 1 << 26
# Numbers of them that stay in the CPU's caches.
_CACHED = 1 << 16

_U = 2.0**-24  # float32's unit roundoff
_TINY = 2.0**-125  # what underflow can cost one product of float32, with room
_HUGE = 1e37  # above, a float32 sum may overflow


class Search:
    """A search among all rows of a matrix, or some. A place is a position among the rows searched.

    Candidates are told by their score, the larger the nearer: the inner product, the cosine, or minus the
    squared Euclidean distance. Scores are float32, and how wrong they may be is known; distances are
    float64.
    """

    def __init__(self, matrix: Matrix, rows: Ids | None) -> None:
        self.vectors = matrix.vectors
        self.rows = None if rows is None or len(rows) == len(matrix.ids) else rows
        self.ids = matrix.ids if rows is None else matrix.ids[rows]
        self.n = len(self.ids)
        self.dimensions = matrix.space.dimensions
        self.metric: Metric = matrix.space.metric
        self.squared_norms = matrix.squared_norms
        if self.rows is not None:
            self.squared_norms = self.squared_norms[self.rows]
        largest = float(np.sqrt(self.squared_norms.max(initial=0.0)))
        # Sums of d products are off by at most a factor of 1 + d u, in whatever order they are added
        # (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); a few more u for the
        # roundings before and after.
        self.relative_error = 1.01 * (self.dimensions + 8) * _U
        self.largest_norm = largest
        self.inverse_norms: NDArray[np.float32] | None = None
        if self.metric == "cosine":
            self._prepare_cosine()

    def _prepare_cosine(self) -> None:
        norms = np.sqrt(self.squared_norms)
        positive = norms > 0
        deviation = float(np.abs(norms - 1).max(initial=0.0))
        self.largest_norm = 1.0
        if deviation <= 1e-6:  # unit rows, as encoders write them: nothing to scale
            self.relative_error += 2 * deviation
            return
        inverse = np.zeros(len(norms))
        np.divide(1, norms, out=inverse, where=positive)
        if inverse.max(initial=0.0) > _HUGE or norms.max(initial=0.0) > _HUGE:
            self.largest_norm = np.inf  # no float32 score can be trusted
            inverse = np.minimum(inverse, _HUGE)
        self.relative_error += float(inverse.max(initial=0.0)) * self.dimensions * _TINY
        self.inverse_norms = inverse.astype(np.float32)

    @property
    def is_copied(self) -> bool:
        """Whether matrix multiplication needs the rows elsewhere than they are: gathered, or scaled."""
        return self.rows is not None or self.inverse_norms is not None

    @property
    def query_block(self) -> int:
        """How many queries to answer together. Rows that are copied first are copied for more of them."""
        return QUERY_BLOCK * (2 if self.is_copied else 1)

    def vectors_of(self, start: int, stop: int) -> NDArray[np.float32]:
        """The vectors of the places start to stop, (stop - start, d), as they are stored."""
        if self.rows is None:
            return self.vectors[start:stop]
        return self.vectors[self.rows[start:stop]]

    def products(self, queries: int) -> int:
        """How much work so many queries are by matrix multiplication, in numbers read from memory."""
        return queries * self.n * self.dimensions // _PER_NUMBER

    def places_of(self, ids: Ids | Sequence[int | None]) -> Ids:
        """The places of item ids, -1 for None and for those not searched."""
        if not self.n:
            return np.full(len(ids), -1, np.int64)
        given = np.array([i is not None for i in ids], np.bool_)
        wanted = np.array([0 if i is None else i for i in ids], np.int64)
        places = np.minimum(np.searchsorted(self.ids, wanted), self.n - 1)
        return np.where(given & (self.ids[places] == wanted), places, -1)

    def nearest(
        self,
        queries: NDArray[np.float32],
        k: int,
        exclude: Ids | None,
        poll: Poll | None,
    ) -> tuple[Ids, Distances]:
        """(places, distances), (m, k'), each query without its excluded place; padded by -1, inf."""
        if exclude is None:
            exclude = np.full(len(queries), -1, np.int64)
        every_query_excludes = len(queries) > 0 and bool((exclude >= 0).all())
        k = max(0, min(k, self.n - every_query_excludes))
        places = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.float64)
        if not k:
            return places, distances
        # Wide results in lower blocks, so that memory stays bounded.
        step = max(1, min(self.query_block, (1 << 22) // k))
        parts = [slice(start, start + step) for start in range(0, len(queries), step)]

        def block(part: slice, poll: Poll | None) -> tuple[Ids, Distances]:
            return self._block(Queries(queries[part], exclude[part]), k, poll)

        # Few blocks one after the other, the threads sharing the rows; many side by side.
        found: Iterator[tuple[Ids, Distances]] = (block(part, poll) for part in parts)
        if len(parts) >= 4 * worker_count():
            found = in_order(block, parts, self.products(len(queries)), poll)
        for part, (its_places, its_distances) in zip(parts, found, strict=True):
            places[part], distances[part] = its_places, its_distances
        return places, distances

    def _block(self, queries: Queries, k: int, poll: Poll | None) -> tuple[Ids, Distances]:
        """As `nearest`: by matrix multiplication, and by a scan for each query that this leaves open."""
        places = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.float64)
        nothing = np.zeros(len(queries), np.bool_)
        if self.metric != "l2":
            # A vector of zeros is equally far from everything.
            nothing = queries.squared_norms == 0
            for i in np.flatnonzero(nothing):
                first = np.arange(min(self.n, k + 1))
                first = first[first != queries.exclude[i]][:k]
                places[i] = padded(first, -1, k)
                distances[i] = np.where(places[i] >= 0, self.metric == "cosine", np.inf)
        left = np.flatnonzero(~nothing)
        candidates = k + 1 + max(8, k // 4)
        while len(left) > _FEW_QUERIES and candidates <= max(self.n // 2, 256):
            found, found_distances, complete = self._many(
                queries.take(left), k, min(candidates, self.n), poll
            )
            places[left[complete]] = found[complete]
            distances[left[complete]] = found_distances[complete]
            left = left[~complete]
            candidates *= 4
        for i in left:
            places[i], distances[i] = self._one(queries.take(slice(i, i + 1)), k, poll)
            if poll:
                poll()
        return places, distances

    # Few queries: one pass over the rows each.

    def _one(self, query: Queries, k: int, poll: Poll | None) -> tuple[Ids, Distances]:
        """The k nearest of one query, (k,) each. One scan gives all scores, hence every candidate."""
        scores = self._scores(query, poll)
        excluded = int(query.exclude[0])
        if excluded >= 0:
            scores[excluded] = -np.inf
        wanted = min(k, self.n - (excluded >= 0))
        if not wanted:  # the only row is the excluded one
            return np.full(k, -1, np.int64), np.full(k, np.inf)
        worst = self._worst_possible(np.partition(scores, self.n - wanted)[self.n - wanted], query)
        # Written so that a NaN, from an overflow, counts as a candidate.
        candidates = np.flatnonzero(~(scores < worst))
        candidates = candidates[candidates != excluded]
        distances = self._distances(query, candidates[None, :])[0]
        order = np.lexsort((candidates, distances))[:wanted]
        return padded(candidates[order], -1, k), padded(distances[order], np.inf, k)

    def _worst_possible(self, score: float, query: Queries) -> float:
        """The least float32 score that a row may have and still be as near as one of this score."""
        if self.metric == "l2":
            worst = float(score) * (1 + 3 * self.relative_error) - self.dimensions * _TINY
            return worst if worst > -_HUGE else -np.inf
        error = float(self.product_errors(query.squared_norms)[0])
        return float(score) - 2 * error if error < np.inf else -np.inf

    def product_errors(self, squared_norms: Distances) -> Distances:
        """How wrong scores by matrix multiplication may be, for queries of these squared norms, (m,).

        Infinite where they may be anything.
        """
        norms = np.sqrt(squared_norms)
        if self.metric == "l2":
            size = (self.largest_norm + norms) ** 2
        elif self.metric == "cosine":
            norms = np.where((norms > 1 / _HUGE) & (norms < _HUGE), 1.0, np.inf)
            size = self.largest_norm * norms
        else:
            size = self.largest_norm * norms
        error = self.relative_error * size + self.dimensions * _TINY
        return np.where(size < _HUGE, error, np.inf)

    def _scores(self, query: Queries, poll: Poll | None) -> NDArray[np.float32]:
        """The float32 score of every row searched, (n,)."""
        faiss = faiss_module()
        vector = query.unit if self.metric == "cosine" else query.vectors
        # Row by row, also where all are wanted: several threads read memory faster so than by faiss's
        # `_ny` functions, which take rows in fours.
        function = (
            faiss.fvec_L2sqr_by_idx if self.metric == "l2" else faiss.fvec_inner_products_by_idx
        )
        scores = np.empty(self.n, np.float32)
        # As many parts for each thread, so that they end together.
        threads = worker_count()
        turns = max(1, round(self.n * self.dimensions / (threads * _SCANNED)))
        step = max(1, -(-self.n // (threads * turns)))
        consecutive = np.arange(step)
        pointer = faiss.swig_ptr

        def scan(part: slice) -> None:
            out = scores[part]
            if self.rows is None:
                rows, wanted = self.vectors[part], consecutive
            else:
                rows, wanted = self.vectors, self.rows[part]
            function(
                pointer(out),
                pointer(vector),
                pointer(rows),
                pointer(wanted),
                self.dimensions,
                1,
                len(out),
            )
            if self.metric == "l2":
                np.negative(out, out=out)
            elif self.inverse_norms is not None:
                np.multiply(out, self.inverse_norms[part], out=out)

        parts = [slice(start, min(start + step, self.n)) for start in range(0, self.n, step)]
        in_threads(scan, parts, self.n * self.dimensions, poll)
        return scores

    def distance_bounds(
        self, vector: NDArray[np.float32], poll: Poll | None
    ) -> tuple[Distances, Distances]:
        """The least and the largest that the float64 distance of each row to a vector (d,) can be, (n,). For l2."""
        scores = self._scores(Queries(vector[None, :], np.array([-1])), poll)
        squares = np.negative(scores, dtype=np.float64)
        error, tiny = 3 * self.relative_error, self.dimensions * _TINY
        least = np.minimum(squares, _HUGE) * (1 - error) - tiny
        largest = np.where(squares < _HUGE, squares * (1 + error) + tiny, np.inf)
        return np.sqrt(np.maximum(least, 0.0)), np.sqrt(largest)

    # Many queries: matrix multiplication, whose scores are selected from as they are computed.

    def _many(
        self, queries: Queries, k: int, c: int, poll: Poll | None
    ) -> tuple[Ids, Distances, NDArray[np.bool_]]:
        """(places, distances, complete): the k nearest among the c best scores of each query.

        complete: whether no other row can be among them, or come before one by its id.
        """
        if c == self.n:  # all are candidates
            scores = None
            places = np.broadcast_to(np.arange(c), (len(queries), c)).copy()
        else:
            scores, places = self._best_scores(queries, c, poll)
        # Scores that overflowed to NaN leave places empty.
        complete = cast(NDArray[np.bool_], (places >= 0).all(axis=1))
        places, distances = self.nearest_of(queries, places, k)
        if scores is None:
            return places, distances, complete
        last = distances[:, -1]
        # The best score that a row outside the candidates may truly have.
        outside = scores.min(axis=1).astype(np.float64)
        outside += self.product_errors(queries.squared_norms)
        truth = -last * last if self.metric == "l2" else -last
        if self.metric == "cosine":
            truth = 1 - last
        complete &= truth > outside
        return places, distances, complete

    def _best_scores(
        self, queries: Queries, c: int, poll: Poll | None
    ) -> tuple[NDArray[np.float32], Ids]:
        """(scores, places) of the c rows of the best float32 scores for each query, in any order."""
        faiss = faiss_module()
        wanted = queries.unit if self.metric == "cosine" else queries.vectors
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        # Two blocks for each thread, as long as they may be: short ones find many rows that are not
        # among the best of all.
        threads = worker_count()
        step = -(-self.n // (2 * threads if threads > 1 else 1))
        step = max(4096, min(step, int(_OPERATIONS / (2.0 * len(wanted) * self.dimensions))))
        if self.is_copied:
            step = max(1, min(step, _SCRATCH // (4 * self.dimensions)))
        scratch = Scratch((min(step, self.n), self.dimensions))
        found: list[Found] = []

        def multiply(start: int) -> None:
            stop = min(start + step, self.n)
            rows = (
                self._rows(start, stop, scratch.own) if self.is_copied else self.vectors[start:stop]
            )
            with matrix_multiplication():
                scores, places = faiss.knn(wanted, rows, min(c, stop - start), metric)
            if metric == faiss.METRIC_L2:
                np.negative(scores, out=scores)
            # Of scores that are NaN, faiss may leave any number as the place.
            is_place = (places >= 0) & (places < stop - start)
            best = (scores, np.where(is_place, places + start, -1))
            # Each thread merges what it finds with what it finds lying there.
            while True:
                try:
                    other = found.pop()
                except IndexError:
                    break
                best = merged(best, other, c)
            found.append(best)

        starts = range(0, self.n, step)
        in_threads(multiply, starts, self.products(len(wanted)), poll)
        return functools.reduce(lambda one, other: merged(one, other, c), found)

    def _rows(self, start: int, stop: int, scratch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows of places start to stop: gathered, and scaled to length 1 where cosine needs it."""
        out = scratch[: stop - start]
        if self.rows is None and self.inverse_norms is not None:
            return np.multiply(
                self.vectors[start:stop], self.inverse_norms[start:stop, None], out=out
            )
        # In short parts, so that they are scaled while they are in the CPU's caches.
        step = max(1, _CACHED // self.dimensions)
        for at in range(start, stop, step):
            part = slice(at, min(at + step, stop))
            into = out[part.start - start : part.stop - start]
            np.take(self.vectors, cast(Ids, self.rows)[part], axis=0, out=into, mode="clip")
            if self.inverse_norms is not None:
                np.multiply(into, self.inverse_norms[part, None], out=into)
        return out

    def nearest_of(self, queries: Queries, places: Ids, k: int) -> tuple[Ids, Distances]:
        """The k nearest of each query among its own candidates, (m, k') each, by (distance, place).

        places: (m, c), -1 where there is none. Those are last, at distance inf, as the excluded one is.
        """
        distances = self._distances(queries, places)
        places = np.where(places == queries.exclude[:, None], -1, places)
        distances[places < 0] = np.inf
        by_place = np.argsort(np.where(places < 0, self.n, places), axis=1)
        places = np.take_along_axis(places, by_place, 1)
        distances = np.take_along_axis(distances, by_place, 1)
        by_distance = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(places, by_distance, 1), np.take_along_axis(
            distances, by_distance, 1
        )

    def _distances(self, queries: Queries, places: Ids) -> Distances:
        """The float64 distance of each query to the rows at its places, (m, c)."""
        return exact_distances(
            self.vectors,
            places if self.rows is None else self.rows[places],
            queries.vectors,
            self.metric,
            self.squared_norms[places],
            queries.squared_norms,
        )


_whole: "weakref.WeakKeyDictionary[Matrix, Search]" = weakref.WeakKeyDictionary()


def search_among(matrix: Matrix, rows: Ids | None) -> Search:
    """A search of the rows. What the whole matrix needs is worked out once."""
    if rows is not None:
        return Search(matrix, rows)
    search = _whole.get(matrix)
    if search is None:
        search = _whole[matrix] = Search(matrix, None)
    return search
