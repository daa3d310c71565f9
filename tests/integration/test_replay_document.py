"""docs/replay.md is true: its commands and its SQL run, and say what stands there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from nearsql.pipeline import replay
from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

PAGE = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")


def test_everything_on_the_page_runs(
    example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(example_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    outputs = []
    for command in re.findall(r"^    (nearsql [^\n]*)$", PAGE, re.MULTILINE):
        outcome = CliRunner().invoke(cli, shlex.split(command)[1:])
        assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
        outputs.append(outcome.output)
    assert len(outputs) == 4
    (shown,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    said = [
        line for line in outputs[2].splitlines() if not re.match("  (recorded|replayed) ", line)
    ]
    assert said[: len(shown.splitlines())] == shown.splitlines()
    statements = [
        s for block in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL) for s in block.split(";")
    ]
    db = connection.connect("digits.db", read_only=True)
    rows = [db.execute(statement).fetchall() for statement in statements if statement.strip()]
    db.close()
    assert len(rows) == 3
    assert all(rows)


def test_every_kind_is_on_the_page() -> None:
    table = PAGE[PAGE.index("| kind |") :]
    kinds = {
        kind
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for kind in re.findall("`(.+?)`", cell)
    }
    assert kinds == set(replay.MODULES)
