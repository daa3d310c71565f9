"""What the documents say is true: generated pages are up to date, and README's SQL runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs import generate
from nearsql.pipeline import cli
from nearsql.udfs import connection

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_pages_are_up_to_date(
    example_database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, on the database that other tests read, too: both take a while to make."""
    monkeypatch.setattr(generate, "build", lambda path: shutil.copy(example_database, path))
    monkeypatch.setattr(sys, "argv", ["docs.generate", "--check"])
    # Click keeps the help option of a command's first call, which in a test may have been without its group.
    for name in cli.COMMANDS:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        monkeypatch.setattr(command, "_help_option", None)
    assert generate.main() == 0, capsys.readouterr().err


def test_readme_sql_gives_rows(example_database: Path) -> None:
    db = connection.connect(example_database, read_only=True)
    blocks = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
    statements = [s for block in blocks for s in block.split(";") if s.strip()]
    assert len(statements) >= 5
    for statement in statements:
        assert db.execute(statement).fetchone() is not None, statement
    db.close()


def test_readme_python_runs(example_database: Path, tmp_path: Path) -> None:
    shutil.copy(example_database, tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_readme_names_only_commands_that_exist() -> None:
    for name in re.findall(r"^    nearsql ([\w-]+)", README, re.MULTILINE):
        assert name in cli.COMMANDS


def test_documents_link_to_files_that_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    places = [
        re.escape(f"{path}/") for path in (ROOT, ROOT.parent, Path.home()) if path != Path("/")
    ]
    pattern = re.compile("|".join([*places, r"://[\w.]*py" + r"pi\."]))
    for name in listed:
        file = ROOT / name
        if (
            file.suffix in {".py", ".md", ".sql", ".toml", ".html", ".js", ".css"}
            or not file.suffix
        ):
            found = pattern.search(file.read_text(encoding="utf-8"))
            assert not found, f"{name}: {found}"
