"""What a kNN evaluation costs beside one neighbour graph: `python -m benchmarks.evaluation [--write]`

Fashion-MNIST's 70,000 images of 784 grey values and their ten classes (H. Xiao and others 2017), Euclidean
distance and cosine: `nearsql evaluate` with 5 folds, k of 1, 3, 5, 10, 20, 100 and 200, uniform, distance and
softmax; that is 21 predictions an image. Beside it `knn_graph`, the 200 nearest of each image among all:
its computation without the rows that SQL would hand out. Both take turns, and the best of the rounds
counts. Then scikit-learn: `cross_val_predict` of KNeighborsClassifier on 10,000 of the images, once for
each k and weighting, as it is done without a graph. With --write the tables are put into
docs/evaluation.md.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from benchmarks.options import add_assets, command_line
from benchmarks.search.data import SPACE, fashion_files, fill, in_blocks
from nearsql.pipeline.evaluate import evaluate
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database
from nearsql.udfs.search.exact_search import exact_graph_blocks
from nearsql.udfs.search.workers import worker_count
from nearsql.udfs.spaces import find_space

SCRIPT = "python -m benchmarks.evaluation"
PAGE = Path(__file__).parents[1] / "docs" / "evaluation.md"
KS = (1, 3, 5, 10, 20, 100, 200)
WEIGHTINGS = ("uniform", "distance", "softmax")
FOLDS = 5
SEED = 0
LABEL = "class"
BAR = 1.3  # all k and weightings, to one graph
_WARM = 3000  # images of the first call, which loads and compiles
_SKLEARN = 10_000
_COSTS = (
    "metric",
    f"graph, k = {max(KS)} (s)",
    "voters (s)",
    "votes and metrics (s)",
    "to the graph",
    f"at most {BAR}x",
    "writing (s)",
)
_PEER = ("images", "nearsql (s)", "scikit-learn (s)", "faster", "the same predictions")
_QUALITY = ("metric", "weighting", *(f"k = {k}" for k in KS))


Images = NDArray[np.float32]
Labels = NDArray[np.uint8]


class Times(NamedTuple):
    """Seconds of one metric: of the graph, and of the evaluation by step."""

    graph: float
    voters: float
    votes: float
    writing: float

    @property
    def ratio(self) -> float:
        """All k and weightings, without what is written, to the graph."""
        return (self.voters + self.votes) / self.graph


def main() -> None:
    """Measures, prints, writes if asked."""
    parser = command_line(SCRIPT, __doc__, writes="put the tables into the page")
    add_assets(parser, "fashion-mnist/", is_required=True)
    parser.add_argument("--n", type=int, default=70_000, help="how many images")
    parser.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    arguments = parser.parse_args()
    images, labels = fashion_files(arguments.assets)
    order = np.random.default_rng(SEED).permutation(len(images))
    chosen = np.sort(order[: arguments.n])
    costs: list[tuple[str, ...]] = []
    quality: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for metric in ("l2", "cosine"):
            path = Path(folder) / f"{metric}.db"
            make(path, images[chosen], labels[chosen], metric)
            warm = Path(folder) / f"{metric}-few.db"
            make(warm, images[:_WARM], labels[:_WARM], metric)
            measured(warm)
            times = best(measured(path) for _ in range(arguments.rounds))
            costs.append(cost_line(metric, times))
            print("; ".join(costs[-1]), flush=True)
            quality += quality_lines(metric, path)
    few = np.sort(order[: min(arguments.n, _SKLEARN)])
    peer = beside_scikit_learn(images[few], labels[few])
    tables = [
        tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
        for headers, rows in ((_COSTS, costs), (_PEER, [peer]), (_QUALITY, quality))
    ]
    threads = worker_count()
    text = "\n\n".join(
        [*tables, f"*{len(chosen):,} images, {threads} thread{'s' * (threads > 1)}.*"]
    )
    print(text)
    if arguments.write:
        write_between_marks(PAGE, SCRIPT, text)


def make(path: Path, images: Images, labels: Labels, metric: str) -> None:
    """A database with the images as a space, and their classes as labels."""
    fill(path, in_blocks(images), images.shape[1], metric)
    with closing(open_database(path)) as db, db:
        db.executemany(
            "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'files')",
            ((i, LABEL, str(label)) for i, label in enumerate(labels, start=1)),
        )


def measured(path: Path) -> Times:
    """One graph and one evaluation, in this order, with the vectors in memory."""
    with closing(open_database(path)) as db:
        db.execute("select * from knn(?, 1, 1)", (SPACE,)).fetchall()  # reads the space
        start = time.perf_counter()
        for _ in exact_graph_blocks(db.apsw, find_space(db.apsw, SPACE), max(KS)):
            pass
        graph = time.perf_counter() - start
        start = time.perf_counter()
        run_id = evaluated(db)
        whole = time.perf_counter() - start
        (text,) = db.execute("select timings_json from runs where id = ?", (run_id,)).fetchone()
    timings = json.loads(text)
    writing = sum(ms for step, ms in timings.items() if step.startswith("write")) / 1000
    voters = timings["find voters"] / 1000
    return Times(graph, voters, whole - voters - writing, writing)


def evaluated(db: dbapi.Connection) -> int:
    """The evaluation's run."""
    found = evaluate(db, [SPACE], label=LABEL, ks=KS, weightings=WEIGHTINGS, folds=FOLDS, seed=SEED)
    return found.run_id


