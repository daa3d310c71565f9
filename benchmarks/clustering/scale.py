"""Time and memory against the number of points, exactly and from a graph; and what millions would take."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.clustering.data import FASHION
from benchmarks.search.measure import Figure
from benchmarks.search.results import Result, case

EXACT, GRAPH, AGREEMENT = "exact", "graph", "agreement"
SYNTHETIC = "clusters"
DIMENSIONS = 768
EXACT_SIZES, GRAPH_SIZES = (3_000, 10_000, 30_000), (30_000, 100_000, 330_000)
PART = 33_000
PLANNED = 3_300_000
PLANNED_MODELS = 4

_UNITS = {"peak memory": "bytes", "vectors": "bytes"}
_SECONDS = ("tree", "cut", "total", "exact total")


def run(name: str, n: int, d: int, way: str, threads: int, assets: Path | None) -> Result:
    """One clustering in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.clustering.child", name, str(n), str(d), way]
    words += [str(threads), *([str(assets)] if assets else [])]
    # Its libraries size their pools when they start.
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True
    )
    figures = [
        Figure(key, value, "s" if key in _SECONDS else _UNITS.get(key, ""))
        for key, value in json.loads(done.stdout).items()
    ]
    return Result(way, f"{name}, {case(n, d)}", n, d, threads, figures)


def measure(
    ways: Sequence[str], threads: int, assets: Path | None, quick: bool
) -> Iterator[Result]:
    """Sections exact, graph and agreement, as far as they are asked for."""
    d = 32 if quick else DIMENSIONS
    exact = (1500,) if quick else EXACT_SIZES
    graph = (1500, 3000) if quick else GRAPH_SIZES
    if EXACT in ways:
        for n in exact:
            yield run(SYNTHETIC, n, d, EXACT, threads, None)
        if assets and not quick:
            yield run(FASHION, 70_000, 784, EXACT, threads, assets)
    if GRAPH in ways:
        for n in graph:
            yield run(SYNTHETIC, n, d, GRAPH, threads, None)
        if assets and not quick:
            yield run(FASHION, 70_000, 784, GRAPH, threads, assets)
    if AGREEMENT in ways:
        yield run(SYNTHETIC, 1500 if quick else PART, d, AGREEMENT, threads, None)
        if assets and not quick:
            yield run(FASHION, PART, 784, AGREEMENT, threads, assets)


def planned(found: Sequence[Result]) -> list[tuple[str, int, float, float]]:
    """(what, points of a part, seconds of all parts, bytes at once) for 3.3 million points.

    By the two largest measured graphs of synthetic points: seconds a point grow by a power of n, and bytes
    in proportion to n. Empty when fewer were measured.
    """
    runs = sorted(
        (one for one in found if one.section == GRAPH and one.case.startswith(SYNTHETIC)),
        key=lambda one: one.n,
    )[-2:]
    if len(runs) < 2 or runs[0].d != runs[1].d:
        return []
    import math

    small, large = runs
    per_row = [one.value("total") / one.n for one in runs]
    power = math.log(per_row[1] / per_row[0]) / math.log(large.n / small.n)
    row_bytes = (large.value("peak memory") - small.value("peak memory")) / (large.n - small.n)
    plans = []
    for parts in (1, PLANNED_MODELS):
        n = PLANNED // parts
        seconds = parts * n * per_row[1] * (n / large.n) ** power
        memory = large.value("peak memory") + (n - large.n) * row_bytes
        what = "one space" if parts == 1 else f"{parts} models, one after the other"
        plans.append((what, n, seconds, memory))
    return plans
