"""The file that killed commands work on, and what they read."""

import csv
import json
import random
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nearsql.pipeline.cluster.levels import cluster_levels
from nearsql.pipeline.cluster.run import cluster_spaces
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.project import project_space
from nearsql.pipeline.runs import immediate, run
from nearsql.pipeline.select import select
from nearsql.udfs import connection, dbapi

POINTS = 200  # items of the space `points`; `others` has the first 80, in another metric
GROWN = 60  # items of the space `grown` that the map knows; 40 more are to be placed
TOPICS = {
    "pets": [
        "kitten",
        "purring",
        "whiskers",
        "feline",
        "puppy",
        "barking",
        "leash",
        "kennel",
        "canine",
        "litter",
    ],
    "food": [
        "broth",
        "ladle",
        "noodles",
        "lentils",
        "icing",
        "oven",
        "sponge",
        "sugar",
        "candles",
        "recipe",
    ],
    "ships": [
        "harbour",
        "anchor",
        "sail",
        "rudder",
        "mast",
        "keel",
        "sailor",
        "tide",
        "cargo",
        "lighthouse",
    ],
}
CLASSES = ("cat", "dog")


def build(folder: Path, *, with_torch: bool = False) -> Path:
    """Makes the file and, in `folder`/inputs, what is read; gives the file's path.

    Its runs are in their order what `pipelines` calls them. with_torch: with a detector of random weights,
    and what it sees of some images.
    """
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    path = folder / "base.db"
    with closing(connection.create(path)) as db:
        _points(db)
        cluster_spaces(db, ["points"], min_cluster_size=6, min_samples=3)
        cluster_levels(db, ["points"], levels=2)
        cluster_spaces(db, ["points"], min_cluster_size=6, min_samples=3, downsample=2)
        _grown(db)
        _loss_distances(db)
        _detector(db)
        select(db, "some", sql="select id from items where id % 3 = 0")
        pictures = _pictures(inputs / "earlier", 32)
        ingest_images(db, pictures, collection="earlier", label="part")
        select(db, "earlier", sql="select id from items where collection = 'earlier'")
        ingest_texts(db, _table(inputs / "earlier.csv", 120, seed=1), text="body", label="topic")
    _table(inputs / "new.csv", 150, seed=2)
    photos = _pictures(inputs / "photos", 40, seed=9)
    (photos / "left" / "torn.png").write_bytes(b"\x89PNG no more of it")
    (photos / "left" / "same.png").write_bytes((photos / "left" / "0.png").read_bytes())
    _annotated(inputs / "pets")
    _matrices(inputs)
    (inputs / "left.txt").write_text("".join(f"{item}\n" for item in range(1, 90)))
    if with_torch:
        _real_detector(path, inputs / "detector.pt")
    return path


def _real_detector(path: Path, weights: Path) -> None:
    import torch

    from nearsql.pipeline.detect.run import detect
    from tests.vision.detectors import save_detector

    torch.set_num_threads(1)
    save_detector(weights, "yolov8n")
    with closing(connection.connect(path)) as db:
        detect(db, weights, collection="earlier", imgsz=64, max_det=5, batch=8, name="small")


def _blobs(n: int) -> NDArray[np.float32]:
    """Groups within groups, some tight, and points between them: (n, 6)."""
    draw = np.random.default_rng(4)
    near = draw.normal(size=(3, 1, 6)) * 6 + draw.normal(size=(3, 3, 6)) * 1.2
    spread = np.where(np.arange(n) % 11 == 0, 2.5, 0.35)
    found = near.reshape(9, 6)[np.arange(n) % 9] + draw.normal(size=(n, 6)) * spread[:, None]
    return found.astype("<f4")


