"""What Tab offers: by the words that shells exchange with click, and in a real Bash."""

import os
import pty
import select
import shlex
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nearsql.pipeline import cli, completions
from nearsql.pipeline.completions import SHELLS, VALUES, Ask, rows
from nearsql.pipeline.runs import run
from nearsql.udfs import dbapi

NAMES = ("red birds", "*", 'a;b $(x) "q"', "naïve")


@pytest.fixture
def named(db: dbapi.Connection, add_space, database: Path, monkeypatch) -> Path:
    """`test.db` in the current folder: spaces with colons, runs, selections with names of any kind."""
    add_space("clip:ViT-B-32", np.eye(3))
    add_space("clip:ViT-L", np.eye(3))
    add_space("pixels", np.eye(3))
    for name in NAMES:
        db.execute("insert into selections (name, how, note) values (?, 'ids', 'a, b')", (name,))
    db.execute("insert into item_labels values (1, 'species', 'wren', 'table')")
    db.commit()
    for kind in ("cluster", "project", "detect", "cluster"):
        with run(db, kind, parameters={}):
            pass
    monkeypatch.chdir(database.parent)
    return database


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Asks as a shell does: gives the lines of the answer."""

    def ask(shell: str, **env: str) -> list[str]:
        for name, value in {"_NEARSQL_COMPLETE": f"{shell}_complete", **env}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main([])
        assert ended.value.code == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out.splitlines() if out.strip() else []

    return ask


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [
        ("nearsql clu", "clu", ["cluster"]),
        ("nearsql sql te", "te", None),  # a file: Bash's own affair
        ("nearsql cluster test.db p", "p", ["pixels"]),
        ("nearsql cluster $HERE/test.db p", "p", ["pixels"]),
        ("nearsql cluster test.db ", "", [r"clip:ViT-B-32", "clip:ViT-L", "pixels"]),
        # Bash takes what follows the colon for the word.
        ("nearsql cluster test.db clip:V", "V", ["ViT-B-32", "ViT-L"]),
        ("nearsql cluster test.db clip:", ":", ["ViT-B-32", "ViT-L"]),
        ("nearsql cluster test.db 'clip:V", "'clip:V", ["clip:ViT-B-32", "clip:ViT-L"]),
        ("nearsql cluster test.db pixels clip:ViT-B-32 ", "", ["clip:ViT-L"]),  # others than those
        ("nearsql failures test.db --space=clip:V", "V", ["ViT-B-32", "ViT-L"]),
        ("nearsql label test.db ", "", ["4", "1"]),
        ("nearsql assign test.db ", "", ["4", "1"]),
        ("nearsql share test.db --map ", "", ["2"]),
        ("nearsql replay test.db ", "", ["4", "3", "2", "1"]),
        ("nearsql project test.db pixels --into ", "", ["2"]),
        ("nearsql loss-distance test.db ", "", ["3"]),
        ("nearsql export test.db --run ", "", ["4", "2", "1"]),
        ("nearsql diff test.db 4 ", "", ["3", "1", "clip:ViT-B-32", "clip:ViT-L", "pixels"]),
        ("nearsql evaluate test.db pixels --label s", "s", ["species"]),
        ("nearsql embed test.db --collection ", "", ["tests"]),
        ("nearsql export test.db --within ", "", [r"\*", r"a\;b\ \$\(x\)\ \"q\"", "naïve", r"red\ birds"]),
        ("nearsql export test.db --within red\\ b", "red\\ b", [r"red\ birds"]),
        ('nearsql export test.db --within "a', '"a', [r"a;b \$(x) \"q\""]),
        ("nearsql select test.db --drop n", "n", ["naïve"]),
        ("nearsql completion ", "", list(SHELLS)),
        ("nearsql ingest test.db birds --label ", "", []),
    ],
)  # fmt: skip
def test_bash(
    line: str, word: str, offered: list[str] | None, named: Path, asked, monkeypatch
) -> None:
    monkeypatch.setenv("HERE", str(named.parent))
    expected = ["file,te"] if offered is None else [f"plain,{value}" for value in offered]
    assert asked("bash", COMP_LINE=line, COMP_WORD=word) == expected


def test_zsh_and_fish(named: Path, asked) -> None:
    spaces = "3 dimensions"
    assert asked("zsh", COMP_WORDS="nearsql cluster test.db clip:ViT-L", COMP_CWORD="3") == [
        *["plain", r"clip\:ViT-L", f"embedding of {spaces}"]
    ]
    answer = asked("zsh", COMP_WORDS="nearsql label test.db ", COMP_CWORD="3")
    assert [answer[0], answer[1], answer[4]] == ["plain", "4", "1"]
    assert answer[2].startswith("cluster at 20")
    words = {"COMP_WORDS": "nearsql export test.db --within re", "COMP_CWORD": "re"}
    assert asked("fish", **words) == ["plain,red birds\ta; b"]


def test_what_cannot_be_read_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_SECONDS", 0.2)
    ask = Ask("select name, null from spaces")
    (tmp_path / "text.db").write_text("not a database, but some words" * 50)
    os.mkfifo(tmp_path / "pipe.db")
    for name in ("nowhere.db", "text.db", "pipe.db", "."):
        assert rows(str(tmp_path / name), ask) == []
    hostile = tmp_path / "hostile.db"
    raw = sqlite3.connect(hostile)
    raw.execute(
        "create view spaces as with recursive n(i) as (select 1 union all select i + 1 from n)"
        " select max(i) as name from n"
    )
    raw.execute("create table selections (name, note)")
    raw.executemany(
        "insert into selections values (?, ?)",
        [("a\x1b[2J", "x"), ("b\nrm", "x"), ("", "x"), (None, "x"), ("good", "\x1b[2J"), (7, 8)],
    )
    raw.commit()
    raw.close()
    started = time.monotonic()
    assert rows(str(hostile), ask) == []
    assert time.monotonic() - started < 5
    found = rows(str(hostile), Ask("select name, note from selections"))
    assert found == [("good", None), ("7", "8")]


def test_every_question_can_be_asked(named: Path) -> None:
    for key, asks in VALUES.items():
        for ask in asks:
            assert rows(str(named), ask) or ask.kinds == ("loss-distance",), key
        command, parameter = key
        names = [command] if command else list(cli.COMMANDS)
        there = [
            p.name for name in names for p in cli.cli.get_command(None, name).params  # type: ignore
        ]  # fmt: skip
        assert parameter in there, key


def test_each_shell_gets_a_script(capfd: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        with pytest.raises(SystemExit) as ended:
            cli.main(["completion", shell])
        assert not ended.value.code
        script = capfd.readouterr().out
        assert f"_NEARSQL_COMPLETE={shell}_complete" in script


def test_a_real_bash_completes(named: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "nearsql"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "from nearsql.pipeline.cli import main; main()" "$@"\n'
    )
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "dumb"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(named.parent)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**env, "PS1": "> "})
    try:
        type_in(terminal, 'source <(nearsql completion bash); echo rea""dy\n', "ready")
        for typed, completed in (
            ("true | nearsql cluster ./te\t", "./test.db"),
            ("nearsql cluster test.db clip:ViT-B\t", "clip:ViT-B-32 "),
            ('nearsql export test.db --within "red\t', '"red birds" '),
        ):
            type_in(terminal, typed, completed)
            os.write(terminal, b"\x15")  # away with the line
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def type_in(terminal: int, typed: str, expected: str) -> None:
    """Types, and waits for what shall appear."""
    os.write(terminal, typed.encode())
    shown, end = b"", time.monotonic() + 30
    while expected.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"after {typed!r} there was {shown!r}, and no {expected!r}"
        shown += os.read(terminal, 65536).replace(b"\a", b"")