def best(rounds: Iterable[Times]) -> Times:
    """The least time of each step."""
    return Times(*map(min, zip(*rounds, strict=True)))


def cost_line(metric: str, times: Times) -> tuple[str, ...]:
    """A line of the table of costs."""
    return (
        metric,
        f"{times.graph:.1f}",
        f"{times.voters:.1f}",
        f"{times.votes:.1f}",
        f"{times.ratio:.2f}x",
        "yes" if times.ratio <= BAR else "**no**",
        f"{times.writing:.1f}",
    )


def quality_lines(metric: str, path: Path) -> Iterator[tuple[str, ...]]:
    """The accuracy of the last evaluation of a file, a line for each weighting, a column for each k."""
    with closing(open_database(path)) as db:
        found = db.execute(
            "select weighting, k, value from cv_metrics where fold is null and metric = 'accuracy'"
            " and run_id = (select max(run_id) from cv_metrics)"
        ).fetchall()
    for weighting in WEIGHTINGS:
        values = {k: value for name, k, value in found if name == weighting}
        yield metric, weighting, *(f"{values[k]:.4f}" for k in KS)


def beside_scikit_learn(images: Images, labels: Labels) -> tuple[str, ...]:
    """The line of the table that compares: seconds of both for uniform and distance, and how often both say the same.

    scikit-learn searches in float32 here and leaves ties open.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    weightings = ("uniform", "distance")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "few.db"
        make(path, images, labels, "l2")
        with closing(open_database(path)) as db:
            db.execute("select * from knn(?, 1, 1)", (SPACE,)).fetchall()
            start = time.perf_counter()
            run_id = evaluate(
                db, [SPACE], label=LABEL, ks=KS, weightings=weightings, folds=FOLDS, seed=SEED
            ).run_id
            ours = time.perf_counter() - start
            stored = db.execute(
                "select k, weighting, y_pred from cv_predictions where run_id = ?"
                " order by k, weighting, item_id",
                (run_id,),
            ).fetchall()
    said: dict[tuple[int, str], list[str]] = {}
    for k, weighting, predicted in stored:
        said.setdefault((k, weighting), []).append(predicted)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    theirs, same = 0.0, 0
    for (k, weighting), predictions in said.items():
        model = KNeighborsClassifier(k, weights=weighting, algorithm="brute")
        start = time.perf_counter()
        found = cross_val_predict(model, images, labels, cv=folds)
        theirs += time.perf_counter() - start
        same += int((found.astype(str) == predictions).sum())
    return (
        f"{len(images):,}",
        f"{ours:.1f}",
        f"{theirs:.1f}",
        f"{theirs / ours:.1f}x",
        f"{100 * same / (len(said) * len(images)):.2f}%",
    )


if __name__ == "__main__":
    main()
