"""Approximate indexes by faiss: built from vectors, taken apart into bytes, opened from them, searched.

hnsw: a graph of neighbours (Malkov and Yashunin 2018, arXiv:1603.09320). ivf: an inverted file, whose
vectors lie in lists around the centroids of a k-means clustering, of which the nearest to the query are
searched (Jegou, Douze and Schmid 2011). Both keep each dimension of a vector as one byte, the range of the
dimension divided evenly (faiss's QT_8bit), and give candidates: the places, in the order in which vectors
were added, whose exact distances are to be looked at.

cosine is the inner product of rows scaled to length 1, where a row of zeros stays as it is: its product
with everything is 0, a distance of 1. An l2 search needs no scaling, ip takes vectors as they are.
"""

from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search import index_parts
from nearsql.udfs.search.faiss_calls import faiss_module
from nearsql.udfs.search.workers import in_threads
from nearsql.udfs.spaces import Metric

Engine = Literal["hnsw", "ivf"]
Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Vectors = NDArray[np.float32]

# faiss's code for 8 bits is fast for a multiple of 16 dimensions and 5 times slower otherwise.
_WIDTH = 16
# Rows added at a time. A fixed number, since the graph depends on it; a second or two at 768 dimensions.
_ADDED = 1024
# Rows in which the range of each dimension is looked for.
_RANGE_SAMPLE = 1 << 15
# Rows that k-means is given for each list: more do not give better centroids (faiss asks for 39).
_ROWS_PER_LIST = 40
_KMEANS_ITERATIONS = 10


