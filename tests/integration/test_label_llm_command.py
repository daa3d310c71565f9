"""`nearsql label --method llm` as a process: what it says, and what is left when it is stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_server import ChatServer, Fault
from named import label, rows
from topics import Topics

from nearsql.pipeline import cli
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("llm_home")


# Whoever starts the tests in the background may have them ignore Ctrl-C, and so their children.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from nearsql.pipeline.cli import main
main()
"""


def start(database: Path, topics: Topics, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            COMMAND,
            *("label", str(database), str(topics.run_id)),
            *("--method", "llm", "--model", "tiny", "--backoff", "0.01", *options),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_midway_it_goes_on_and_pays_nothing_twice(
    database: Path, db: dbapi.Connection, topics: Topics, server: ChatServer, how: signal.Signals
) -> None:
    server.slow_s = 0.15
    process = start(database, topics)
    deadline = time.monotonic() + 60
    while len(server.requests) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), said
    kept = rows(db, 2)
    assert 1 <= len(kept) <= 3
    stored = db.execute("select count(*) from llm_responses").fetchone()[0]
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    before = len(server.requests)
    assert stored >= before - 1  # at most the answer under way is lost
    server.slow_s = 0
    assert label(db, topics).counts["named"] == 6
    assert len(server.requests) - before == 12 - stored
    assert rows(db, 2)[: len(kept)] == kept
    assert len(rows(db, 2)) == 6
    assert db.execute("select count(*) from runs").fetchone() == (2,)
    assert replay(db, 2).is_same


def test_the_command_from_question_to_name(
    database: Path,
    db: dbapi.Connection,
    topics: Topics,
    server: ChatServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["label", str(database), str(topics.run_id), "--method", "llm", "--model", "tiny"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--dry-run", "--level", "1"])
    assert ended.value.code == 0
    out, said = capsys.readouterr()
    assert out.count("=== cluster") == 2
    assert "Name a group of 24 items." in out
    assert said.startswith("2 questions of about ")
    assert server.requests == []
    server.faults += [Fault(text="no idea")] * 5
    process = start(database, topics, "--level", "1", "-o", "temperature", "0")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "cluster 0 of level 1: the answer is no JSON object: 'no idea' (asked 5 times)" in said
    assert "1 of 2 clusters" in said
    assert "retries   4" in said
