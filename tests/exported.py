"""What the tests of exports share: a database with something of everything, and readers of files."""

import json
import math
from pathlib import Path

from click.testing import CliRunner, Result
from gallery import Gallery, build

from nearsql.pipeline.cli import cli
from nearsql.pipeline.runs import immediate
from nearsql.udfs import connection, dbapi

LEVELS = "select item_id, level, cluster, cluster_name, probability, outlier_score, is_assigned"


def full_gallery(path: Path) -> Gallery:
    """The gallery, with what it has none of: a second level, an assigned item, odd texts and metadata."""
    made = build(path)
    db = connection.connect(made.path)
    with immediate(db):
        for label in range(2):
            parent = db.execute(
                "select id from clusters where run_id = ? and level = 1 and label = 0",
                (made.clusters,),
            ).fetchone()[0]
            db.execute(
                "insert into clusters (run_id, level, label, parent_id, size, birth_lambda, max_lambda)"
                " values (?, 2, ?, ?, 10, ?, ?)",
                (made.clusters, label, parent, *((0.25, 1.5), (math.inf, None))[label]),
            )
        db.execute(
            "insert into memberships (run_id, level, item_id, cluster_id, probability, is_assigned)"
            " select m.run_id, 2, m.item_id, c.id, 0.1 + 0.2, m.item_id > 18"
            " from memberships m join clusters c on c.run_id = m.run_id and c.level = 2"
            " and c.label = m.item_id % 2 where m.run_id = ? and m.item_id <= 20",
            (made.clusters,),
        )
        db.execute(
            "update projection_points set placed_by_run_id = ? where run_id = ? and item_id = 4",
            (made.projection, made.projection),
        )
        db.execute("update items set metadata_json = ? where id = 3", ('{"a": [1, 2.50, "é☃"]}',))
        db.execute("insert into item_labels values (91, 'tone, \"of\" voice', 'a\nb', 'tests')")
    db.close()
    return made


def nearsql_export(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words)])


def memberships(db: dbapi.Connection, run_id: int) -> dict[int, dict[int, tuple]]:
    """item -> level -> (cluster, name, probability, outlier_score, is_assigned), by the public view."""
    found: dict[int, dict[int, tuple]] = {}
    rows = db.execute(f"{LEVELS} from embedding_clusters where run_id = ?", (run_id,)).fetchall()
    for item, level, *rest in rows:
        found.setdefault(item, {})[level] = tuple(rest)
    return found


def points(db: dbapi.Connection, run_id: int) -> dict[int, tuple[float, float]]:
    rows = db.execute("select item_id, x, y from projection_points where run_id = ?", (run_id,))
    return {item: (x, y) for item, x, y in rows}


def json_items(folder: Path) -> list[dict]:
    index = json.loads((folder / "index.json").read_text("utf-8"))
    names = [file["name"] for file in index["files"] if file["name"].startswith("items")]
    return [item for name in names for item in json.loads((folder / name).read_text("utf-8"))]
