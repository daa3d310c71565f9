"""A small database for the tests of the browser face: images, texts, spaces, clusters and a map.

Small enough to know by heart, and with names that would be scripts if any page let them.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection

COLOURS = ("red", "green", "blue")
PER_COLOUR = 30
IMAGES = len(COLOURS) * PER_COLOUR  # items 1 to 90; every tenth is noise
TEXTS = 6  # items 91 to 96
SCRIPT = "<script>window.hacked = true</script>"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Where the database is, and the runs that made it."""

    path: Path
    clusters: int
    projection: int
    failed: int
    image_file: Path  # of item 90, the one image that is not in the database


def png(colour: tuple[int, int, int], size: int = 24) -> bytes:
    """A PNG of one colour."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(out, "PNG")
    return out.getvalue()


def build(path: Path) -> Gallery:
    """Makes the database, and one image file beside it."""
    random = np.random.default_rng(0)
    db = connection.create(path)
    image_file = path.parent / "item90.png"
    with immediate(db):
        vectors, points = [], []
        for number in range(IMAGES):
            kind = number // PER_COLOUR
            shade = 100 + 5 * (number % PER_COLOUR)
            colour = [20, 20, 20]
            colour[kind] = shade
            data = png((colour[0], colour[1], colour[2]))
            item = number + 1
            in_file = item != IMAGES
            if not in_file:
                image_file.write_bytes(data)
            db.execute(
                "insert into items (id, kind, collection, sha256, uri, width, height,"
                " sequence_number) values (?, 'image', 'paint', ?, ?, 24, 24, ?)",
                (item, hashlib.sha256(data).hexdigest(), str(image_file.resolve()), number),
            )
            if in_file:
                db.execute("insert into item_images values (?, 'image/png', ?)", (item, data))
            db.execute(
                "insert into item_labels values (?, 'colour', ?, 'tests')", (item, COLOURS[kind])
            )
            centre = np.zeros(8)
            centre[kind] = 10
            vectors.append((centre + random.normal(size=8)).astype("<f4"))
            points.append(10 * np.array([kind, kind % 2]) + random.normal(size=2))
        for number in range(TEXTS):
            item = IMAGES + number + 1
            text = f"text {number} {SCRIPT}"
            db.execute(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'words', ?, ?, ?)",
                (item, hashlib.sha256(text.encode()).hexdigest(), text, number),
            )
            db.execute("insert into item_labels values (?, 'topic', ?, 'tests')", (item, SCRIPT))
        for name, first, rows in (
            ("paint/space", 1, vectors),
            ("words/space", IMAGES + 1, random.normal(size=(TEXTS, 4)).astype("<f4")),
        ):
            space = db.execute(
                "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, 'l2')",
                (name, len(rows[0])),
            ).lastrowid
            db.executemany(
                "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
                [(space, first + i, row.tobytes()) for i, row in enumerate(rows)],
            )
    return Gallery(
        path,
        clusters=_cluster(db),
        projection=_project(db, points),
        failed=_fail(db),
        image_file=image_file,
    )


def _cluster(db: Any) -> int:
    parameters = {"min_cluster_size": 5, "min_samples": 3}
    inputs = [space_input(db, "paint/space")]
    with run(db, "cluster", parameters=parameters, seed=7, inputs=inputs) as current, immediate(db):
        ids = {}
        for label, name in enumerate(COLOURS):
            ids[label] = db.execute(
                "insert into clusters (run_id, level, label, size, exemplar_item_id)"
                " values (?, 1, ?, ?, ?)",
                (current.id, label, PER_COLOUR - PER_COLOUR // 10, label * PER_COLOUR + 1),
            ).lastrowid
            if label:  # the first cluster has no name
                db.execute(
                    "insert into cluster_labels (cluster_id, name, method) values (?, ?, 'tests')",
                    (ids[label], f"{name} {SCRIPT}" if label == 2 else name),
                )
        for number in range(IMAGES):
            is_noise = number % 10 == 9
            db.execute(
                "insert into memberships (run_id, level, item_id, cluster_id, probability,"
                " outlier_score) values (?, 1, ?, ?, ?, ?)",
                (
                    current.id,
                    number + 1,
                    None if is_noise else ids[number // PER_COLOUR],
                    0.0 if is_noise else 1 - (number % PER_COLOUR) / 100,
                    (number % PER_COLOUR) / PER_COLOUR,
                ),
            )
        current.counts.update(clusters=len(COLOURS), noise=IMAGES // 10)
    return current.id


def _project(db: Any, points: list[np.ndarray]) -> int:
    parameters = {"method": "pca", "components": 2}
    inputs = [space_input(db, "paint/space")]
    with run(db, "project", parameters=parameters, inputs=inputs) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            [(current.id, i + 1, float(x), float(y)) for i, (x, y) in enumerate(points)],
        )
        current.counts["points"] = len(points)
    return current.id


def _fail(db: Any) -> int:
    try:
        with run(db, "embed", parameters={"model": SCRIPT}) as current:
            raise ValueError(f"no weights {SCRIPT}")
    except ValueError:
        return current.id
