"""docs/shell.md is true: its pipelines run in Bash as they stand, and print what stands below them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "shell.md").read_text(encoding="utf-8")
# A script, and what it prints.
STEPS = re.findall(r"```sh\n(.*?)```\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_pipeline_prints_what_the_page_says(example_database: Path, tmp_path: Path) -> None:
    shutil.copy(example_database, tmp_path)
    # `nearsql`, `datasette` and `sqlite-utils` are those that this Python has.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for script, printed in STEPS:
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            encoding="utf-8",
        )
        assert (done.returncode, done.stdout) == (0, printed), (script, done.stderr)
        # Standard error is for people: sentences and facts, no bars, no colours, no faults.
        assert not re.search(r"\r|\x1b|Traceback|Error|nearsql: ", done.stderr), done.stderr


def test_there_are_ten_pipelines_and_all_are_run() -> None:
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", PAGE, re.MULTILINE)]
    assert numbers == list(range(1, 11))
    assert len(STEPS) == PAGE.count("```sh\n") == 11
    ten = [script for script, _ in STEPS[1:]]
    assert all(re.search(r" \|(?= |\n)", script) for script in ten)
    for program in ("jq", "sqlite-utils insert", "datasette", "sort", "xargs -P"):
        assert any(program in script for script in ten), program
