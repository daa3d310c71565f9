"""How steady clusters are, and assignments with them: `python -m benchmarks.steadiness [--write]`

The data sets of `benchmarks.assigning`, clustered over a grid of min_cluster_size and min_samples. Each
cell says how many of the members held out (15%, by nearsql's own measure) are assigned to where clustering
all members puts them, and in brackets how many of the members kept stay where they were when the others
come. With --write the table is put into docs/clustering.md.
"""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
from tabulate import tabulate

from benchmarks.assigning import PAGE, Rows, add_data, data_sets, fill
from benchmarks.marked import write_between_marks
from benchmarks.options import command_line
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.cluster.held_out import held_out_agreement
from nearsql.udfs import connection

SCRIPT = "python -m benchmarks.steadiness"
MIN_CLUSTER_SIZES = (10, 20, 50)
MIN_SAMPLES = (1, 5, 10)
HEADERS = ("", "min_cluster_size", *(f"min_samples {each}" for each in MIN_SAMPLES))

Shares = tuple[float, float]  # of the members held out, and of those kept


def main() -> None:
    """Measures each data set at each point of the grid, prints the table, and writes it if asked."""
    parser = command_line(SCRIPT, __doc__, writes="put the table into the page")
    add_data(parser)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    rows: list[list[str]] = []
    shares: list[Shares] = []
    for name, points in data_sets(arguments.n, arguments.assets, arguments.vectors):
        for size, found in over_the_grid(points):
            rows.append([name, str(size), *(cell(each) for each in found)])
            shares += [each for each in found if each]
            print("; ".join(rows[-1]), flush=True)
    said = summary(shares)
    print(tabulate(rows, HEADERS, disable_numparse=True))
    print(said)
    if arguments.write:
        table = tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)
        write_between_marks(PAGE, SCRIPT, f"{table}\n\n{said}")


def over_the_grid(rows: Rows) -> Iterator[tuple[int, list[Shares | None]]]:
    """Each minimum size with the shares for each of MIN_SAMPLES: None where there are no clusters."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(connection.create(Path(folder) / "points.db")) as db,
    ):
        fill(db, rows)
        for size in MIN_CLUSTER_SIZES:
            found: list[Shares | None] = []
            for samples in MIN_SAMPLES:
                (result,) = cluster_spaces(
                    db, min_cluster_size=size, min_samples=samples, downsample=2
                )
                assert result.run_id is not None
                if not result.counts["clusters"]:
                    found.append(None)
                    continue
                counts = held_out_agreement(db, result.run_id)
                found.append((counts["held_out_agreement"], counts["kept_agreement"]))
            yield size, found


def cell(shares: Shares | None) -> str:
    """Both shares, as the table has them."""
    if shares is None:
        return "no clusters"
    return f"{100 * shares[0]:.1f}% ({100 * shares[1]:.1f}%)"


def summary(shares: list[Shares]) -> str:
    """How far the two shares lie apart, in a sentence."""
    held, kept = 100 * np.array(shares).T
    return (
        f"*Of {len(shares)} clusterings the two shares differ by {np.abs(held - kept).mean():.1f} points on"
        f" average and by at most {np.abs(held - kept).max():.1f}; their correlation is"
        f" {np.corrcoef(held, kept)[0, 1]:.2f}.*"
    )


if __name__ == "__main__":
    main()
