"""What the tests of names from language models share: naming with the small model, and what came of it."""

from typing import Any

from topics import Topics

from nearsql.pipeline.label import Asking, LabelResult, label_clusters
from nearsql.udfs import dbapi


def label(db: dbapi.Connection, topics: Topics, **asking: Any) -> LabelResult:
    asking = {"model": "tiny", "backoff": 0.001, **asking}
    how = {k: asking.pop(k) for k in ("level", "min_size", "reading") if k in asking}
    return label_clusters(db, topics.run_id, asking=Asking(**asking), **how)


def rows(db: dbapi.Connection, run_id: int) -> list[dict[str, Any]]:
    cursor = db.execute(
        "select c.level, c.label as number, l.* from cluster_labels l"
        " join clusters c on c.id = l.cluster_id where l.run_id = ? order by l.id",
        (run_id,),
    )
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def status(db: dbapi.Connection) -> tuple[str, str | None]:
    row = db.execute("select status, error from runs order by id desc limit 1").fetchone()
    return row