def _points(db: dbapi.Connection) -> None:
    """Texts with labels, and two spaces of theirs, which no model made."""
    draw = random.Random(0)
    vectors = _blobs(POINTS)
    with immediate(db):
        for item in range(1, POINTS + 1):
            text = f"{_sentence(draw, list(TOPICS)[item % 3])} {item}"
            db.execute(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'points', ?, ?, ?)",
                (item, f"{item:064x}", text, item - 1),
            )
            for name, value in (("side", "left" if item % 2 else "right"), ("part", str(item % 4))):
                db.execute("insert into item_labels values (?, ?, ?, 'tests')", (item, name, value))
        _space(db, "points", vectors, "l2")
        _space(db, "others", vectors[:80], "cosine")


def _space(
    db: dbapi.Connection, name: str, vectors: NDArray[np.float32], metric: str, first: int = 1
) -> None:
    """Vectors of the items from `first` on; the space is made where it is not there."""
    (space,) = db.execute(
        "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)"
        " on conflict (name) do update set name = excluded.name returning id",
        (name, vectors.shape[1], metric),
    ).fetchone()
    db.executemany(
        "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
        [(space, item, vector.tobytes()) for item, vector in enumerate(vectors, first)],
    )


def _grown(db: dbapi.Connection) -> None:
    """A map of a space that has grown since."""
    vectors = _blobs(GROWN + 40)
    with immediate(db):
        _space(db, "grown", vectors[:GROWN], "l2")
    project_space(db, "grown", method="pca")
    with immediate(db):
        _space(db, "grown", vectors[GROWN:], "l2", GROWN + 1)


def _loss_distances(db: dbapi.Connection) -> None:
    """All pairs of 30 items, as `nearsql loss-distance` writes them; of no detector that there is."""
    draw, points = np.random.default_rng(1), _blobs(30)
    model = _model(db, "a made-up detector")
    parameters = {"pairs": "all", "components": ["box"]}
    with run(db, "loss-distance", parameters=parameters, model_id=model) as current, immediate(db):
        for target in range(30):
            for image in range(30):
                far = np.linalg.norm(points[target] - points[image]) * (1 + draw.random() / 4)
                db.execute(
                    "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
                    " distance) values (?, ?, ?, 'box', ?)",
                    (current.id, target + 1, image + 1, float(far)),
                )


def _detector(db: dbapi.Connection) -> None:
    """Images with one object each, and what a detector that there is not says of them."""
    draw = random.Random(3)
    model = _model(db, "a made-up detector")
    box = (2.0, 2.0, 20.0, 20.0)
    with (
        run(db, "detect", parameters={"metrics_conf": 0.25}, model_id=model) as current,
        immediate(db),
    ):
        for number in range(40):
            item = 1000 + number
            name, seen = CLASSES[number % 2], CLASSES[number % 2 if draw.random() < 0.8 else 0]
            db.execute(
                "insert into items (id, kind, collection, sha256, uri, width, height,"
                " sequence_number) values (?, 'image', 'seen', ?, ?, 100, 100, ?)",
                (item, f"{item:064x}", f"memory:{item}", number),
            )
            db.execute(
                "insert into annotations (id, item_id, class_id, class_name, x_min, y_min, x_max,"
                " y_max, source) values (?, ?, ?, ?, ?, ?, ?, ?, 'tests')",
                (item, item, CLASSES.index(name), name, *box),
            )
            db.execute(
                "insert into annotated_items (item_id, source, truth_sha256) values (?, 'tests', ?)",
                (item, f"{item:064x}"),
            )
            is_right = name == seen
            db.execute(
                "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min,"
                " y_min, x_max, y_max, matched_annotation_id, iou)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(current.id, item, CLASSES.index(seen), seen, draw.uniform(0.3, 1), *box),
                    *((item, 1.0) if is_right else (None, None)),
                ),
            )
            db.execute(
                "insert into image_metrics (run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_iou,"
                " mean_iou_gt, hit_freq, truth_sha256) values (?, ?, 1, 1, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(current.id, item, int(is_right), int(not is_right), int(not is_right)),
                    *(1.0 if is_right else None, float(is_right), float(is_right)),
                    f"{item:064x}",
                ),
            )
            for component in ("box", "cls"):
                db.execute(
                    "insert into losses (run_id, item_id, component, value) values (?, ?, ?, ?)",
                    (current.id, item, component, draw.uniform(0, 3)),
                )


