"""The commands that are killed, and a small file with all that they read.

Each command runs in a folder of its own, on a copy of one file, `work.db`. What they read besides lies in the
folder INPUTS, which nobody writes to. What they write besides is the folder `out`.
"""

from dataclasses import dataclass
from pathlib import Path

DATABASE = "work.db"
# As in the words of commands: the folder with what is read.
INPUTS = "{inputs}"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A command that is killed. words: as they are typed. is_quick: among those that every change runs.

    result: the folder that it writes besides the database. needs: a marker of what not every machine has.
    """

    name: str
    words: tuple[str, ...]
    is_quick: bool = True
    result: str | None = None
    needs: str | None = None

    def command(self, inputs: Path) -> list[str]:
        """The words, with the folder of the inputs in them."""
        return [word.replace(INPUTS, str(inputs)) for word in self.words]


def _pipeline(
    name: str,
    words: str,
    *,
    is_quick: bool = True,
    result: str | None = None,
    needs: str | None = None,
) -> Pipeline:
    command, *rest = words.split()
    return Pipeline(name, (command, DATABASE, *rest), is_quick, result, needs)


# The ids of the runs that `build` makes, in its order.
CLUSTERS, LEVELS, SAMPLED, MAP, LOSSES, DETECTOR = 1, 2, 3, 4, 5, 6
# And if there is torch.
REAL_DETECTOR = 9

PIPELINES = (
    _pipeline("ingest texts", "ingest {inputs}/new.csv --text body --label topic"),
    _pipeline("ingest images", "ingest {inputs}/photos --label part --store"),
    _pipeline(
        "ingest with annotations",
        "ingest {inputs}/pets --annotations yolo --classes {inputs}/pets/data.yaml --split val",
    ),
    _pipeline(
        "import vectors",
        "import {inputs}/new.npy --ids {inputs}/ids.txt --match id --space imported",
    ),
    _pipeline(
        "import parquet", "import {inputs}/new.parquet --match id --space imported", is_quick=False
    ),
    _pipeline("import store", "import {inputs}/store.db --match id"),
    _pipeline(
        "import results",
        "import {inputs}/results.json --match id --model theirs",
        is_quick=False,
    ),
    _pipeline("embed pixels", "embed --model pixels --size 4 --batch-size 8"),
    _pipeline("embed tfidf", "embed --model tfidf --dimensions 8 --batch-size 16"),
    _pipeline("index hnsw", "index points --engine hnsw --threads 1"),
    _pipeline("index ivf", "index points --engine ivf --lists 8 --threads 1", is_quick=False),
    _pipeline("index vec0", "index points --engine vec0"),
    _pipeline("index text", "index --text"),
    _pipeline("neighbors", "neighbors points -k 5"),
    _pipeline("cluster", "cluster points others --min-cluster-size 7 --min-samples 3"),
    _pipeline("cluster levels", "cluster points --levels 3", is_quick=False),
    _pipeline(
        "cluster topics", "cluster points --method topics --min-cluster-size 6", is_quick=False
    ),
    _pipeline(
        "cluster losses",
        f"cluster --loss-distance {LOSSES} --component box --min-cluster-size 3 --min-samples 3",
    ),
    _pipeline("assign", f"assign {SAMPLED}"),
    _pipeline("label", f"label {LEVELS}"),
    _pipeline("project pca", "project points --method pca"),
    _pipeline("project into a space", "project points --method pca --n-components 3"),
    _pipeline("project umap", "project points --method umap --neighbors exact", is_quick=False),
    _pipeline("project tsne", "project others --method tsne --perplexity 9", is_quick=False),
    _pipeline("place", f"project grown --into {MAP}"),
    _pipeline("evaluate", "evaluate points others --label side -k 1,5 --folds 4"),
    _pipeline("find", f"find points --label side --split part --clustering {CLUSTERS}"),
    _pipeline("failures", f"failures --run {DETECTOR}", is_quick=False),
    _pipeline("select", "select left --ids {inputs}/left.txt", is_quick=False),
    _pipeline("export", "export --to out --format json --within some", result="out"),
    _pipeline(
        "export images",
        "export --to out --format links --images copy --within earlier",
        is_quick=False,
        result="out",
    ),
    _pipeline(
        "detect",
        "detect --weights {inputs}/detector.pt --collection earlier --imgsz 96 --max-det 10 --batch 2",
        is_quick=False,
        needs="torch",
    ),
    _pipeline(
        "loss-distance", f"loss-distance {REAL_DETECTOR} --quiet", is_quick=False, needs="torch"
    ),
)


def small_batches() -> None:
    """Makes commands write the few rows that they have here in many transactions, as they would millions."""
    from nearsql.pipeline import neighbor_rows, place
    from nearsql.pipeline.annotations import writer as truth_writer
    from nearsql.pipeline.cluster import assign
    from nearsql.pipeline.evaluate import run as evaluate
    from nearsql.pipeline.importing import run as importing
    from nearsql.pipeline.index import store, text
    from nearsql.pipeline.ingest import writer as item_writer
    from nearsql.udfs.search import exact_search, row_search

    for module in (neighbor_rows, exact_search, row_search):
        module.QUERY_BLOCK = 32  # type: ignore[attr-defined]
    neighbor_rows._ROWS_A_WRITE = 1
    place._BLOCK = assign._BLOCK = 8
    truth_writer.BATCH_ITEMS = 4
    item_writer.BATCH_ROWS = 16
    importing.BATCH_ROWS = 32
    evaluate.ROWS_A_WRITE = 100  # type: ignore[attr-defined]
    evaluate._VOTERS_A_WRITE = 1000
    store.CHUNK_BYTES = 4000  # type: ignore[attr-defined]
    text.BATCH = 64
