"""What a shell sees of `nearsql`: exit codes, closed pipes, full disks, ids on standard input, UTF-8, no bars."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql.pipeline import cli
from nearsql.pipeline.replay import replay
from nearsql.pipeline.runs import run
from nearsql.udfs import dbapi

PROGRAM = [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()"]


def in_bash(script: str, *words: str | Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a script in which `nearsql` is the command, and $1, $2, ... the words."""
    done = f'nearsql() {{ "{sys.executable}" -c "{PROGRAM[2]}" "$@"; }}; {script}'
    return subprocess.run(
        ["bash", "-c", done, "bash", *map(str, words)],
        capture_output=True,
        env={**os.environ, **env},
    )


@pytest.fixture
def ten(db: dbapi.Connection, add_space) -> dbapi.Connection:
    """The open database of the test, with 20 items in the space `s`."""
    add_space("s", np.random.default_rng(0).normal(size=(20, 4)))
    return db


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sql", "FILE", "select 1"], 0, ""),
        (["--help"], 0, ""),
        (["sql", "FILE", "select"], 1, "nearsql: incomplete input\n"),
        (["runs", "nowhere.db"], 1, "nearsql: there is no file nowhere.db"),
        (["replay", "FILE", "9"], 1, "no run 9"),
        (["nope"], 2, "No such command 'nope'"),
        (["sql", "FILE", "select 1", "--nope"], 2, "No such option"),
        (["replay", "FILE", "first"], 2, "'first' is not a valid integer"),
        (["sql", "FILE", "select '\udcff'"], 1, "nearsql: not UTF-8: \"select '\\udcff'\""),
    ],
)
def test_exit_codes(
    words: list[str], code: int, said: str, database: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([str(database) if word == "FILE" else word for word in words])
    assert (ended.value.code or 0) == code
    err = capfd.readouterr().err
    assert said in err if said else err == ""
    assert "Traceback" not in err


def test_a_check_that_finds_something_ends_with_1(
    ten: dbapi.Connection, database: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for code in (0, 1):
        with pytest.raises(SystemExit) as ended:
            cli.main(["check", str(database), "--format", "nl"])
        assert (ended.value.code or 0) == code, capfd.readouterr()
        ten.execute(
            "update vectors set vector = x'0000c07f000000000000000000000000' where item_id = 3"
        )
        ten.commit()


@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        ("sql $1 'select 1'", ""),  # fails when it ends
        ("sql $1 'select 1'", "1"),  # fails when it writes
        ("--help", ""),
        ("check $1", ""),
    ],
)
def test_a_closed_pipe_is_quiet_however_little_was_to_be_written(
    command: str, unbuffered: str, database: Path
) -> None:
    done = in_bash(
        f"nearsql {command} | true; echo ${{PIPESTATUS[0]}} >&2",
        database,
        PYTHONUNBUFFERED=unbuffered,
    )
    # What a command tells a person is told before.
    assert done.stderr.splitlines()[-1:] == [b"141"], done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("format_", ["table", "json", "nl", "csv"])
def test_a_closed_stream_is_as_an_empty_one(format_: str, database: Path) -> None:
    written = in_bash(f'nearsql sql "$1" "select 1" --{format_} >&-', database)
    assert (written.returncode, written.stderr) == (0, b"")
    unsaid = in_bash(f'nearsql sql "$1" "select 1" --{format_} 2>&-', database)
    assert unsaid.returncode == 0
    assert unsaid.stdout
    unread = in_bash(f'nearsql sql "$1" - --{format_} <&-', database)
    assert b"Traceback" not in unread.stderr


def test_nobody_reading_what_is_said_is_quiet_too(database: Path) -> None:
    done = in_bash(
        "nearsql select $1 --list 2>&1 >/dev/null | true; echo ${PIPESTATUS[0]}", database
    )
    assert (done.stdout, done.stderr) == (b"141\n", b"")