def default_lists(n: int) -> int:
    """How many lists an ivf index of n vectors has: 4 sqrt(n), or fewer where k-means needs the rows."""
    return max(1, min(round(4 * n**0.5), n // _ROWS_PER_LIST))


class BuiltIndex:
    """An index that was just built, all of it in memory."""

    def __init__(self, index: Any, engine: Engine, form: "Form", head: Bytes | None) -> None:
        self._index = index
        self.engine = engine
        self._form = form
        self._head = head  # of ivf: as faiss writes it before it has vectors

    @cached_property
    def _centroids(self) -> "Centroids":
        return Centroids(self._index, self._form.metric)

    @property
    def lists(self) -> int | None:
        """How many lists it has; None for hnsw."""
        return int(self._index.nlist) if self.engine == "ivf" else None

    def parts(self) -> Iterator[tuple[int, Bytes]]:
        """(part, bytes), parts as in index_parts: FAISS, then those lists of ivf that are not empty.

        Part FAISS of ivf ends with the number of vectors in each list, as int64 little-endian.
        """
        faiss = faiss_module()
        if self.engine == "hnsw":
            yield index_parts.FAISS, faiss.serialize_index(self._index)
            return
        assert self._head is not None
        stored = self._index.invlists
        sizes = [stored.list_size(number) for number in range(self._index.nlist)]
        yield index_parts.FAISS, np.concatenate([self._head, np.array(sizes, "<i8").view(np.uint8)])
        for number, size in enumerate(sizes):
            if size:
                places = faiss.rev_swig_ptr(stored.get_ids(number), size)
                codes = faiss.rev_swig_ptr(stored.get_codes(number), size * stored.code_size)
                yield (
                    index_parts.LISTS + number,
                    np.concatenate([places.astype("<i8").view(np.uint8), codes]),
                )

    @property
    def nbytes(self) -> int:
        """Bytes of memory: near those of its parts."""
        n, width = int(self._index.ntotal), int(self._index.d)
        if self.engine == "hnsw":
            return n * width + 4 * int(self._index.hnsw.neighbors.size()) + 12 * n
        return n * (width + 8) + 4 * width * int(self._index.nlist)

    def candidates(self, queries: Vectors, c: int, effort: int) -> Places:
        """The places of c candidates for each query, (m, c) int64, -1 where it found fewer.

        queries: (m, d) float32 as they are asked. effort: efSearch of hnsw, probed lists of ivf.
        """
        if self.engine == "hnsw":
            return search_hnsw(self._index, self._form.prepared(queries), c, effort)
        prepared = self._form.prepared(queries)
        scores, lists = self._centroids.nearest(prepared, effort)
        return search_lists(self._index, prepared, c, scores, lists)


def build(
    engine: Engine,
    blocks: Callable[[], Iterator[Vectors]],
    n: int,
    d: int,
    metric: Metric,
    *,
    m: int = 16,
    ef_construction: int = 200,
    lists: int | None = None,
    seed: int = 0,
    threads: int = 1,
    advance: Callable[[int], None] = lambda rows: None,
) -> BuiltIndex:
    """Builds an index of n vectors.

    blocks: gives the vectors anew at each call, in order, as float32 (b, d) blocks of any height; it is
    called twice. m: links of a vector in the hnsw graph (twice as many on its lowest level).
    ef_construction: candidates for them. lists: of ivf, by default `default_lists(n)`. seed: of the sample
    in which ranges and centroids are looked for, of k-means, and of the levels of hnsw. advance is called
    with the number of rows added. The same vectors, parameters and seed give the same bytes.

    Ctrl-C acts between blocks of 1,024 rows, and between the steps of k-means. Raises ValueError for
    parameters out of range, and when blocks do not hold n vectors of d dimensions.
    """
    faiss = faiss_module()
    if n < 1:
        raise ValueError("an index needs a vector")
    if m < 2 or ef_construction < 1 or threads < 1:
        raise ValueError("m must be at least 2, ef_construction and threads at least 1")
    form = Form(d, metric)
    kind = form.faiss_metric
    bits = faiss.ScalarQuantizer.QT_8bit
    if engine == "hnsw":
        index = faiss.IndexHNSWSQ(form.width, bits, m, kind)
        index.hnsw.efConstruction = ef_construction
        index.hnsw.rng = faiss.RandomGenerator(seed % 2**63)
        wanted = min(n, _RANGE_SAMPLE)
    else:
        lists = default_lists(n) if lists is None else lists
        if not 1 <= lists <= n:
            raise ValueError(f"lists must be between 1 and {n}, the number of vectors")
        quantizer = faiss.IndexFlat(form.width, kind)
        index = faiss.IndexIVFScalarQuantizer(quantizer, form.width, lists, bits, kind, True)
        index.cp.seed = seed % 2**31
        index.cp.niter = _KMEANS_ITERATIONS
        index.cp.min_points_per_centroid = 1  # more lists than is wise is the caller's wish
        wanted = min(n, max(_RANGE_SAMPLE, _ROWS_PER_LIST * lists))
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        index.train(_sample(blocks(), form, n, wanted, seed))
        head = faiss.serialize_index(index) if engine == "ivf" else None
        for block in _of_height(blocks(), _ADDED):
            index.add(form.prepared(block))
            advance(len(block))
    finally:
        faiss.omp_set_num_threads(before)
    if index.ntotal != n:
        raise ValueError(f"there are {index.ntotal} vectors, not {n}")
    return BuiltIndex(index, engine, form, head)


class Form(NamedTuple):
    """How vectors are put before faiss sees them."""

    dimensions: int
    metric: Metric

    @property
    def width(self) -> int:
        """Dimensions with the zeros that fill them up."""
        return -(-self.dimensions // _WIDTH) * _WIDTH

    @property
    def faiss_metric(self) -> Any:
        """What faiss computes: for cosine the inner product of what is prepared."""
        faiss = faiss_module()
        return faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT

    def prepared(self, vectors: Vectors) -> Vectors:
        """(m, width), C-contiguous: for cosine of length 1 or 0."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise ValueError(f"vectors must be (m, {self.dimensions}), not {vectors.shape}")
        if self.metric != "cosine" and self.width == self.dimensions:
            return np.ascontiguousarray(vectors, np.float32)
        out = np.zeros((len(vectors), self.width), np.float32)
        inside = out[:, : self.dimensions]
        if self.metric != "cosine":
            inside[:] = vectors
            return out
        exact = vectors.astype(np.float64)
        norms = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
        np.divide(exact, norms, out=exact, where=norms > 0)
        inside[:] = exact
        return out


def _of_height(blocks: Iterator[Vectors], height: int) -> Iterator[Vectors]:
    """The same rows in blocks of that height, but for the last."""
    waiting: list[Vectors] = []
    rows = 0
    for block in blocks:
        start = 0
        while rows + len(block) - start >= height:
            taken = height - rows
            yield np.concatenate([*waiting, block[start : start + taken]])
            waiting, rows, start = [], 0, start + taken
        if start < len(block):
            waiting.append(block[start:].copy())
            rows += len(block) - start
    if waiting:
        yield np.concatenate(waiting)


def _sample(blocks: Iterator[Vectors], form: Form, n: int, wanted: int, seed: int) -> Vectors:
    """So many rows drawn without replacement, prepared."""
    chosen = np.arange(n)
    if wanted < n:
        chosen = np.sort(np.random.default_rng(seed).choice(n, wanted, replace=False))
    out = np.empty((wanted, form.width), np.float32)
    first = 0
    for block in blocks:
        start, stop = np.searchsorted(chosen, [first, first + len(block)])
        out[start:stop] = form.prepared(block[chosen[start:stop] - first])
        first += len(block)
    if first != n:
        raise ValueError(f"there are {first} vectors, not {n}")
    return out


def search_hnsw(index: Any, queries: Vectors, c: int, effort: int) -> Places:
    """(m, c) places by an hnsw index, -1 where none; queries are prepared ones."""
    faiss = faiss_module()
    scores = np.empty((len(queries), c), np.float32)
    places = np.empty((len(queries), c), np.int64)
    index.search_c(
        len(queries),
        faiss.swig_ptr(queries),
        c,
        faiss.swig_ptr(scores),
        faiss.swig_ptr(places),
        _parameters("hnsw", effort),
    )
    return places


def list_sizes(head: Bytes, lists: int) -> Places:
    """The number of vectors in each list, by the end of an ivf index's part FAISS."""
    return head[-8 * lists :].copy().view("<i8").astype(np.int64)


class Centroids:
    """The centroids of an ivf index, by which it is known which lists are searched for a query.

    Each query is compared with them by itself, so that it finds the same lists alone and in a batch: a
    matrix product would round differently.
    """

    def __init__(self, index: Any, metric: Metric) -> None:
        faiss = faiss_module()
        stored = faiss.downcast_index(index.quantizer)
        vectors = faiss.rev_swig_ptr(stored.get_xb(), index.nlist * index.d)
        self._vectors = vectors.reshape(index.nlist, index.d).copy()
        self._is_l2 = metric == "l2"
        self._scan = faiss.fvec_L2sqr_ny if self._is_l2 else faiss.fvec_inner_products_ny

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._vectors.nbytes

    @property
    def are_finite(self) -> bool:
        """Whether they are numbers."""
        return bool(np.isfinite(self._vectors).all())

    def nearest(self, queries: Vectors, probes: int) -> tuple[Vectors, Places]:
        """The lists nearest to each prepared query, (m, probes) in any order, and their scores as faiss
        has them: squared distances or inner products."""
        pointer = faiss_module().swig_ptr
        m, (lists, d) = len(queries), self._vectors.shape
        probes = min(probes, lists)
        scores = np.empty((m, probes), np.float32)
        nearest = np.empty((m, probes), np.int64)

        def look(i: int) -> None:
            found = np.empty(lists, np.float32)
            self._scan(pointer(found), pointer(queries[i]), pointer(self._vectors), d, lists)
            nearest[i] = np.argpartition(found if self._is_l2 else -found, probes - 1)[:probes]
            scores[i] = found[nearest[i]]

        in_threads(look, range(m), m * lists * d)
        return scores, nearest


def search_lists(index: Any, queries: Vectors, c: int, scores: Vectors, lists: Places) -> Places:
    """(m, c) places by an ivf index in the lists that Centroids gave, -1 where none."""
    faiss = faiss_module()
    found = np.empty((len(queries), c), np.float32)
    places = np.empty((len(queries), c), np.int64)
    pointer = faiss.swig_ptr
    index.search_preassigned_c(
        len(queries),
        pointer(queries),
        c,
        pointer(lists),
        pointer(scores),
        pointer(found),
        pointer(places),
        False,
        _parameters("ivf", lists.shape[1]),
    )
    return places


@cache
def _parameters(engine: Engine, effort: int) -> Any:
    """What says how much to search, for one call: a setting of the index would be every thread's."""
    faiss = faiss_module()
    if engine == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=effort)
    return faiss.SearchParametersIVF(nprobe=effort)
