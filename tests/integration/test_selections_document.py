"""docs/selections.md, and what docs/export.md says of images, are true: commands and SQL run in their order."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled import coco

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.cli import cli
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.within import within_ids
from nearsql.udfs import connection

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "selections.md").read_text(encoding="utf-8")
_, _, EXPORTS = (DOCS / "export.md").read_text(encoding="utf-8").partition("## coco, yolo")


def steps(page: str) -> Iterator[tuple[str, str]]:
    """("command" or "shell", words) or ("sql", statement), in the order of the page."""
    for block in re.finditer(
        r"```sql\n(.*?)```|```sh\n(.*?)```|^ {4}(nearsql [^\n]*)$", page, re.DOTALL | re.MULTILINE
    ):
        sql, shell, command = block.groups()
        if command:
            yield "command", command
        elif shell:
            yield from (("shell", line) for line in shell.splitlines())
        else:
            yield from (("sql", statement) for statement in sql.split(";") if statement.strip())


def in_a_shell(line: str) -> str:
    """What a line says; `nearsql` is that of this very Python."""
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def test_everything_on_the_page_runs(
    example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(example_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    done = {"command": 0, "shell": 0, "sql": 0}
    said = ""
    for kind, text in steps(PAGE):
        done[kind] += 1
        if kind == "command":
            outcome = CliRunner().invoke(cli, shlex.split(text)[1:])
            assert outcome.exit_code == 0, (text, outcome.output, outcome.exception)
        elif kind == "shell":
            said = in_a_shell(text)
        else:
            db = connection.connect("digits.db", read_only=True)
            assert db.execute(text).fetchall(), text
            db.close()
    assert done == {"command": 10, "shell": 3, "sql": 6}
    db = connection.connect("digits.db", read_only=True)
    threes = within_ids(db, "threes")
    assert threes is not None
    assert said.split()[0] == threes.sha256
    hashes = "select distinct parameters_json ->> 'within_sha256' from runs where kind <> 'ingest'"
    assert (threes.sha256,) in db.execute(hashes).fetchall()
    names = [name for (name,) in db.execute("select name from selections order by 1")]
    assert names == ["noise", "suspects", "threes"]
    db.close()


def test_exports_of_images_on_the_page_run(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = coco(root)
    polygon = [[1, 2, 4.5, 2, 4.5, 6]]
    document["annotations"][0]["segmentation"] = polygon
    coco(root, annotations=document["annotations"])
    connection.create(tmp_path / "street.db").close()
    db = connection.connect(tmp_path / "street.db")
    ingest_images(db, root)
    annotate(db, "pets", "coco", root)
    db.execute("insert into models (name, family) values ('m', 'yolo')")
    run = "insert into runs (id, kind, model_id, status, finished_at) values (5, 'detect', 1, 'finished', 'x')"
    db.execute(run)
    db.execute("insert into image_metrics (run_id, item_id, n_pred) select 5, id, 0 from items")
    db.execute(
        "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min, y_min, x_max,"
        " y_max) values (5, 1, 16, 'dog', 0.9, 1, 2, 4.5, 6)"
    )
    db.commit()
    db.close()
    monkeypatch.chdir(tmp_path)
    lines = [text for kind, text in steps(EXPORTS) if kind == "shell"]
    assert len(lines) == 5
    (program,) = re.findall(r"```py\n(.*?)```", EXPORTS, re.DOTALL)
    for line in lines:
        outcome = CliRunner().invoke(cli, shlex.split(line)[1:])
        assert outcome.exit_code == 0, (line, outcome.output, outcome.exception)
    Path("judge.py").write_text(program, encoding="utf-8")
    judged = runpy.run_path("judge.py")["judged"]
    judged.evaluate()
    # The dog that the model saw is the dog that is there, whatever number it gives to dogs.
    assert next(image["dtMatches"][0].tolist() for image in judged.evalImgs if image) == [1.0]