def _model(db: dbapi.Connection, name: str) -> int:
    with immediate(db):
        (model,) = db.execute(
            "insert into models (name, family) values (?, 'yolo')"
            " on conflict (name) do update set name = excluded.name returning id",
            (name,),
        ).fetchone()
    return int(model)


def _sentence(draw: random.Random, topic: str) -> str:
    return "the " + " and the ".join(draw.sample(TOPICS[topic], 3))


def _table(path: Path, rows: int, seed: int) -> Path:
    """A table of texts: every 30th row is empty, and every 40th has a text of before."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "topic", "note"])
        text = ""
        for number in range(rows):
            topic = draw.choice([*TOPICS])
            if number % 40 != 39:
                text = f"{_sentence(draw, topic)} {number}"
            writer.writerow(["" if number % 30 == 29 else text, topic, draw.random()])
    return path


def _pictures(folder: Path, n: int, seed: int = 0) -> Path:
    """Images in two folders, `left` and `right`."""
    draw = np.random.default_rng(seed)
    for number in range(n):
        path = folder / ("right" if number % 2 else "left") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    return folder


def _annotated(folder: Path) -> None:
    """Images with YOLO labels: boxes, outlines, nothing, a mistake, and none at all."""
    _pictures(folder / "images", 30, seed=5)
    (folder / "data.yaml").write_text(
        f"path: .\ntrain: images\nval: images\nnames: [{', '.join(CLASSES)}]\n"
    )
    for path in sorted((folder / "images").rglob("*.png")):
        number = int(path.stem)
        if number % 7 == 6:
            continue
        lines = [f"{number % 2} .5 .5 .5 .5", "1 .1 .1 .9 .1 .9 .9"][: number % 3]
        if number == 10:
            lines.append("9 no box")
        label = folder / "labels" / path.parent.name / f"{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines))


def _matrices(inputs: Path) -> None:
    """Vectors by item id as .npy and Parquet, an older store, and detections as COCO results."""
    import pyarrow
    import pyarrow.parquet

    draw = np.random.default_rng(8)
    vectors = draw.normal(size=(120, 5)).astype("<f4")
    ids = [*range(1, 121)]
    np.save(inputs / "new.npy", vectors)
    (inputs / "ids.txt").write_text("".join(f"{item}\n" for item in ids))
    columns = {"id": ids, "vector": [*vectors], "x": vectors[:, 0], "y": vectors[:, 1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), inputs / "new.parquet", row_group_size=40)
    with closing(dbapi.connect(inputs / "store.db")) as db:
        db.execute(
            "create table embeddings (id text, model text, embedding blob, box_loss real, cls_loss real,"
            " hit_freq real)"
        )
        db.execute("create table umap_1f (id text, comp_0 real, comp_1 real)")
        for number, vector in enumerate(vectors):
            for model in ("yolov8n", "clip"):
                judged = draw.random(3).tolist() if model == "yolov8n" else [None] * 3
                db.execute(
                    "insert into embeddings values (?, ?, ?, ?, ?, ?)",
                    (str(number + 1), model, vector.tobytes(), *judged),
                )
            db.execute(
                "insert into umap_1f values (?, ?, ?)",
                (str(number + 1), *draw.normal(size=2).tolist()),
            )
        db.execute("create table metadata (run_id text, params text)")
        db.execute("insert into metadata values ('1f', ?)", (json.dumps({"n_neighbors": 15}),))
        db.commit()
    found = [
        {"image_id": 1000 + n % 40, "category_id": n % 2, "bbox": [n % 9, 2, 30, 40], "score": 0.5}
        for n in range(160)
    ]
    (inputs / "results.json").write_text(json.dumps(found))
