"""What the machine can do at best: reading memory, and multiplying matrices."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.search.data import Vectors, clustered
from benchmarks.search.measure import Call, Figure, in_turns, least, threads
from benchmarks.search.results import Result, case
from benchmarks.search.setup import Setup

SECTION = "floors"
READ = "reading the matrix once"
PEAK = "GEMM peak"

# The shape of the matrix products that come nearest to the machine's peak: queries x rows.
GEMM_QUERIES = 1024
GEMM_ROWS = 4096


def reading(vectors: Vectors, n_threads: int) -> dict[str, Call]:
    """Ways to read every number of the matrix from memory once; the quickest is the floor."""
    query = vectors[0].copy()
    parts = np.array_split(vectors, n_threads)
    out = np.empty(len(vectors), np.float32)
    outs = np.array_split(out, n_threads)
    # Integers, 8 bytes at a time: no addition is as wide as the memory bus otherwise.
    integers = [part.reshape(-1)[: part.size // 2 * 2].view(np.uint64) for part in parts]
    pool = ThreadPoolExecutor(n_threads)

    def in_parts() -> None:
        list(pool.map(lambda i: np.dot(parts[i], query, out=outs[i]), range(n_threads)))

    ways: dict[str, Call] = {
        "sgemv": lambda: np.dot(vectors, query, out=out),
        "a sum": lambda: list(pool.map(np.add.reduce, integers)),
    }
    if n_threads > 1:
        ways["sgemv of a part in each thread"] = in_parts
    return ways


def floor(times: dict[str, Figure], ways: dict[str, Call]) -> Figure:
    """The quickest of the ways to read."""
    return least(READ, [times[name] for name in ways])


def products(vectors: Vectors, queries: int, rows: int) -> Call:
    """The matrix products of the first `queries` vectors with the first `rows`, in blocks.

    The scores go to a buffer that stays in the caches, so that nothing but the products takes time.
    """
    out = np.empty((min(queries, GEMM_QUERIES), GEMM_ROWS), np.float32)

    def gemm() -> None:
        for start in range(0, queries, GEMM_QUERIES):
            block = vectors[start : min(start + GEMM_QUERIES, queries)]
            for other in range(0, rows, GEMM_ROWS):
                part = vectors[other : min(other + GEMM_ROWS, rows)]
                np.matmul(block, part.T, out=out[: len(block), : len(part)])

    return gemm


def operations(queries: int, rows: int, d: int) -> float:
    """Floating-point operations of such products."""
    return 2.0 * queries * rows * d


def measure(setup: Setup) -> Iterator[Result]:
    """Bandwidth and GEMM peak, with one thread and with all."""
    n, d = setup.n, setup.d
    vectors = clustered(n, d)
    target = np.empty_like(vectors)
    queries, rows = min(n, GEMM_QUERIES), min(n, 4 * GEMM_ROWS)
    for count in setup.thread_counts:
        with threads(count):
            calls = reading(vectors, count)
            calls["a copy (reads and writes)"] = lambda: np.copyto(target, vectors)
            times = in_turns(calls, setup.rounds)
            product = in_turns({"GEMM": products(vectors, queries, rows)}, setup.rounds)["GEMM"]
        figures = list(times.values())
        best = min(one.value for one in figures[:-1])
        figures.append(Figure("bandwidth", vectors.nbytes / best / 1e9, "GB/s"))
        peak = operations(queries, rows, d) / product.value / 1e9
        figures.append(Figure(PEAK, peak, "GFLOP/s", note=f"{queries} x {rows:,} x {d} at a time"))
        yield Result(SECTION, case(n, d), n, d, count, figures)
