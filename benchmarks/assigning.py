"""How well and how fast new points join clusters: `python -m benchmarks.assigning [--write]`

Of each data set every second point is clustered (min_cluster_size 20, min_samples 10). The
agreement is nearsql's own measure: 15% of the members are held out, assigned to the clusters of the
others, and compared with where clustering puts them. Beside it what the hdbscan library's
`approximate_predict` reaches with the same points, the share of the members kept that both clusterings put
into the same place, and what would be right without looking: the share of the commonest place. One at a
time: of points that are no members, the share that `cluster_assign` puts where clustering the members with
this one point more puts it. Times are of one call of `cluster_assign` a point, by the
median: of the first calls but one, which reads the members, and of those after the members are quantised.
Of 500: the mean of all but the first, quantising among them. Then a call of `cluster_assignments` for all
that are no members. With --write the table is put into docs/clustering.md.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import faiss
import hdbscan
import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.clustering.data import digits, embeddings, images
from benchmarks.clustering.library import MIN_CLUSTER_SIZE, MIN_SAMPLES, fitted
from benchmarks.clustering.stable_sort import stable_sort
from benchmarks.marked import write_between_marks
from benchmarks.options import add_assets, command_line
from benchmarks.topics import embedded, questions
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.cluster.held_out import chosen, held_out_agreement, names_of
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi
from nearsql.udfs.clustering.member_bounds import OFTEN

SCRIPT = "python -m benchmarks.assigning"
PAGE = Path(__file__).parents[1] / "docs" / "clustering.md"
HEADERS = (
    "",
    "members",
    "clusters",
    "noise",
    "held out",
    "agreement",
    "approximate_predict's",
    "of those kept",
    "one at a time",
    "commonest place",
    "ms a point, at first",
    "then",
    "of 500",
    "all at once",
)
_POINTS = 500

Rows = NDArray[np.float32]


def main() -> None:
    """Measures each data set, prints the table, and writes it if asked."""
    parser = command_line(SCRIPT, __doc__, writes="put the table into the page")
    add_data(parser)
    parser.add_argument(
        "--alone", type=int, default=100, help="points that are added alone, a clustering each"
    )
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    rows = []
    for name, points in data_sets(arguments.n, arguments.assets, arguments.vectors):
        rows.append(measured(name, points, arguments.alone))
        print("; ".join(rows[-1]), flush=True)
    print(tabulate(rows, HEADERS, disable_numparse=True))
    if arguments.write:
        table = tabulate(rows, HEADERS, tablefmt="github", disable_numparse=True)
        threads = f"{arguments.threads} thread{'s' * (arguments.threads > 1)}"
        write_between_marks(PAGE, SCRIPT, f"{table}\n\n*{threads}.*")


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options about `data_sets`, and --threads."""
    parser.add_argument("--n", type=int, default=20_000, help="points, of which half are clustered")
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    add_assets(parser, "fashion-mnist/ and text/")
    parser.add_argument(
        "--vectors", type=Path, help="a .npy file of banking77's embedding, made if it is not there"
    )


def data_sets(n: int, assets: Path | None, vectors: Path | None) -> Iterator[tuple[str, Rows]]:
    """Digits, made points, and where there are assets real texts and Fashion-MNIST's images."""
    yield "digits, 64 dimensions", digits()
    for d in (384, 768):
        yield f"made points, {d} dimensions", embeddings(n, d)
    if assets is not None:
        texts, _ = questions(assets / "text")
        yield "banking77, 384 dimensions", embedded(texts, vectors)
        yield "Fashion-MNIST, 784 dimensions", images(assets, n)


