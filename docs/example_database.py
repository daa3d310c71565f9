"""The database that the documents' examples run on: the demo's digits, with a PCA map (quick, exact), and
some proverbs."""

import itertools
import json
import random
import tempfile
from pathlib import Path

from nearsql.pipeline import demo
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.embed import embed
from nearsql.pipeline.evaluate import evaluate
from nearsql.pipeline.ingest import ingest_texts
from nearsql.pipeline.project import project_space
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

PROVERBS = (
    "A bird in the hand is worth two in the bush.",
    "Birds of a feather flock together.",
    "The early bird catches the worm.",
    "Early to bed and early to rise makes a man healthy, wealthy and wise.",
    "A stitch in time saves nine.",
    "Time and tide wait for no man.",
    "Many hands make light work.",
    "Too many cooks spoil the broth.",
    "The cat will mew, and dog will have his day.",
    "When the cat is away, the mice will play.",
    "Let sleeping dogs lie.",
    "You cannot teach an old dog new tricks.",
)


def build(path: Path) -> None:
    """Makes it: space `digits/pixels`, clusters by run 3, a map by run 4, clusters of each second item by
    5, loss distances of a detector that does not exist by 6, space `proverbs/tfidf` by 8, an evaluation of
    `digits/pixels` by 9, space `digits/pixels/pca-8d` by 10, what two detectors that do not exist say of
    some items by 11 and 12."""
    db = connection.create(path)
    demo.build(db, method="pca")
    cluster_spaces(db, [demo.SPACE], min_cluster_size=20, min_samples=5, downsample=2)
    _draw_loss_distances(db)
    _embed_proverbs(db)
    evaluate(db, [demo.SPACE], label=demo.LABEL, ks=[1, 5, 20])
    project_space(db, demo.SPACE, method="pca", n_components=8)
    _draw_detector_runs(db)
    db.close()


def _draw_loss_distances(db: dbapi.Connection) -> None:
    """Loss distances among the first ten items. No detector saw them: the numbers are drawn at random."""
    with immediate(db):
        model_id = db.execute(
            "insert into models (name, family) values ('a made-up detector', 'yolo')"
        ).lastrowid
    draw = random.Random(0)
    with (
        run(db, "loss-distance", parameters={"drawn": "at random"}, model_id=model_id) as current,
        immediate(db),
    ):
        for target, image in itertools.product(range(1, 11), repeat=2):
            db.execute(
                "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
                " distance) values (?, ?, ?, 'cls', ?)",
                (current.id, target, image, draw.uniform(1, 9)),
            )


def _draw_detector_runs(db: dbapi.Connection) -> None:
    """What two detectors say of the first 50 items, three objects in each. No detector saw them: the
    numbers are drawn at random, better ones for the second."""
    draw = random.Random(1)
    for name, miss in (("a made-up detector", 0.4), ("another made-up detector", 0.25)):
        with immediate(db):
            db.execute("insert or ignore into models (name, family) values (?, 'yolo')", (name,))
        (model_id,) = db.execute("select id from models where name = ?", (name,)).fetchone()
        with (
            run(db, "detect", parameters={"drawn": "at random"}, model_id=model_id) as current,
            immediate(db),
        ):
            for item in range(1, 51):
                tp = sum(draw.random() > miss for _ in range(3))
                mean_iou = draw.uniform(0.5, 0.9) if tp else None
                db.execute(
                    "insert into image_metrics (run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou,"
                    " mean_iou_gt, hit_freq, truth_sha256) values (?, ?, 3, ?, ?, 0, ?, ?, ?, ?, ?)",
                    (
                        *(current.id, item, tp, tp, 3 - tp),
                        *(mean_iou, (mean_iou or 0) * tp / 3, tp / 3, "0" * 64),
                    ),
                )
                db.execute(
                    "insert into losses (run_id, item_id, component, value) values (?, ?, 'box', ?)",
                    (current.id, item, draw.uniform(1, 2) + miss),
                )


def _embed_proverbs(db: dbapi.Connection) -> None:
    """A collection of texts, for what is asked in words."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "proverbs.jsonl"
        table.write_text("\n".join(json.dumps({"text": line}) for line in PROVERBS), "utf-8")
        ingest_texts(db, table, text="text", collection="proverbs")
    embed(db, "tfidf", collection="proverbs")
