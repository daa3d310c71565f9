"""Runs what stands on a page of documentation: its commands and its SQL, in their order, in this process."""

import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

ROOT = Path(__file__).parents[1]
_STEPS = re.compile(r"```sql\n(.*?)```|^ {4}nearsql ([^\n]*)$", re.DOTALL | re.MULTILINE)


def run_page(
    name: str, database: str, adapted: Callable[[str], str] = lambda words: words
) -> Counter[str]:
    """Runs docs/NAME in the current folder; its SQL on `database`, where each statement must give rows.
    A command is `adapted` first, where its model is too large for a test. How many of each there were."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    done: Counter[str] = Counter()
    for sql, command in _STEPS.findall(page):
        if command:
            outcome = CliRunner().invoke(cli, shlex.split(adapted(command)))
            assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
            done["command"] += 1
            continue
        db = connection.connect(database, read_only=True)
        for statement in sql.split(";"):
            if re.sub(r"--.*", "", statement).strip():
                assert db.execute(statement).fetchall(), statement
                done["sql"] += 1
        db.close()
    return done
