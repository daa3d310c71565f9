"""An index opened from its stored parts: what is checked before faiss follows a pointer, and its search.

faiss trusts the bytes that it reads: a neighbour or a list that points outside would be followed. So
everything that is used as a position is looked at here, once, when an index is opened or a list is read.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import index_parts
from nearsql.udfs.search.faiss_calls import faiss_module
from nearsql.udfs.search.faiss_index import (
    Bytes,
    Centroids,
    Engine,
    Form,
    Places,
    Vectors,
    list_sizes,
    search_hnsw,
    search_lists,
)
from nearsql.udfs.search.memory import shown_bytes
from nearsql.udfs.spaces import Metric

# Gives the bytes of a part, which are known to be so many.
ReadPart = Callable[[int, int], Bytes]


class DamagedIndex(SqlFunctionError):
    """The stored bytes are not those of an index that `build` made. Says what is wrong with them."""


def open_index(
    engine: Engine, head: Bytes, n: int, dimensions: int, metric: Metric, allowance: int
) -> "OpenHnsw | OpenIvf":
    """An index of n vectors from its part FAISS, which it keeps and which must not be changed.

    allowance: bytes that the lists of ivf may take at a time. Raises DamagedIndex.
    """
    form = Form(dimensions, metric)
    index, reader = _read(engine, head)
    _check(index.d == form.width and index.is_trained, "it is of other dimensions")
    _check(index.metric_type == form.faiss_metric, "it is of another metric")
    if engine == "hnsw":
        return OpenHnsw(index, (head, reader), n, form)
    return OpenIvf(index, (head, reader), n, form, allowance)


class OpenHnsw:
    """An hnsw index. Threads may search it at the same time."""

    def __init__(self, index: Any, memory: Any, n: int, form: Form) -> None:
        self._memory = memory  # faiss reads from it
        self._index = index
        self._form = form
        faiss = faiss_module()
        storage = faiss.downcast_index(index.storage)
        _check(type(storage) is faiss.IndexScalarQuantizer, "its codes are of another kind")
        _check(
            index.ntotal == storage.ntotal == n
            and storage.d == storage.code_size == form.width
            and storage.codes.size() == n * form.width
            and storage.metric_type == form.faiss_metric,
            "vectors are missing",
        )
        _check_codes(storage.sq, form.width)
        _check_graph(index.hnsw, n)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return int(self._memory[0].nbytes)

    def candidates(
        self, queries: Vectors, c: int, effort: int, read_part: ReadPart | None = None
    ) -> Places:
        """The places of c candidates for each query, (m, c) int64, -1 where it found fewer.

        queries: (m, d) float32 as they are asked. effort: candidates followed at a time (efSearch).
        """
        return search_hnsw(self._index, self._form.prepared(queries), c, effort)


class OpenIvf:
    """An ivf index that reads its lists when they are first probed. Threads may search it together."""

    def __init__(self, index: Any, memory: Any, n: int, form: Form, allowance: int) -> None:
        faiss = faiss_module()
        self._memory = memory
        self._n = n
        self._form = form
        self._allowance = allowance
        _check(index.ntotal == 0 and index.code_size == form.width, "its codes have another size")
        _check_codes(index.sq, form.width)
        centroids = faiss.downcast_index(index.quantizer)
        _check(isinstance(centroids, faiss.IndexFlat), "its centroids are of another kind")
        _check(
            centroids.d == form.width
            and centroids.ntotal == index.nlist
            and centroids.codes.size() == 4 * form.width * index.nlist,
            "centroids are missing",
        )
        lists = faiss.downcast_InvertedLists(index.invlists)
        _check(
            type(lists) is faiss.ArrayInvertedLists
            and lists.nlist == index.nlist
            and lists.code_size == form.width,
            "its lists are of another kind",
        )
        self._sizes = list_sizes(memory[0], index.nlist)
        _check(_within(self._sizes, 0, n + 1) and self._sizes.sum() == n, "vectors are missing")
        self._list_bytes = self._sizes * (8 + form.width)
        self._centroids = Centroids(index, form.metric)
        _check(self._centroids.are_finite, "a centroid is no number")
        index.ntotal = n
        self._empty = faiss.clone_index(index)
        self._loaded = _Loaded(index)
        self._loading = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of memory, those of the lists that were read yet included."""
        return int(self._memory[0].nbytes) + self._centroids.nbytes + self._loaded.nbytes

    def candidates(self, queries: Vectors, c: int, effort: int, read_part: ReadPart) -> Places:
        """As OpenHnsw.candidates; effort: lists probed. read_part gives the bytes of a part.

        Raises DamagedIndex for a list that is none, and SqlFunctionError when the lists of one query
        take more than the memory allowed.
        """
        prepared = self._form.prepared(queries)
        scores, lists = self._centroids.nearest(prepared, effort)
        places = np.empty((len(queries), c), np.int64)
        # Blocks of queries whose lists are in memory together: all of them, if they fit.
        waiting = [(0, len(queries))]
        while waiting:
            start, stop = waiting.pop()
            block = slice(start, stop)
            loaded = self._with_lists(np.unique(lists[block]), read_part)
            if loaded is not None:
                places[block] = search_lists(
                    loaded.index, prepared[block], c, scores[block], lists[block]
                )
            elif stop - start > 1:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
            else:
                raise SqlFunctionError(
                    f"the {lists.shape[1]} lists that a query looks at take more than the "
                    f"{shown_bytes(self._allowance)} that they may"
                )
        return places

    def _with_lists(self, wanted: Places, read_part: ReadPart) -> "_Loaded | None":
        """An index in which these lists are; None if they take more than the allowance.

        A list is put in once, under the lock, and neither changed nor taken out again. So others may
        search that index meanwhile: they look only at lists that were in it before they began.
        """
        if self._loaded.has[wanted].all():
            return self._loaded
        if int(self._list_bytes[wanted].sum()) > self._allowance:
            return None
        with self._loading:
            loaded = self._loaded
            missing = wanted[~loaded.has[wanted]]
            if loaded.nbytes + int(self._list_bytes[missing].sum()) > self._allowance:
                # Begun anew; the older one goes when nobody searches it any more.
                loaded = self._loaded = _Loaded(faiss_module().clone_index(self._empty))
                missing = wanted
            for number in missing.tolist():
                self._put(loaded, number, read_part)
        return loaded

    def _put(self, into: "_Loaded", number: int, read_part: ReadPart) -> None:
        faiss = faiss_module()
        size = int(self._sizes[number])
        if size:
            data = read_part(index_parts.LISTS + number, int(self._list_bytes[number]))
            _check(data.size == self._list_bytes[number], f"list {number} has another length")
            places = data[: 8 * size].view("<i8").astype(np.int64)
            codes = np.ascontiguousarray(data[8 * size :])
            _check(_within(places, 0, self._n), f"list {number} holds a place that is not there")
            into.lists.add_entries(number, size, faiss.swig_ptr(places), faiss.swig_ptr(codes))
        into.nbytes += int(self._list_bytes[number])
        into.has[number] = True


