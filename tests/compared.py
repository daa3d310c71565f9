"""A file with runs of every kind that can be compared, for the tests of the pages about runs.

It begins with the gallery of gallery.py: a clustering, a map, a failed run.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gallery import COLOURS, IMAGES, PER_COLOUR, SCRIPT, Gallery
from judged_runs import add_detector_run, add_evaluation

from nearsql.pipeline.runs import immediate, run, run_input, space_input
from nearsql.udfs import connection, dbapi

SPACE, OTHER_SPACE = "paint/space", "paint/turned"


@dataclass(frozen=True, slots=True)
class Compared:
    """Where the file is, and its runs."""

    path: Path
    first: int  # clustering of the gallery: red, green, blue, every tenth noise
    second: int  # red in two halves, green gone to noise but for one, blue as it was
    label: int
    replay: int
    spoiled: int  # it could not do two things
    evaluations: tuple[int, int]
    detectors: tuple[int, int]
    projection: int
    failed: int


def build(path: Path, gallery: Gallery) -> Compared:
    """Makes it."""
    shutil.copy(gallery.path, path)
    db = connection.connect(path)
    second = _cluster_again(db)
    with run(db, "label", parameters={"method": "keywords"}, inputs=[run_input(db, second)]) as r:
        label = r.id
    with run(
        db,
        "replay",
        parameters={"run": gallery.clusters},
        parent_run_id=gallery.clusters,
        inputs=[run_input(db, gallery.clusters)],
    ) as r:
        r.counts |= {"same": 1, "rows": 93, "different_rows": 0}
        replay = r.id
    with run(
        db, "embed", parameters={"settings": {"size": [8, 8], "mode": "L"}, "names": None}
    ) as r:
        with immediate(db):
            r.item_error("decode", f"not an image {SCRIPT}", item_id=5)
            r.item_error("read", "no such file", uri=f"/nowhere/{SCRIPT}.png")
        r.result_sha256 = "ab" * 32
        r.timings["decode"] = 12.5
        spoiled = r.id
    _turn(db)
    judged = range(1, 21)
    truth = {item: COLOURS[(item - 1) // PER_COLOUR] for item in judged}
    one = {item: (truth[item], truth[item] if item > 5 else "blue") for item in judged}
    other = {item: (truth[item], truth[item] if item != 20 else SCRIPT) for item in judged}
    evaluations = (
        add_evaluation(
            db, {(SPACE, 5, "uniform"): one, (SPACE, 9, "uniform"): other}, label="colour"
        ),
        add_evaluation(db, {(SPACE, 5, "uniform"): other}, label="colour", seed=1),
    )
    with immediate(db):
        db.execute("update cv_predictions set score = 0.5")
        db.execute(
            "insert into folds (run_id, item_id, fold) select distinct run_id, item_id, fold from cv_predictions"
        )
    detectors = (
        add_detector_run(
            db,
            {i: {"n_gt": 2, "tp": 1, "fn": 1, "fp": 0, "mean_iou_gt": 0.4} for i in judged},
            conf=0.25,
        ),
        add_detector_run(
            db,
            {
                i: {
                    "n_gt": 2,
                    "tp": 2 - (i < 4),
                    "fn": int(i < 4),
                    "fp": 0,
                    "mean_iou_gt": 0.5 - 0.2 * (i < 4),
                }
                for i in judged
            },
            model="another",
            conf=0.25,
        ),
    )
    db.close()
    return Compared(
        path,
        gallery.clusters,
        second,
        label,
        replay,
        spoiled,
        evaluations,
        detectors,
        gallery.projection,
        gallery.failed,
    )


def labels_of_second() -> list[int | None]:
    """The second clustering by item, from item 1: its labels, None for noise."""
    found: list[int | None] = []
    for number in range(IMAGES):
        kind, place = divmod(number, PER_COLOUR)
        if number % 10 == 9 or (kind == 1 and place > 0):
            found.append(None)
        else:
            found.append(((0 if place < PER_COLOUR // 2 else 1), 3, 2)[kind])
    return found


def _cluster_again(db: dbapi.Connection) -> int:
    labels = labels_of_second()
    return add_clustering(db, labels, min_cluster_size=3, min_samples=3)


def add_clustering(db: dbapi.Connection, labels: list[int | None], **parameters: Any) -> int:
    """A finished clustering of the first items, from item 1, with these labels; None is noise."""
    inputs = [space_input(db, SPACE)]
    with run(db, "cluster", parameters=parameters, seed=7, inputs=inputs) as current, immediate(db):
        ids: dict[int | None, int | None] = {None: None}
        for label in sorted({label for label in labels if label is not None}):
            ids[label] = db.execute(
                "insert into clusters (run_id, level, label, size) values (?, 1, ?, ?)",
                (current.id, label, labels.count(label)),
            ).lastrowid
        db.executemany(
            "insert into memberships (run_id, level, item_id, cluster_id) values (?, 1, ?, ?)",
            [(current.id, item + 1, ids[label]) for item, label in enumerate(labels)],
        )
        current.counts["clusters"] = len(ids) - 1
    return current.id


def _turn(db: dbapi.Connection) -> None:
    """A second space of the same images, by a run that read the first."""
    rows = db.execute(
        "select v.item_id, v.vector from vectors v join spaces s on s.id = v.space_id where s.name = ?",
        (SPACE,),
    ).fetchall()
    random = np.random.default_rng(1)
    inputs = [space_input(db, SPACE)]
    with run(db, "project", parameters={"method": "turn"}, inputs=inputs) as r, immediate(db):
        space = db.execute(
            "insert into spaces (name, kind, dimensions, metric, run_id)"
            " values (?, 'projection', 8, 'l2', ?)",
            (OTHER_SPACE, r.id),
        ).lastrowid
        for item, vector in rows:
            moved = np.frombuffer(vector, "<f4") + random.normal(size=8).astype("<f4")
            db.execute(
                "insert into vectors (space_id, item_id, run_id, vector) values (?, ?, ?, ?)",
                (space, item, r.id, moved.astype("<f4").tobytes()),
            )
