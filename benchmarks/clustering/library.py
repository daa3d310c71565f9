"""The same points and parameters by hdbscan.HDBSCAN and by nearsql, one thread each."""

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clustering.data import (
    FASHION,
    Rows,
    digits,
    embeddings,
    empty_file,
    images,
    matrix_of,
    repeated,
)
from benchmarks.search.measure import Figure, threads
from benchmarks.search.results import Result, case

SECTION = "library"
FIRST_CALL = "first call"
MIN_CLUSTER_SIZE, MIN_SAMPLES = 20, 10
# Ours takes a few seconds: the median of so many runs. The library takes minutes, and is run once.
_TIMES = 3

_FIRST_CALL = """\
import time
import numpy as np
from benchmarks.clustering.data import empty_file, matrix_of
rows = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
rows.flags.writeable = False  # as the matrix of a space is
with empty_file() as db:
    start = time.perf_counter()
    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.space_tree import space_tree
    for way in ("exact", "graph"):
        made = space_tree(db, matrix_of(rows), 3, neighbors=way, poll=lambda: None)
        cut(made.tree, min_cluster_size=5)
        print(time.perf_counter() - start)
"""


def first_call() -> Result:
    """Seconds of a process's first call, imports included: with nothing compiled yet, and compiled."""
    figures = []
    with tempfile.TemporaryDirectory() as cache:
        for name in ("nothing compiled", "compiled before"):
            done = subprocess.run(
                [sys.executable, "-c", _FIRST_CALL],
                env=environ | {"NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=True,
            )
            exact, both = map(float, done.stdout.split())
            figures += [Figure(f"exact, {name}", exact), Figure(f"both ways, {name}", both)]
    return Result(FIRST_CALL, "40 x 3", 40, 3, 1, figures)


def cases(assets: Path | None, quick: bool) -> Iterator[tuple[str, Rows]]:
    """What is clustered in both ways."""
    yield "digits", digits()
    if quick:
        yield "points that repeat and tie", repeated(400, 16)
        return
    yield "points that repeat and tie", repeated(3000, 64)
    yield "embeddings", embeddings(3000, 768)
    yield "embeddings", embeddings(10_000, 384)
    if assets:
        yield FASHION, images(assets, 10_000)


def compare(name: str, rows: Rows) -> Result:
    """Clusters the rows in both ways: times, their ratio, and what is equal."""
    from sklearn.metrics import adjusted_rand_score

    from benchmarks.clustering.stable_sort import stable_sort
    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.space_tree import space_tree

    matrix = matrix_of(rows)
    seconds = []
    with empty_file() as db:
        for _ in range(_TIMES):
            start = time.perf_counter()
            made = space_tree(db, matrix, MIN_SAMPLES, neighbors="exact", poll=lambda: None)
            found = cut(made.tree, min_cluster_size=MIN_CLUSTER_SIZE)
            seconds.append(time.perf_counter() - start)
    ours = float(np.median(seconds))

    start = time.perf_counter()
    with stable_sort():
        library = fitted(rows, gen_min_span_tree=True)
        library.outlier_scores_  # noqa: B018 - computed when asked for, and ours computes them
    theirs = time.perf_counter() - start
    weight, their_weight = made.tree.edges[:, 2].sum(), library._min_spanning_tree[:, 2].sum()
    n, d = rows.shape
    return Result(
        SECTION,
        f"{name}, {case(n, d)}",
        n,
        d,
        1,
        [
            Figure("hdbscan", theirs),
            Figure("nearsql", ours),
            Figure("nearsql, slowest", max(seconds)),
            Figure("times as fast", theirs / ours, "x"),
            Figure("tree weight differs by", abs(weight / their_weight - 1), ""),
            Figure("ARI", float(adjusted_rand_score(library.labels_, found.labels)), ""),
            Figure("labels equal", float((found.labels == library.labels_).mean()), ""),
            Figure("clusters", float(found.labels.max() + 1), ""),
            Figure("noise", float((found.labels < 0).mean()), ""),
        ],
    )


def fitted(rows: Rows, **parameters: Any) -> Any:
    """The library's clustering by its exact algorithm, of MIN_CLUSTER_SIZE and MIN_SAMPLES if none are given."""
    import hdbscan

    given = {"min_cluster_size": MIN_CLUSTER_SIZE, "min_samples": MIN_SAMPLES} | parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's renamings
        return hdbscan.HDBSCAN(algorithm="prims_kdtree", **given).fit(rows.astype(np.float64))


def measure(assets: Path | None, quick: bool) -> Iterator[Result]:
    """Every case, on one thread, imports and compilation done before."""
    yield first_call()
    with threads(1):
        compare("warming up", digits()[:200])
        for name, rows in cases(assets, quick):
            yield compare(name, rows)
