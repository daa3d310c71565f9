"""docs/searching.md is true: its commands and its SQL run, in the order in which they stand there."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

PAGE = (Path(__file__).parents[2] / "docs" / "searching.md").read_text(encoding="utf-8")


def steps() -> Iterator[tuple[str, str]]:
    """("command", words) or ("sql", statement), in the order of the page."""
    for block in re.finditer(
        r"```sql\n(.*?)```|^ {4,}(nearsql [^\n]*)$", PAGE, re.DOTALL | re.MULTILINE
    ):
        if block[2]:
            yield "command", block[2]
        else:
            for statement in block[1].split(";"):
                if re.sub(r"--.*", "", statement).strip():
                    yield "sql", statement


def test_everything_on_the_page_runs(
    example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(example_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    done = {"command": 0, "sql": 0}
    for kind, text in steps():
        done[kind] += 1
        if kind == "command":
            outcome = CliRunner().invoke(cli, shlex.split(text)[1:])
            assert outcome.exit_code == 0, (text, outcome.output, outcome.exception)
        else:
            db = connection.connect("digits.db", read_only=True)
            rows = db.execute(text).fetchall()
            assert rows, text
            db.close()
    assert done["command"] >= 8
    assert done["sql"] >= 11


def test_what_the_page_says_of_the_answers(example_database: Path, tmp_path: Path) -> None:
    """The index of the page's first command is used, and past it the answer is the same there."""
    path = shutil.copy(example_database, tmp_path)
    assert CliRunner().invoke(cli, ["index", str(path), "digits/pixels"]).exit_code == 0
    db = connection.connect(path, read_only=True)
    plan = dict(db.execute("select fact, value from search_plan('digits/pixels')").fetchall())
    assert plan["engine"] == "hnsw"
    plan = dict(db.execute("select fact, value from search_plan('digits/pixels', 101)").fetchall())
    assert plan["engine"] == "exact"
    within = "select fact, value from search_plan('digits/pixels', 10, 'select 1')"
    assert dict(db.execute(within).fetchall())["engine"] == "exact"
    by_index = db.execute("select id, distance from knn('digits/pixels', 42, 10)").fetchall()
    exact = db.execute("select id, distance from knn('digits/pixels', 42, 10) where exact = 1")
    assert dict(by_index).items() <= dict(exact.fetchall()).items()
    db.close()
