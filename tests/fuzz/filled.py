"""A small file in which every SQL function has something to work on."""

import io
import itertools
import json
import random
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.embed import embed
from nearsql.pipeline.evaluate import evaluate
from nearsql.pipeline.index import index
from nearsql.pipeline.ingest import ingest_texts
from nearsql.pipeline.project import project_space
from nearsql.pipeline.runs import immediate, run
from nearsql.pipeline.select import select
from nearsql.udfs import connection, dbapi

ITEMS = 48  # three groups of 16, with a label each; then the texts
SPACES = ("round", "flat", "product", "words/tfidf")
RUNS = range(1, 10)  # and 10, which there is not
SELECTION = "some"
TEXTS = ("the cat sat", "a dog ran", "the cat and the dog", "birds fly far", "fish swim", "a bird")


def build(path: Path) -> None:
    """Makes it: three spaces of 48 texts and one of 6, clusters in two runs, a map, an evaluation in two
    spaces, two detectors that do not exist, an index, a selection."""
    draw = np.random.default_rng(5)
    with closing(connection.create(path)) as db:
        with immediate(db):
            _fill_spaces(db, draw)
        cluster_spaces(db, ["round"], min_cluster_size=5)
        cluster_spaces(db, ["round"], min_cluster_size=4, min_samples=2, downsample=2)
        project_space(db, "round", method="pca")
        evaluate(db, ["round", "flat"], label="group", ks=[1, 5], folds=3)
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "words.jsonl"
            table.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS), "utf-8")
            ingest_texts(db, table, text="text", collection="words")
        embed(db, "tfidf", collection="words")
        _judge(db)
        index(db, ["flat"], engine="hnsw")
        select(db, SELECTION, sql=f"select id from items where id % 2 and id <= {ITEMS}")


def image() -> bytes:
    """A small PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (5, 4), (200, 10, 10)).save(out, "PNG")
    return out.getvalue()


def _fill_spaces(db: dbapi.Connection, draw: np.random.Generator) -> None:
    for item in range(1, ITEMS + 1):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'things', ?, ?, ?)",
            (item, f"{item:064x}", f"thing {item}", item - 1),
        )
        db.execute(
            "insert into item_labels values (?, 'group', ?, 'tests'), (?, 'split', ?, 'tests'),"
            " (?, 'size', ?, 'tests')",
            (item, "abc"[item % 3], item, "train" if item % 4 else "test", item, str(item * 1.5)),
        )
    for name, metric in (("round", "l2"), ("flat", "cosine"), ("product", "ip")):
        space = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 4, ?)",
            (name, metric),
        ).lastrowid
        for item in range(1, ITEMS + 1):
            vector = np.eye(4)[item % 3] * 6 + draw.normal(size=4)
            db.execute(
                "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
                (space, item, vector.astype("<f4").tobytes()),
            )


def _judge(db: dbapi.Connection) -> None:
    """What two detectors that do not exist say of the first eight items: drawn at random."""
    draw = random.Random(2)
    for name in ("one", "two"):
        with immediate(db):
            model = db.execute(
                "insert into models (name, family) values (?, 'yolo')", (name,)
            ).lastrowid
        with run(db, "detect", parameters={}, model_id=model) as current, immediate(db):
            for item in range(1, 9):
                db.execute(
                    "insert into image_metrics (run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou,"
                    " mean_iou_gt, hit_freq, truth_sha256) values (?, ?, 3, 2, 2, 0, 1, ?, ?, ?, ?)",
                    (current.id, item, draw.random(), draw.random(), 2 / 3, "0" * 64),
                )
                db.execute(
                    "insert into losses (run_id, item_id, component, value) values (?, ?, 'box', ?)",
                    (current.id, item, draw.random()),
                )
    with run(db, "loss-distance", parameters={}, model_id=model) as current, immediate(db):
        for target, other in itertools.product(range(1, 9), repeat=2):
            db.execute(
                "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
                " distance) values (?, ?, ?, 'cls', ?)",
                (current.id, target, other, draw.random()),
            )
