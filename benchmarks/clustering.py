"""HDBSCAN: ours against the hdbscan library, in one run. `python -m benchmarks.clustering --n 3000 --d 384`

The same points, the same parameters, one thread each. Prints seconds and ratios, and what must be
equal: the spanning tree's weight, labels, probabilities and outlier scores. The library's exact
algorithm is 'prims_kdtree', which it takes by default above 60 dimensions.

Points: scikit-learn's digits, and clusters of unequal size and density with background noise on a
12-dimensional surface, lifted to d dimensions and normalised, as embeddings are.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

FIRST_CALL = """\
import time
import numpy as np
start = time.perf_counter()
from nearsql.udfs.clustering.hdbscan_tree import cut
from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, spanning_tree
rows = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
rows.flags.writeable = False  # as the matrix of a space is
apart = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
graph = np.argsort(apart, axis=1)[:, 1 : 1 + n_neighbors_for(40, 3)]
cut(spanning_tree(rows, graph, 3), min_cluster_size=5)
print(time.perf_counter() - start)
"""


def embeddings(n: int, d: int, seed: int = 1) -> NDArray[np.float32]:
    """Points, (n, d) of norm 1: 60 clusters of unequal size and density, and 30% background noise."""
    rng = np.random.default_rng(seed)
    latent, clusters = 12, 60
    centres = rng.normal(size=(clusters, latent))
    widths = rng.uniform(0.08, 0.35, clusters)
    which = rng.choice(clusters, n, p=rng.dirichlet(np.ones(clusters)))
    points = centres[which] + rng.normal(size=(n, latent)) * widths[which, None]
    noise = rng.random(n) < 0.3
    points[noise] = rng.normal(size=(int(noise.sum()), latent))
    rows = np.tanh(points @ rng.normal(size=(latent, d)) / np.sqrt(latent))
    rows += rng.normal(size=(n, d)) * 0.05
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def first_call() -> tuple[float, float]:
    """Seconds of a process's first call, imports included: with nothing compiled yet, and compiled."""
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env=os.environ | {"NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=True,
            )
            seconds.append(float(done.stdout))
    return seconds[0], seconds[1]


def compare(name: str, rows: NDArray[np.float32], min_cluster_size: int, min_samples: int) -> None:
    """Clusters the rows in both ways and prints times, their ratio, and what is equal."""
    import hdbscan
    from sklearn.metrics import adjusted_rand_score

    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, spanning_tree
    from nearsql.udfs.search.matrix import Matrix
    from nearsql.udfs.search.neighbors import neighbor_graph
    from nearsql.udfs.spaces import Space

    n, d = rows.shape
    matrix = Matrix(np.arange(n), rows, Space(1, name, d, "l2", 0, 0))
    times = [time.perf_counter()]
    graph, _ = neighbor_graph(matrix, n_neighbors_for(n, min_samples))
    times.append(time.perf_counter())
    tree = spanning_tree(rows, graph, min_samples)
    times.append(time.perf_counter())
    found = cut(tree, min_cluster_size=min_cluster_size)
    times.append(time.perf_counter())
    ours = times[-1] - times[0]

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's renamings
        library = hdbscan.HDBSCAN(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            algorithm="prims_kdtree",
            gen_min_span_tree=True,
        ).fit(rows.astype(np.float64))
        library.outlier_scores_  # noqa: B018 - computed when asked for, and ours computes them
    theirs = time.perf_counter() - start

    weight, their_weight = tree.edges[:, 2].sum(), library._min_spanning_tree[:, 2].sum()
    equal = [
        f"{what} {'equal' if np.array_equal(a, b) else 'DIFFERENT'}"
        for what, a, b in (
            ("labels", found.labels, library.labels_),
            ("probabilities", found.probabilities, library.probabilities_),
            ("outlier scores", found.outlier_scores, library.outlier_scores_),
        )
    ]
    print(f"{name}: {n} x {d}, min_cluster_size {min_cluster_size}, min_samples {min_samples}")
    print(f"  hdbscan {theirs:.2f} s, ours {ours:.2f} s: {theirs / ours:.1f}x faster")
    steps = zip(("neighbours", "spanning tree", "cut"), np.diff(times), strict=True)
    print("  of which " + ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps))
    print(f"  tree weight differs by {abs(weight / their_weight - 1):.1e}")
    print(f"  ARI {adjusted_rand_score(library.labels_, found.labels):.6f}; {', '.join(equal)}")
    noise = (found.labels < 0).mean()
    print(f"  {found.labels.max() + 1} clusters, {100 * noise:.1f}% noise")


def main() -> None:
    """Parses the command line and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--min-cluster-size", type=int, default=20)
    parser.add_argument("--min-samples", type=int, default=10)
    arguments = parser.parse_args()
    from sklearn.datasets import load_digits

    cold, warm = first_call()
    print(
        f"first call of a process: {cold:.1f} s when nothing is compiled, {warm:.1f} s afterwards"
    )
    digits = np.ascontiguousarray(load_digits().data, dtype=np.float32)
    with contextlib.redirect_stdout(io.StringIO()):  # imports and compiled code, loaded before
        compare("warming up", digits[:200], 5, 3)
    compare("digits", digits, arguments.min_cluster_size, arguments.min_samples)
    compare(
        "embeddings",
        embeddings(arguments.n, arguments.d),
        arguments.min_cluster_size,
        arguments.min_samples,
    )


if __name__ == "__main__":
    main()
