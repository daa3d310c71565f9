"""The neighbour graph that all kinds of findings of a run look at: read if it is stored, or made once."""

import time

import numpy as np

from nearsql.pipeline.console import progress, say
from nearsql.pipeline.estimate import duration_in_words
from nearsql.udfs import dbapi
from nearsql.udfs.findings.duplicates import Graph
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import graph_blocks, nearest
from nearsql.udfs.search.stored_graph import stored_graph

_SAMPLE = 256  # queries timed for the forecast
# A graph that takes less than so many seconds needs no forecast.
_SHORT_S = 5.0


class SharedGraph:
    """Gives the nearest neighbours of a matrix's rows, as `neighbor_graph` does, searching once for each."""

    def __init__(
        self, db: dbapi.Connection, widest: int, poll: Poll, *, quiet: bool = True
    ) -> None:
        """widest: the most neighbours that anybody will ask for."""
        self._db, self._widest, self._poll, self._quiet = db, widest, poll, quiet
        self._made: list[tuple[Matrix, Graph]] = []

    def __call__(self, matrix: Matrix, k: int) -> Graph:
        """(places, distances), both (n, k'), where k' is min(k, n - 1). k is at most the widest."""
        for made, graph in self._made:
            if made is matrix:
                return graph[0][:, :k], graph[1][:, :k]
        found = stored_graph(self._db.apsw, matrix, self._widest)
        graph = self._search(matrix) if found is None else found
        self._made.append((matrix, graph))
        return graph[0][:, :k], graph[1][:, :k]

    def _search(self, matrix: Matrix) -> Graph:
        n = len(matrix.ids)
        width = max(0, min(self._widest, n - 1))
        places, distances = np.empty((n, width), np.int64), np.empty((n, width))
        if not self._quiet:
            self._forecast(matrix)
        with progress(f"items of {matrix.space.name} searched for", n, quiet=self._quiet) as bar:
            for start, block, far in graph_blocks(matrix, width, poll=self._poll):
                places[start : start + len(block)] = block
                distances[start : start + len(block)] = far
                bar.advance(len(block))
        return places, distances

    def _forecast(self, matrix: Matrix) -> None:
        """Says by a sample of the items how long the search will take, if that is long."""
        n = len(matrix.ids)
        sample = np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)
        if n <= _SAMPLE:
            return
        nearest(matrix, matrix.vectors[:1], 1)  # what the first search alone has to prepare
        start = time.perf_counter()
        nearest(matrix, matrix.vectors[sample], self._widest, exclude=matrix.ids[sample])
        seconds = (time.perf_counter() - start) * n / len(sample)
        if seconds > _SHORT_S:
            say(
                f"{matrix.space.name}: searching the neighbours of {n:,} items, about"
                f" {duration_in_words(seconds)}; `nearsql neighbors` stores them for all later runs"
            )
