"""docs/plots.md is true: what stands there runs, in the order in which it stands."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nearsql.pipeline.cli import cli

PAGE = (Path(__file__).parents[2] / "docs/plots.md").read_text(encoding="utf-8")


def test_everything_on_the_page_runs(
    example_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(example_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    nearsql (.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 9
    for command in commands:
        words = shlex.split(command)
        outcome = CliRunner().invoke(cli, words)
        assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
        assert Path(words[words.index("--to") + 1]).stat().st_size > 5000, command
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    Path("plot.py").write_text(program, encoding="utf-8")
    runpy.run_path("plot.py")
    svg = Path("accuracy.svg").read_text("utf-8")
    assert ">0.90<" in svg
    (shell,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    words = f"{shlex.quote(sys.executable)} -c 'from nearsql.pipeline.cli import main; main()'"
    done = subprocess.run(
        shell.replace("nearsql", words, 1), shell=True, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    lines = Path("accuracy.csv").read_text("utf-8").splitlines()
    assert (lines[0], len(lines)) == ("k,weighting,value", 10)