def test_a_server_that_hangs_up_is_not_quiet(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from nearsql.pipeline.commands import functions

    def hung_up(**_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(functions.command, "callback", hung_up)
    with pytest.raises(ConnectionError, match="a connection was closed"):
        cli.main(["functions"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_a_sentence(unbuffered: str, database: Path) -> None:
    script = "nearsql sql $1 'select 1' --csv > /dev/full"
    done = in_bash(script, database, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert re.fullmatch(rb"nearsql: [a-z ]+: No space left on device\n", done.stderr)


def test_text_is_utf8_whatever_the_locale(database: Path) -> None:
    done = in_bash(
        "nearsql sql $1 - --nl <<< \"select 'é日' as word\"; printf '\\xe9' | nearsql sql $1 -",
        database,
        LC_ALL="C",
        PYTHONCOERCECLOCALE="0",
        PYTHONUTF8="0",
    )
    assert done.stdout.decode("utf-8") == '{"word": "é日"}\n'
    assert done.stderr == b"nearsql: standard input is not UTF-8 text (byte 0)\n"


@pytest.mark.parametrize(
    "given",
    [
        "".join(f'{{"item_id": {i}, "id": 99}}\n' for i in (13, 2, 3, 5, 8)),
        "id,why\n2,a\n3,b\n5,c\n8,d\n13,e\n",
    ],
)
def test_within_takes_ids_from_standard_input(
    given: str, ten: dbapi.Connection, database: Path
) -> None:
    words = ["project", str(database), "s", "--method", "pca", "--within", "-"]
    done = CliRunner().invoke(cli.cli, words, input=given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    items = [i for (i,) in ten.execute("select item_id from projection_points order by 1")]
    assert items == [2, 3, 5, 8, 13]
    made, recorded = ten.execute("select id, parameters_json from runs").fetchone()
    # As they are: standard input cannot be asked again.
    assert sorted(json.loads(json.loads(recorded)["within"])) == items
    assert replay(ten, made).is_same


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "names no items"),
        ("two", "--within: 'two' is no item id"),
        ('{"name": 2}', "--within: null is no item id"),
        ("[1, 2", "--within is not valid JSON"),
        (b"\xe9", "standard input is not UTF-8 text"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(
    given: str | bytes, sentence: str, ten: dbapi.Connection, database: Path
) -> None:
    done = CliRunner().invoke(
        cli.cli, ["project", str(database), "s", "--within", "-"], input=given
    )
    assert sentence in str(done.exception)
    assert ten.execute("select count(*) from runs").fetchone() == (0,)


def test_no_selection_is_called_as_standard_input(ten: dbapi.Connection, database: Path) -> None:
    words = ["select", str(database), "-", "--sql", "select 1"]
    assert "stands for standard input" in str(CliRunner().invoke(cli.cli, words).exception)


def test_a_run_is_an_object_for_jq(ten: dbapi.Connection, database: Path) -> None:
    with run(ten, "cluster", parameters={"epsilon": 0.5}, seed=7):
        pass
    words = ["runs", str(database), "1", "--format"]
    found = json.loads(CliRunner().invoke(cli.cli, [*words, "nl"]).output)
    assert (found["kind"], found["parameters"]["epsilon"], found["seed"]) == ("cluster", 0.5, 7)
    (row,) = csv.DictReader(CliRunner().invoke(cli.cli, [*words, "csv"]).output.splitlines())
    assert json.loads(row["parameters_json"])["epsilon"] == 0.5


BUSY = """
from nearsql.pipeline.console import progress
with progress("counting", 3) as p:
    for _ in range(3):
        p.advance()
"""


def on_a_terminal(**env: str) -> str:
    """What a little work shows there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **env}
    environment.pop("NO_COLOR" if "NO_COLOR" not in env else "", None)
    subprocess.run([sys.executable, "-c", BUSY], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # all is read
            break
    os.close(ours)
    return shown.decode()


def is_coloured(shown: str) -> bool:
    numbers = [int(n) for n in ";".join(re.findall(r"\x1b\[([\d;]*)m", shown)).split(";") if n]
    return any(30 <= n <= 49 or 90 <= n <= 107 for n in numbers)


def test_a_bar_is_for_terminals_and_colours_for_who_wants_them() -> None:
    plain = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, check=True)
    assert (plain.stdout, plain.stderr) == (b"", b"")
    shown = on_a_terminal()
    assert "counting" in shown
    assert is_coloured(shown)
    shown = on_a_terminal(NO_COLOR="1")
    assert "counting" in shown
    assert not is_coloured(shown)
