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
    `digits/pixels` by 9."""
    db = connection.create(path)
    demo.build(db, method="pca")
    cluster_spaces(db, [demo.SPACE], min_cluster_size=20, min_samples=5, downsample=2)
    _draw_loss_distances(db)
    _embed_proverbs(db)
    evaluate(db, [demo.SPACE], label=demo.LABEL, ks=[1, 5, 20])
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


def _embed_proverbs(db: dbapi.Connection) -> None:
    """A collection of texts, for what is asked in words."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "proverbs.jsonl"
        table.write_text("\n".join(json.dumps({"text": line}) for line in PROVERBS), "utf-8")
        ingest_texts(db, table, text="text", collection="proverbs")
    embed(db, "tfidf", collection="proverbs")
