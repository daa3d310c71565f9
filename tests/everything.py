"""A small file in which every page has something to show, and the addresses of all pages over it."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gallery
import numpy as np
from click.testing import CliRunner
from evaluated import evaluate
from judged_images import add_detector, annotate, judge

from nearsql.pipeline.cli import cli
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.select import select
from nearsql.udfs import connection, dbapi
from nearsql.udfs.selections import Making, store_selection

SCRIPT = gallery.SCRIPT
BOX = (2.0, 2.0, 20.0, 20.0)
# What a program has written for itself, and without which a file is not opened.
_OWN_TABLES = ("metadata",)


@dataclass(frozen=True, slots=True)
class Everything:
    """Where the file is, and its runs."""

    path: Path
    clusters: int
    projection: int
    evaluation: int
    other_evaluation: int
    findings: int
    detector: int
    failed: int


def build(path: Path) -> Everything:
    """The gallery, judged: evaluated by its colours, searched for wrong labels, seen by a detector."""
    made = gallery.build(path)
    evaluation = evaluate(path, "paint/space", "--label", "colour", "-k", "1,5", "--folds", "3")
    other = evaluate(path, "paint/space", "--label", "colour", "-k", "3,5", "--folds", "3")
    for words in (
        ("index", path, "--text"),
        ("find", path, "paint/space", "--label", "colour", "-k", "5"),
    ):
        outcome = CliRunner().invoke(cli, [*map(str, words)])
        assert outcome.exit_code == 0, outcome.output
    with closing(connection.connect(path)) as db:
        annotate(db, 1, (1, "cat", BOX))
        annotate(db, 2, (2, "dog", BOX))
        seen: dict[int, Any] = {1: [("cat", BOX, 0.9, 1)], 2: [("cat", BOX, 0.6, None)], 3: []}
        detector = judge(db, add_detector(db), seen, mean_iou_gt={1: 0.8, 2: 0.0})
        select(db, "some", sql="select id from items limit 3", note="to look at")
        with immediate(db):
            corners = "[[-1, -1], [3, -1], [1, 3]]"
            making = Making(
                "drawn", "polygon", polygon_json=corners, projection_run_id=made.projection
            )
            store_selection(db, making, np.array([1, 2]))
            db.execute("insert into item_labels values (1, 'look', 'good', 'hand')")
        (found,) = db.execute("select max(id) from runs where kind = 'find'").fetchone()
    return Everything(
        path=path,
        clusters=made.clusters,
        projection=made.projection,
        evaluation=evaluation,
        other_evaluation=other,
        findings=int(found),
        detector=detector,
        failed=made.failed,
    )


def addresses(made: Everything) -> list[str]:
    """Every page, below /-/nearsql/DATABASE."""
    clusters, projection = f"/clusters/{made.clusters}", f"/map/{made.projection}"
    evaluation, findings = f"/evaluations/{made.evaluation}", f"/findings/{made.findings}"
    return [
        "",
        "/search",
        "/search?q=text",
        "/search?like=1",
        f"/diff?a={made.evaluation}&b={made.other_evaluation}",
        "/runs",
        f"/runs/{made.clusters}",
        f"/runs/{made.failed}",
        "/clusters",
        clusters,
        f"{clusters}/sweep",
        f"{clusters}/1/0",
        f"{clusters}/1/2",
        f"{clusters}/1/noise",
        "/evaluations",
        evaluation,
        f"{evaluation}/items",
        f"{evaluation}/items/1",
        "/findings",
        findings,
        f"{findings}/download?format=csv",
        "/map",
        projection,
        f"{projection}?beside={made.projection}",
        f"{projection}/columns",
        f"{projection}/colours?by=label:colour",
        f"{projection}/within?within=some",
        f"{projection}/inside?polygon=[[-1,-1],[3,-1],[1,3]]",
        f"{projection}/sheet?items=1,2",
        "/items/1",
        f"/items/{gallery.IMAGES + 1}",
        "/items/1/image",
        "/items/1/thumbnail",
        "/items/1/card",
        "/items/1/panel",
        "/selections",
        "/selections/1",
        "/selections/2",
        "/selections/1/items.csv",
    ]


def make_hostile(path: Path) -> int:
    """Adds a script to every text of the file that may be any text; gives how many columns that were."""
    changed = 0
    with closing(connection.connect(path)) as db:
        names = "select name from sqlite_schema where type = 'table' and name not like 'sqlite%' and name not like '\\_%' escape '\\'"
        for (table,) in db.execute(names).fetchall():
            if table in _OWN_TABLES:
                continue
            for _, column, kind, *_ in db.execute(f"pragma table_info({table})").fetchall():
                if kind.upper() == "TEXT":
                    changed += _spoil(db, table, column)
        db.commit()
    return changed


def _spoil(db: dbapi.Connection, table: str, column: str) -> int:
    value = f"{column} || ?1"
    if column.endswith("_json"):
        value = f"json_set({column}, '$.\"' || ?1 || '\"', ?1)"
        value = f"iif(json_type({column}) = 'object', {value}, {column})"
    try:
        return int(db.execute(f"update {table} set {column} = {value}", (SCRIPT,)).rowcount > 0)
    except dbapi.Error:  # it may only be one of some words
        return 0
