"""One clustering in a process of its own, for its time and memory. Prints JSON.

`python -m benchmarks.clustering.child NAME N D exact|graph|agreement THREADS [ASSETS]`
"""

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clustering.data import FASHION, digits, empty_file, matrix_of, of_name
from benchmarks.search.measure import threads
from nearsql.udfs.space_points import normalized
from nearsql.udfs.spaces import Metric

MIN_CLUSTER_SIZE, MIN_SAMPLES = 20, 10


def cluster(rows: Any, neighbors: str, metric: Metric) -> tuple[dict[str, float], Any]:
    """(figures, labels) of one clustering."""
    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.space_tree import space_tree, tree_from_graph

    start = time.perf_counter()
    if neighbors == "graph" and metric == "cosine":
        # One copy: what `hdbscan` does where memory has no room for a second, normalised one.
        points = matrix_of(normalized(rows, out=rows))
        made = tree_from_graph(
            points, MIN_SAMPLES, min_cluster_size=MIN_CLUSTER_SIZE, poll=lambda: None
        )
    else:
        with empty_file() as db:
            made = space_tree(
                db, matrix_of(rows, metric), MIN_SAMPLES, neighbors=neighbors, poll=lambda: None
            )
    treed = time.perf_counter()
    labels = cut(made.tree, min_cluster_size=MIN_CLUSTER_SIZE).labels
    done = time.perf_counter()
    found = {"tree": treed - start, "cut": done - treed, "total": done - start}
    found |= {"clusters": float(labels.max() + 1), "noise": float((labels < 0).mean())}
    if made.approximation is not None:
        found |= {k: float(v) for k, v in dataclasses.asdict(made.approximation).items()}
    return found, labels


def main() -> None:
    """Runs one of them."""
    name, n, d, way, count, *rest = sys.argv[1:]
    rows = of_name(name, int(n), int(d), Path(rest[0]) if rest else None)
    metric: Metric = "l2" if name == FASHION else "cosine"
    with threads(int(count)):
        for one in ("exact", "graph"):  # imports and compiled code, loaded before
            cluster(digits()[:300], one, metric)
        if way == "agreement":
            from sklearn.metrics import adjusted_rand_score

            exact, expected = cluster(rows.copy(), "exact", metric)
            found, labels = cluster(rows, "graph", metric)
            found["measured agreement"] = float(adjusted_rand_score(expected, labels))
            found["equal labels"] = float(np.mean(expected == labels))
            found["exact total"] = exact["total"]
        else:
            found, _ = cluster(rows, way, metric)
    found["peak memory"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    found["vectors"] = float(rows.nbytes)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
