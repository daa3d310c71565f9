"""docs/findings.md is true: its commands and its SQL run, in their order, and its table is what comes out."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from docs.example_database import build
from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

PAGE = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
STEP = re.compile(r"```sql\n(.*?)```|^ {4}(nearsql [^\n]*)$", re.DOTALL | re.MULTILINE)


def test_everything_on_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path / "digits.db")
    answers = []
    for sql, command in STEP.findall(PAGE):
        if command:
            outcome = CliRunner().invoke(cli, shlex.split(command)[1:])
            assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
            continue
        db = connection.connect("digits.db", read_only=True)
        for statement in sql.split(";"):
            rows = db.execute(statement).fetchall()
            assert rows, statement
            answers.append(rows)
        db.close()
    table = re.findall(
        r"^\| ([a-z ]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+)% \| (\d+)% \|$", PAGE, re.MULTILINE
    )
    assert [(name, int(hits), int(found), int(n)) for name, hits, found, n, *_ in table] in answers
    for _, hits, found, n, precision, recall in table:
        assert int(precision) == round(100 * int(hits) / int(found))
        assert int(recall) == round(100 * int(hits) / int(n))
    decided = [rows for rows in answers if ("label_error", "dismiss") in [row[:2] for row in rows]]
    assert len(decided) == 1
