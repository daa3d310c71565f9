"""A small database with clusters at three levels, for the tests of their pages.

Items 1 to 60 are images; each tenth is noise at every level. Level 1 has the clusters 0 (items 1 to 40) and
1 (41 to 60). Level 2 parts the first of them into 0 (1 to 20) and 1 (21 to 40); the second passes unsplit, as 2.
Level 3 parts cluster 0 of level 2 once more, into 0 (1 to 10) and 1 (11 to 20); its others pass unsplit.
Items 61 to 63 came later and were assigned to cluster 1 of level 1 and what it became.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gallery import png

from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection

ITEMS, LATER = 60, 3
SPACE = "paint/space"
# For each level, the cluster of each ten items.
TENS = {1: (0, 0, 0, 0, 1, 1), 2: (0, 0, 1, 1, 2, 2), 3: (0, 1, 2, 2, 3, 3)}
PARENTS = {2: {0: 0, 1: 0, 2: 1}, 3: {0: 0, 1: 0, 2: 1, 3: 2}}
COLOURS = ("red", "green", "blue")
EVIL = "<script>window.hacked = true</script>"


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the database is, and the runs that made it."""

    path: Path
    clusters: int
    detector: int
    projection: int
    box_loss: dict[int, float]


def cluster_of(item: int, level: int) -> int | None:
    """The label of an item's cluster, None for noise."""
    if item > ITEMS:
        return {1: 1, 2: 2, 3: 3}[level]
    return None if item % 10 == 0 else TENS[level][(item - 1) // 10]


def probability_of(item: int) -> float:
    """How surely an item belongs to its cluster: the larger its number among ten, the less."""
    return 0.0 if item % 10 == 0 else 1 - (item % 10) / 20


def members(level: int, label: int | None) -> list[int]:
    """The items of a cluster, or the noise."""
    return [i for i in range(1, ITEMS + LATER + 1) if cluster_of(i, level) == label]


def build(path: Path, within: str | None = None) -> Tree:
    """Makes the database. within: what the clustering was limited to."""
    random = np.random.default_rng(0)
    db = connection.create(path)
    n = ITEMS + LATER
    centres = np.repeat(
        [[20, 0], [20, 3], [0, 20], [0, 23], [-20, 0], [-20, 3], [-20, 5]], 10, axis=0
    )[:n]
    points = (centres + random.normal(size=(n, 2)) / 4).astype("<f4")
    with immediate(db):
        for item in range(1, n + 1):
            data = png((4 * item, 20, 20))
            db.execute(
                "insert into items (id, kind, collection, sha256, width, height, sequence_number)"
                " values (?, 'image', 'paint', ?, 24, 24, ?)",
                (item, hashlib.sha256(data).hexdigest(), item - 1),
            )
            db.execute("insert into item_images values (?, 'image/png', ?)", (item, data))
            db.execute(
                "insert into item_labels values (?, 'colour', ?, 'tests')",
                (item, COLOURS[item % 3]),
            )
        space = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 2, 'l2')",
            (SPACE,),
        ).lastrowid
        db.executemany(
            "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
            [(space, i + 1, row.tobytes()) for i, row in enumerate(points)],
        )
        model = db.execute("insert into models (name, family) values ('yolo-t', 'yolo')").lastrowid
    tree = Tree(
        path,
        clusters=_cluster(db, within),
        detector=_detect(db, int(model or 0)),
        projection=_project(db, points),
        box_loss={i: i / 10 for i in range(1, n + 1)},
    )
    db.close()
    return tree


def _cluster(db: Any, within: str | None) -> int:
    parameters = {"method": "hdbscan", "min_cluster_size": 7, "min_samples": 3, "within": within}
    inputs = [space_input(db, SPACE)]
    with run(db, "cluster", parameters=parameters, inputs=inputs) as current, immediate(db):
        ids: dict[tuple[int, int], int] = {}
        for level, labels in TENS.items():
            for label in sorted(set(labels)):
                found = [i for i in members(level, label) if i <= ITEMS]
                parent = ids[level - 1, PARENTS[level][label]] if level > 1 else None
                ids[level, label] = db.execute(
                    "insert into clusters (run_id, level, label, parent_id, size, exemplar_item_id)"
                    " values (?, ?, ?, ?, ?, ?)",
                    (current.id, level, label, parent, len(found), found[2]),
                ).lastrowid
            db.executemany(
                "insert into memberships (run_id, level, item_id, cluster_id, probability,"
                " outlier_score, is_assigned) values (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        current.id,
                        level,
                        item,
                        None
                        if cluster_of(item, level) is None
                        else ids[level, cluster_of(item, level)],
                        probability_of(item) if item <= ITEMS else None,
                        (item % 7) / 7 if item <= ITEMS else None,
                        item > ITEMS,
                    )
                    for item in range(1, ITEMS + LATER + 1)
                ],
            )
        names = [
            (ids[1, 0], "forests", "leaf 60%, bark 20%", "keywords", None, 0.75),
            (ids[1, 1], f"lakes {EVIL}", "water 80%", "llm", 8.0, 0.5),
            (ids[2, 0], "oaks", None, "keywords", None, None),
            (ids[2, 1], "beeches", None, "keywords", None, None),
        ]
        db.executemany(
            "insert into cluster_labels (cluster_id, name, description, method, strength,"
            " held_out_precision) values (?, ?, ?, ?, ?, ?)",
            names,
        )
        current.counts.update(clusters=2)
    return current.id


def _detect(db: Any, model: int) -> int:
    with run(db, "detect", model_id=model, parameters={}) as current, immediate(db):
        for item in range(1, ITEMS + LATER + 1):
            db.execute(
                "insert into image_metrics (run_id, item_id, n_gt, n_pred, tp, fp, fn, mean_conf,"
                " hit_freq) values (?, ?, 2, 2, 1, 1, 1, ?, ?)",
                (current.id, item, 0.5, 0.25 if item <= 40 else 0.75),
            )
            db.execute(
                "insert into losses (run_id, item_id, component, value) values (?, ?, 'box', ?)",
                (current.id, item, item / 10),
            )
            db.execute(
                "insert into losses (run_id, item_id, component, reason) values (?, ?, 'cls', 'none')",
                (current.id, item),
            )
    return current.id


def _project(db: Any, points: np.ndarray) -> int:
    inputs = [space_input(db, SPACE)]
    with run(db, "project", parameters={"method": "pca"}, inputs=inputs) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            [(current.id, i + 1, float(x), float(y)) for i, (x, y) in enumerate(points)],
        )
    return current.id


def changed(path: Path, *statements: str) -> None:
    """Changes the database by statements."""
    db = connection.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def asked(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a query on the database."""
    db = connection.connect(path, read_only=True)
    found = [tuple(row) for row in db.execute(sql, parameters)]
    db.close()
    return found
