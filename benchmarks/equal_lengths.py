"""What equal distances do to the hdbscan library's labels: `python -m benchmarks.equal_lengths`

Digits are 64 whole numbers each, so that many edges of their spanning tree are equally long. For a grid of
parameters: of how many points nearsql's label is that of the library with a stable sort, and the adjusted
Rand index of the library's own labels on this CPU with those. The sort is numpy's: `NPY_DISABLE_CPU_FEATURES`
makes it the one of another CPU (`X86_V4 AVX512_ICL` on one with AVX-512), and changes the last column alone.
"""

import argparse
from itertools import product

from sklearn.metrics import adjusted_rand_score
from tabulate import tabulate

from benchmarks.clustering.data import digits, empty_file, matrix_of
from benchmarks.clustering.library import fitted
from benchmarks.clustering.stable_sort import stable_sort
from nearsql.udfs.clustering.hdbscan_tree import cut
from nearsql.udfs.clustering.space_tree import space_tree

SCRIPT = "python -m benchmarks.equal_lengths"
SIZES, SAMPLES, SELECTIONS = (5, 10, 20, 40), (1, 3, 5, 10), ("eom", "leaf")
HEADERS = (
    "min_cluster_size",
    "min_samples",
    "selection",
    "clusters",
    "labels equal, sorted stably",
    "ARI of the library's own",
)


def main() -> None:
    """Prints a row for each set of parameters."""
    argparse.ArgumentParser(
        prog=SCRIPT, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    rows = digits()
    found = []
    for samples in SAMPLES:
        with empty_file() as db:
            made = space_tree(db, matrix_of(rows), samples, neighbors="exact", poll=lambda: None)
        for size, selection in product(SIZES, SELECTIONS):
            parameters = {"min_cluster_size": size, "cluster_selection_method": selection}
            own = fitted(rows, min_samples=samples, **parameters).labels_
            with stable_sort():
                stable = fitted(rows, min_samples=samples, **parameters).labels_
            labels = cut(made.tree, **parameters).labels
            equal = (labels == stable).sum()
            ari = adjusted_rand_score(own, stable)
            found.append(
                (
                    size,
                    samples,
                    selection,
                    labels.max() + 1,
                    f"{equal:,} of {len(rows):,}",
                    f"{ari:.3f}",
                )
            )
    print(tabulate(found, HEADERS, disable_numparse=True))


if __name__ == "__main__":
    main()
