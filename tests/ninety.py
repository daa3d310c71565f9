"""Ninety items to be evaluated, and the shortest evaluation of them."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from nearsql.pipeline.evaluate import Evaluation, evaluate
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.runs import run as start_run
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

N = 90


def build(path: Path) -> Path:
    """Ninety items in three clusters. Space `a` has all but the last, `b` all but the first, `products` is
    of metric ip. A detector has measured two of three items."""
    rng = np.random.default_rng(3)
    kinds = np.arange(N) % 3
    vectors = (np.eye(3)[kinds] * 2 + rng.normal(size=(N, 3))).astype("<f4")
    vectors[61] = vectors[1]  # a duplicate
    with closing(connection.create(path)) as db:
        with immediate(db):
            db.executemany(
                "insert into items (id, kind, collection, sha256, content, sequence_number,"
                " metadata_json) values (?1, 'text', ?2, printf('%064x', ?1), 'text', ?1, ?3)",
                (
                    (i + 1, f"part {i % 10}", json.dumps({"camera": i // 9} if i % 9 else {}))
                    for i in range(N)
                ),
            )
            db.executemany(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'test')",
                [(i + 1, "kind", "xyz"[k]) for i, k in enumerate(kinds)]
                + [(i + 1, "age", str(k + i / N)) for i, k in enumerate(kinds)],
            )
            for name, metric, items in (
                ("a", "l2", range(N - 1)),
                ("b", "cosine", range(1, N)),
                ("products", "ip", range(N)),
            ):
                space = db.execute(
                    "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 3, ?)",
                    (name, metric),
                ).lastrowid
                assert space is not None
                insert_vectors(db, space, None, [(i + 1, vectors[i].tobytes()) for i in items])
            model = db.execute("insert into models (name, family) values ('m', 'yolo')").lastrowid
        for shift in (0.0, 0.5):  # two detect runs, of which the second is the newest
            with start_run(db, "detect", parameters={}, model_id=model) as current, immediate(db):
                db.executemany(
                    "insert into image_metrics (run_id, item_id, n_pred, mean_iou)"
                    " values (?, ?, 1, ?)",
                    [(current.id, i + 1, (i % 7) / 20 + shift) for i in range(N) if i % 3],
                )
                db.executemany(
                    "insert into losses (run_id, item_id, component, value, reason)"
                    " values (?, ?, ?, ?, ?)",
                    [
                        (current.id, i + 1, "box", i % 5 + shift, None)
                        if i % 3
                        else (current.id, i + 1, "box", None, "no object")
                        for i in range(N)
                    ]
                    + [(current.id, 1, "odd", -1.0, None)],
                )
    return path


def few(db: dbapi.Connection, *spaces: str, **options: Any) -> Evaluation:
    """An evaluation of few settings: of kinds, with one weighting and two k, unless the options say more."""
    given = {"label": "kind", "ks": [1, 4], "weightings": ["uniform"], **options}
    return evaluate(db, spaces or ["a"], **given)


def parameters(db: dbapi.Connection, run_id: int) -> dict[str, Any]:
    """The recorded parameters of a run."""
    (text,) = db.execute("select parameters_json from runs where id = ?", (run_id,)).fetchone()
    found: dict[str, Any] = json.loads(text)
    return found
