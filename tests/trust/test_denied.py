"""Commands that are denied something: one sentence, nothing half-written, and all is well once it is there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FULL = "full: make room, and run the command again; what was written until now is kept$"
READING = "where reading it needs to put a -shm file: copy it elsewhere"

# Of each denial and command, what it says; None where it can do without, and says what it always does.
SAID: dict[tuple[str, str], str | None] = {
    ("no more pages", "index text"): f"fts5: .*database or disk is {FULL}",
    (
        "no longer files",
        "ingest images",
    ): "disk I/O error: the system would not read or write the file",
    (
        "no longer files",
        "index text",
    ): "disk I/O error: the system would not read or write the file",
    ("only short files", "export"): "cannot write: File too large$",
    ("the file is read-only", "ingest images"): "work.db is read-only: choose a file that can be",
    ("the file is read-only", "export"): None,
    ("the folder is read-only", "ingest images"): f"the folder of work.db is read-only, {READING}",
    ("the folder is read-only", "export"): f"the folder of work.db is read-only, {READING}",
    (
        "the file and its folder are read-only",
        "ingest images",
    ): f"work.db is read-only, and so is its folder, {READING}",
    ("the file becomes read-only", "ingest images"): None,
    ("everything becomes read-only", "ingest images"): None,
}


@pytest.fixture(scope="module")
def denied() -> dict[tuple[str, str], dict[str, Any]]:
    """What came of each; in a process of its own, as it forks."""
    words = [f"{denial}: {pipeline}" for denial, pipeline in SAID]
    done = subprocess.run(
        [sys.executable, "-m", "tests.trust.denied", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not done.stderr, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {(case["denial"], case["pipeline"]): case for case in found}


@pytest.mark.parametrize(("denial", "pipeline"), SAID)
def test_denied_it_says_why_and_leaves_nothing_half_written(
    denied: dict[tuple[str, str], dict[str, Any]], denial: str, pipeline: str
) -> None:
    case = denied[denial, pipeline]
    assert case["faults"] == []
    sentences = [line for line in case["err"].splitlines() if line.startswith("nearsql: ")]
    expected = SAID[denial, pipeline]
    if expected is None:
        assert (case["code"], sentences) == (0, [])
    else:
        assert case["code"] == 1
        assert len(sentences) == 1, case["err"]
        assert re.match(f"nearsql: {expected}", sentences[0]), sentences
        assert "Traceback" not in case["err"]
