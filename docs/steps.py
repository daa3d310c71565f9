"""Runs the steps of a page in Bash, and compares what they say with what stands below them.

A step is a block of `sh` and, right below it, a block of `text`: everything that it writes, to standard output
and to standard error, in the order of a terminal. `…` stands for what differs from machine to machine.

`python -m docs.steps PAGE` runs a page in an empty folder and prints what differs; `--write` puts what was said into
the page, too. Lines that `…` still fits stay; in new ones it is yours to set.
"""

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_STEP = re.compile(r"```sh\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
# Only slow machines see it: a line every five seconds, where there is no terminal for a bar.
_PROGRESS = re.compile(r"^.*: [\d,]+ of [\d,]+, about \d+ s left\n", re.MULTILINE)


class Step(NamedTuple):
    """A script, what the page shows below it, what it really said, and its exit code."""

    script: str
    shown: str
    said: str
    code: int

    @property
    def is_as_shown(self) -> bool:
        """Whether it went well, and said what is shown."""
        return self.code == 0 and _fits(self.shown, self.said)

    @property
    def to_show(self) -> str:
        """What was said, with the `…` of what is shown now where they fit."""
        kept = [line for line in self.shown.splitlines() if "…" in line]
        lines = (next((k for k in kept if _fits(k, line)), line) for line in self.said.splitlines())
        return "".join(f"{line}\n" for line in lines)


def run_steps(page: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Step]:
    """Runs every step of the page in the folder, one after the other, with this environment besides."""
    # `nearsql`, `datasette` and `sqlite-utils` are those that this Python has.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for script, shown in _STEP.findall(page):
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            check=False,  # a step says how it ended
            cwd=folder,
            # Unbuffered, what is written to both arrives in the order in which it was written.
            env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        yield Step(script, shown, _without_progress(done.stdout), done.returncode)


def _fits(shown: str, said: str) -> bool:
    return re.fullmatch("[^\n]*".join(map(re.escape, shown.split("…"))), said) is not None


def count_scripts(page: str) -> int:
    """How many blocks of `sh` the page has, with something below them or not."""
    return page.count("```sh\n")


def _without_progress(said: str) -> str:
    """What is left where there was time enough; no line ends in spaces, as no line of a page may."""
    return re.sub(r" +$", "", _PROGRESS.sub("", said), flags=re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--write", action="store_true", help="put what was said into the page")
    arguments = parser.parse_args()
    page = arguments.page.read_text(encoding="utf-8")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for step in run_steps(page, Path(folder), {}):
            if step.code:
                sys.exit(f"exit code {step.code}:\n{step.script}\n{step.said}")
            if not step.is_as_shown:
                wrong += 1
                page = page.replace(
                    f"```sh\n{step.script}```\n```text\n{step.shown}```",
                    f"```sh\n{step.script}```\n```text\n{step.to_show}```",
                )
                lines = difflib.ndiff(step.shown.splitlines(), step.said.splitlines())
                print(step.script, *lines, sep="\n", end="\n\n")
    if arguments.write:
        arguments.page.write_text(page, encoding="utf-8")
        return 0
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
