"""docs/import.md is true: its commands and its SQL run, in the order in which they stand there."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from stores import blob_store

from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")


def prepare() -> None:
    """The files that the page speaks of."""
    blob_store(Path("old-store.db"), ["ant", "bee"], texts=["one", "two"])
    Path("notes.csv").write_text('id,body,vector\na,first note,"[1, 2]"\nb,second note,"[2, 3]"\n')
    np.save("vectors.npy", np.ones((2, 3), np.float32))
    Path("ids.txt").write_text("ant\nbee\n")
    db = connection.create("street.db")
    db.execute(
        "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
        " values ('image', 'street', ?, '/data/corner.jpg', 20, 10, 0)",
        ("0" * 64,),
    )
    db.commit()
    db.close()
    images = [{"id": 7, "file_name": "corner.jpg", "width": 20, "height": 10}]
    Path("instances.json").write_text(
        json.dumps({"images": images, "categories": [{"id": 1, "name": "car"}], "annotations": []})
    )
    found = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    Path("results.json").write_text(json.dumps([found]))


def test_everything_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare()
    commands = re.findall(r"^    (nearsql .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        outcome = CliRunner().invoke(cli, shlex.split(command)[1:])
        assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
    statements = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert len(statements) == 2
    db = connection.connect("issues.db", read_only=True)
    notes, parameters = (db.execute(statement).fetchall() for statement in statements)
    assert [row[1:] for row in notes] == [("a", "first note"), ("b", "second note")]
    assert {row[1] for row in parameters} == {"1f3a", "77"}
    street = connection.connect("street.db", read_only=True)
    assert street.execute("select class_name, x_max from predictions").fetchall() == [("car", 4.0)]