class _Loaded:
    """An ivf index with some of its lists."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self.lists = faiss_module().downcast_InvertedLists(index.invlists)
        self.has = np.zeros(index.nlist, np.bool_)
        self.nbytes = 0


def _read(engine: Engine, head: Bytes) -> tuple[Any, Any]:
    """(index, reader) of what faiss wrote. The index goes on reading from both reader and head."""
    faiss = faiss_module()
    name, kind = {
        "hnsw": (b"IHNs", faiss.IndexHNSWSQ),
        "ivf": (b"IwSq", faiss.IndexIVFScalarQuantizer),
    }[engine]
    _check(head[:4].tobytes() == name, "it begins as no such index does")
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(head), head.size)
    try:
        index = faiss.read_index(reader, 0)
    except (RuntimeError, MemoryError, ValueError) as error:
        raise DamagedIndex("faiss cannot read it") from error
    _check(type(index) is kind, "it is of another kind")
    return index, reader


def _check(is_right: Any, otherwise: str) -> None:
    if not is_right:
        raise DamagedIndex(otherwise)


def _within(values: NDArray[Any], low: int, high: int) -> bool:
    """Whether all are at least low and below high."""
    return not values.size or (int(values.min()) >= low and int(values.max()) < high)


def _check_codes(quantizer: Any, width: int) -> None:
    """The 8-bit codes of vectors: the range of each dimension."""
    faiss = faiss_module()
    _check(
        quantizer.qtype == faiss.ScalarQuantizer.QT_8bit
        and quantizer.d == width
        and quantizer.code_size == width,
        "its codes are of another kind",
    )
    ranges = faiss.vector_to_array(quantizer.trained)
    _check(len(ranges) == 2 * width and np.isfinite(ranges).all(), "the range of a code is missing")


def _check_graph(graph: Any, n: int) -> None:
    """That every link of an hnsw graph leads to a vector that is there, on a level that it has.

    Vector i has levels[i] levels; its links on level l lie in
    neighbors[offsets[i] + first[l] : offsets[i] + first[l + 1]], and -1 ends them.
    """
    faiss = faiss_module()
    levels = faiss.vector_to_array(graph.levels)
    offsets = faiss.vector_to_array(graph.offsets).astype(np.int64)
    first = faiss.vector_to_array(graph.cum_nneighbor_per_level).astype(np.int64)
    size = graph.neighbors.size()
    _check(len(levels) == n and len(offsets) == n + 1, "the graph has another number of vectors")
    _check(len(first) > 1 and first[0] == 0 and (np.diff(first) > 0).all(), "it has no levels")
    _check(_within(levels, 1, len(first)), "a vector is on a level that is not there")
    _check(
        offsets[0] == 0 and offsets[-1] == size and np.array_equal(np.diff(offsets), first[levels]),
        "links are missing",
    )
    entry = int(graph.entry_point)
    _check(0 <= entry < n, "the graph has no entry")
    _check(graph.max_level == levels.max() - 1 == levels[entry] - 1, "the entry is too low")
    links = faiss.rev_swig_ptr(graph.neighbors.data(), size)
    _check(_within(links, -1, n), "a link leads nowhere")
    # On the upper levels, which few vectors have, a link must lead to one that has the level too.
    for level in range(1, int(levels.max())):
        begin = offsets[:-1][levels > level] + first[level]
        ends = links[begin[:, None] + np.arange(first[level + 1] - first[level])]
        _check((levels[ends[ends >= 0]] > level).all(), "a link leads to a vector of a lower level")
