"""docs/export.md and docs/diff.md are true: what stands there runs, in the order in which it stands."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from served import site

from nearsql.pipeline.cli import cli
from nearsql.udfs import connection

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "export.md").read_text(encoding="utf-8")
DIFF = (DOCS / "diff.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(example_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("export")
    shutil.copy(example_database, made)
    return made


def test_everything_on_the_page_of_exports_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    commands = re.findall(r"^    ((?:nearsql|jq) .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 9
    for command in commands:
        words = shlex.split(command)
        if words[0] == "nearsql":
            outcome = CliRunner().invoke(cli, words[1:])
            assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
        else:
            asked = subprocess.run(words, capture_output=True, text=True, check=True)
            assert asked.stdout.split()
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    import matplotlib as mpl

    mpl.use("Agg")
    (folder / "plot.py").write_text(program, encoding="utf-8")
    found = runpy.run_path(str(folder / "plot.py"))
    assert [set(layer) for layer in found["layers"]] == [set(found["data"]["names_1"])]
    assert (
        len(found["layers"][0]) == len(found["hover"]) == len(found["data"]["coordinates"]) > 1000
    )
    assert "<html" in (folder / "map.html").read_text("utf-8").lower()
    _check_the_example(folder)


def _check_the_example(folder: Path) -> None:
    """The object on the page has the keys that the files have."""
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(example)
    written = json.loads((folder / "one-map" / "items.json").read_text("utf-8"))[0]
    assert list(shown) == list(written)
    for name in ("maps", "clusters"):
        assert [list(entry) for entry in shown[name]] == [list(entry) for entry in written[name]]
    assert [m["run"] for m in shown["maps"]] == [m["run"] for m in written["maps"]]
    assert [c["run"] for c in shown["clusters"]] == [c["run"] for c in written["clusters"]]


def test_everything_on_the_page_of_diffs_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "digits.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    # A block of text is what the command before it says.
    said, commands, blocks = "", 0, 0
    for command, shown in re.findall(
        r"^    nearsql ([^\n]*)$|^```text\n(.*?)```", DIFF, re.MULTILINE | re.DOTALL
    ):
        if command:
            outcome = CliRunner().invoke(cli, shlex.split(command))
            assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
            assert outcome.output
            said = outcome.stdout + outcome.stderr
            commands += 1
        else:
            assert said == shown
            blocks += 1
    assert (commands, blocks) == (15, 4)
    db = connection.connect("digits.db", read_only=True)
    (block,) = re.findall(r"```sql\n(.*?)```", DIFF, re.DOTALL)
    statements = [statement for statement in block.split(";") if statement.strip()]
    assert len(statements) == 9
    for statement in statements:
        assert db.execute(statement).fetchall(), statement
    db.close()
    addresses = re.findall(r"`(/-/nearsql/digits/diff\?[^`]*)`", DIFF)
    assert len(addresses) == 2
    with site(tmp_path / "digits.db", settings={"sql_time_limit_ms": 30000}) as served:
        for address in addresses:
            page = served.get(address)
            assert (page.status_code, 'class="numbers"' in page.text) == (200, True), page.text