def measured(name: str, rows: Rows, alone: int) -> list[str]:
    """A row of the table."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(connection.create(Path(folder) / "points.db")) as db,
    ):
        fill(db, rows)
        (result,) = cluster_spaces(
            db, min_cluster_size=MIN_CLUSTER_SIZE, min_samples=MIN_SAMPLES, downsample=2
        )
        assert result.run_id is not None
        counts = held_out_agreement(db, result.run_id)
        (commonest,) = db.execute(
            "select max(n) from (select count(*) as n from memberships where run_id = ?"
            " group by cluster_id)",
            (result.run_id,),
        ).fetchone()
        # First, while nothing has been asked of the run.
        seconds = seconds_a_point(db, result.run_id)
        same = agreement_alone(db, result.run_id, alone)
        library = library_agreement(db, result.run_id)
    return [
        name,
        f"{result.counts['sampled']:,}",
        str(result.counts["clusters"]),
        f"{100 * result.counts['noise_share']:.0f}%",
        f"{counts['held_out']:,}",
        f"{100 * counts['held_out_agreement']:.1f}%",
        f"{100 * library:.1f}%",
        f"{100 * counts['kept_agreement']:.1f}%",
        f"{same} of {alone}",
        f"{100 * commonest / result.counts['sampled']:.0f}%",
        *(f"{1000 * each:.2f}" for each in seconds),
    ]


def fill(db: dbapi.Connection, rows: Rows) -> None:
    """An item for each row, and a space of their vectors."""
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'points', ?, '', ?)",
        ((n + 1, f"{n:064x}", n) for n in range(len(rows))),
    )
    space = db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('points', 'embedding', ?, 'l2')",
        (rows.shape[1],),
    ).lastrowid
    assert space is not None
    vectors = (row.tobytes() for row in rows.astype("<f4"))
    insert_vectors(db, space, None, list(enumerate(vectors, start=1)))
    db.commit()


def library_agreement(db: dbapi.Connection, run: int) -> float:
    """What `held_out_agreement` is if the library clusters the members kept and predicts those held out."""
    rows = db.execute(
        "select m.item_id, coalesce(c.label, -1), vector from memberships m"
        " join vectors using (item_id) left join clusters c on c.id = m.cluster_id"
        " where m.run_id = ? order by m.item_id",
        (run,),
    ).fetchall()
    ids, together = np.array([row[:2] for row in rows]).T
    points = np.array([np.frombuffer(row[2], "<f4") for row in rows], np.float64)
    sample, is_held = chosen(ids)
    points, together = points[np.isin(ids, sample)], together[np.isin(ids, sample)]
    with stable_sort():
        library = fitted(points[~is_held], prediction_data=True)
        assigned, _ = hdbscan.approximate_predict(library, points[is_held])
    names = names_of(library.labels_, together[~is_held])
    return round(float((names[assigned] == together[is_held]).mean()), 4)


def agreement_alone(db: dbapi.Connection, run: int, alone: int) -> int:
    """Of so many points that are no members, how many are put where clustering with them puts them."""
    members = db.execute(
        "select m.item_id, coalesce(c.label, -1) from memberships m"
        " left join clusters c on c.id = m.cluster_id where m.run_id = ? order by m.item_id",
        (run,),
    ).fetchall()
    ids, labels = np.array(members).T
    others = db.execute(
        "select item_id, coalesce(cluster_assign(?1, vector), -1) from (select * from vectors"
        " where item_id not in (select item_id from memberships where run_id = ?1)"
        " order by item_id * 7919 % 10007 limit ?2)",
        (run, alone),
    ).fetchall()
    same = 0
    for item, assigned in others:
        within = json.dumps([*ids.tolist(), item])
        found = dict(
            db.execute(
                "select id, coalesce(cluster, -1)"
                " from hdbscan('points', ?, ?, 1, ?, 'eom', 0.0, 'exact')",
                (MIN_CLUSTER_SIZE, MIN_SAMPLES, within),
            ).fetchall()
        )
        # Its cluster is called what most of the members in it were.
        there = labels[[found[i] == found[item] for i in ids.tolist()]]
        values, counts = np.unique(there, return_counts=True)
        same += assigned == (values[counts.argmax()] if found[item] >= 0 else -1)
    return same


def seconds_a_point(db: dbapi.Connection, run: int) -> list[float]:
    """Of a call for each point: the median of the first, of the later ones, the mean of all; and of one
    call for all that are no members."""
    others = db.execute(
        "select vector from vectors where item_id not in"
        " (select item_id from memberships where run_id = ?) limit ?",
        (run, _POINTS + 1),
    ).fetchall()
    times = []
    for (vector,) in others:
        start = time.perf_counter()
        db.execute("select cluster_assign(?, ?)", (run, vector)).fetchone()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    n = len(db.execute("select id from cluster_assignments(?)", (run,)).fetchall())
    at_once = (time.perf_counter() - start) / n
    first, then = times[1:OFTEN], times[OFTEN + 1 :]
    return [float(np.median(first)), float(np.median(then)), float(np.mean(times[1:])), at_once]


if __name__ == "__main__":
    main()
