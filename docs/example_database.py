"""The database that the documents' examples run on: the demo's digits, with a PCA map (quick, exact)."""

import itertools
import random
from pathlib import Path

from nearsql.pipeline import demo
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi


def build(path: Path) -> None:
    """Makes it: space `digits/pixels`, clusters by run 3, a map by run 4, clusters of each second item by
    5, loss distances of a detector that does not exist by 6."""
    db = connection.create(path)
    demo.build(db, method="pca")
    cluster_spaces(db, [demo.SPACE], min_cluster_size=20, min_samples=5, downsample=2)
    _draw_loss_distances(db)
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
