"""`nearsql index` on small spaces and wrong arguments; --check on damage; the command."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built_indexes import change, points, rows
from click.testing import CliRunner

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.index import index
from nearsql.pipeline.index import recall as recall_module
from nearsql.pipeline.index.check import check_indexes
from nearsql.udfs import dbapi
from nearsql.udfs.search import memory

Fill = Callable[..., int]


def test_small_spaces(db: dbapi.Connection, add_space: Fill, capsys: Any) -> None:
    add_space("none", np.empty((0, 2)))
    add_space("one", np.ones((1, 2)))
    add_space("two", np.eye(2))
    add_space("same", np.ones((30, 3)), metric="cosine")
    add_space("zeros", np.zeros((5, 3)), metric="cosine")
    names = ["none", "one", "two", "same", "zeros"]
    for engine in ("hnsw", "ivf", "vec0"):
        results = index(db, names, engine)
        assert [r.run_id is None for r in results] == [True, True, False, False, False]
        assert [min(r.recall.values()) for r in results[2:]] == [1.0, 1.0, 1.0]
        for name, n in (("two", 2), ("same", 30), ("zeros", 5)):
            query = f"select id from knn(?, 1, 50) where engine = '{engine}'"
            found = [i for (i,) in db.execute(query, (name,))]
            assert found == list(range(2, n + 1))
    assert "skipped none: it has 0 items, and 2 are needed" in capsys.readouterr().err
    assert all(finding.wrong == 0 for finding in check_indexes(db))


@pytest.mark.parametrize(
    ("spaces", "options", "message"),
    [
        ([], {}, "name the spaces to index"),
        (["t"], {}, "there is no space 't'.*the spaces are s"),
        (["s"], {"engine": "annoy"}, "there is no engine 'annoy': it is hnsw, ivf, vec0"),
        (["s"], {"m": 1}, "m must be at least 2, not 1"),
        (["s"], {"ef_construction": 0}, "ef_construction must be at least 1, not 0"),
        (["s"], {"engine": "ivf", "lists": 0}, "lists must be at least 1, not 0"),
        (["s"], {"engine": "ivf", "lists": 41}, "lists must be at most 40, the vectors of 's'"),
        (["s"], {"seed": -1}, "seed must be at least 0"),
        (["s"], {"threads": -1}, "threads must be at least 1"),
        (["s"], {"recall": 1.5}, "recall and min_recall are shares between 0 and 1"),
        (["s"], {"recall": 0.5}, "not recall 0.5 with min_recall 0.95"),
    ],
)
def test_refusals(
    db: dbapi.Connection, add_space: Fill, spaces: list[str], options: Any, message: str
) -> None:
    add_space("s", points(40))
    with pytest.raises((UserError, ValueError), match=message):
        index(db, spaces, **options)
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_too_little_memory(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(1000))
    monkeypatch.setenv(memory.MEMORY_VARIABLE, "50kB")
    with pytest.raises(UserError, match=r"needs about 0\.\d+ MB of memory, more than the 0.05 MB"):
        index(db, ["s"], "hnsw")
    (result,) = index(db, ["s"], "vec0")
    assert result.recall == {1: 1.0, 10: 1.0, 100: 1.0}


def damage(db: dbapi.Connection, sql: str) -> None:
    db.execute("pragma foreign_keys = off")
    db.execute(sql)
    db.commit()


@pytest.mark.parametrize(
    ("sql", "check", "detail"),
    [
        ("delete from vector_index_chunks where part = 2", "bytes", "part 2 is missing"),
        (
            "delete from vector_index_chunks where part = 5",
            "bytes",
            "bytes is 16416, and 16632 was recorded",
        ),
        (
            "update vector_index_chunks set chunk_number = 1 where part = 0",
            "bytes",
            "part 0 has 1 chunks, not 2",
        ),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part = 0",
            "bytes",
            "head_sha256 is",
        ),
        (
            "update vector_index_chunks set data = substr(data, 9) where part = 1",
            "bytes",
            "part 1 has 2,392 bytes, not 8 for each of 300",
        ),
        ("update vector_indexes set bytes = 1", "bytes", "bytes is"),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part = 2",
            "items",
            "item 1 is not in the space, or in another row than 0",
        ),
        ("delete from vector_changes", "changes", "the log does not reach back"),
        (
            """update vector_indexes set parameters_json
            = replace(parameters_json, '"effort": ', '"effort": 1, "was": ')""",
            "recall",
            "and knn asks for 0.95",
        ),
    ],
)
def test_check_finds_damage(
    db: dbapi.Connection, add_space: Fill, small_samples: None, sql: str, check: str, detail: str
) -> None:
    add_space("s", points(300))
    index(db, ["s"], "ivf", lists=60)
    if "changes" in sql:
        change(db)
    assert all(finding.wrong == 0 for finding in check_indexes(db) if "changes" not in sql)
    damage(db, sql)
    wrong = {f.check.split()[0]: f.detail or "" for f in check_indexes(db) if f.wrong}
    assert detail in wrong[check]


def run_cli(*words: object) -> Any:
    return CliRunner().invoke(cli, ["index", *map(str, words)])


def test_the_command(
    db: dbapi.Connection, database: Path, add_space: Fill, small_samples: None
) -> None:
    add_space("it's", points(1200))
    made = run_cli(database, "it's", "--seed", 4)
    assert made.exit_code == 0, made.output
    assert "run 1: hnsw index of it's" in made.stderr
    assert "to build" in made.stderr
    (next_line,) = [line for line in made.stderr.splitlines() if "next:" in line]
    _, command = next_line.split("next: ")
    asked = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--csv"])
    assert len(asked.stdout.splitlines()) == 11
    again = run_cli(database, "it's", "--seed", 4)
    assert "nothing to do: run 1 made this hnsw index of it's" in again.stderr
    change(db)
    table = run_cli(database, "--list")
    assert "changed since" in table.stdout
    (line,) = run_cli(database, "--list", "--nl").stdout.splitlines()
    listed = json.loads(line)
    assert listed["space"] == "it's"
    assert (listed["n"], listed["changed"], listed["engine"]) == (1200, 1, "hnsw")
    assert json.loads(run_cli(database, "--list", "--json").stdout) == [listed]
    assert run_cli(database, "--list", "--csv").stdout.splitlines()[0].startswith("space,engine,n")
    assert run_cli(database, "--list", "--format", "nl").stdout == line + "\n"
    checked = run_cli(database, "--check")
    assert checked.exit_code == 0, checked.output
    assert "all 4 checks are as they should be" in checked.stderr
    damage(db, "delete from vector_index_chunks where part = 1")
    wrong = run_cli(database, "--check", "--nl")
    assert wrong.exit_code == 1
    assert json.loads(wrong.stdout.splitlines()[0])["wrong"] > 0
    dropped = run_cli(database, "it's", "--drop")
    assert "removed the hnsw index of it's" in dropped.stderr
    assert rows(db) == []
    assert db.execute("select count(*) from vector_index_chunks").fetchone() == (0,)
    assert "there is no index" in run_cli(database, "--list").stderr


def test_an_index_that_finds_too_little_is_stored_and_refused(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_space("s", np.random.default_rng(0).normal(size=(1500, 32)).astype(np.float32))
    monkeypatch.setattr(recall_module, "_MOST_EF", 4)
    monkeypatch.setattr(recall_module, "_MOST_CANDIDATES", 2)
    made = run_cli(database, "s", "--m", 2, "--ef-construction", 1)
    assert made.exit_code == 1
    (said,) = [line for line in made.stderr.splitlines() if "knn refuses it" in line]
    assert "Build it with a larger --m and --ef-construction" in said
    with pytest.raises(dbapi.OperationalError, match=r"less than the 95\.0% that it must"):
        db.execute("select * from knn('s', 1, 10)").fetchall()
    assert len(db.execute("select * from knn('s', 1, 10) where exact = 1").fetchall()) == 10
    lowered = said.split("lower the bar: ")[1].split("; or remove")[0]
    assert (
        CliRunner()
        .invoke(cli, [*shlex.split(lowered)[1:], "--m", "2", "--ef-construction", "1"])
        .exit_code
        == 0
    )
    assert len(rows(db)) == 1
    assert len(db.execute("select * from knn('s', 1, 10)").fetchall()) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "--check"], "--list, --check and --drop exclude each other"),
        ([], "name the spaces to index"),
        (["--drop"], "there is no such index to drop: the indexes are hnsw of s"),
        (["s", "--drop", "--engine", "ivf"], "the indexes are hnsw of s"),
        (["t", "--list"], "there is no space 't'"),
        (["t", "--check"], "there is no space 't'"),
        (["t", "--drop"], "there is no space 't'"),
        (["one"], "no index was built: see above for the reasons"),
    ],
)
def test_refusals_of_the_command(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    words: list[str],
    message: str,
) -> None:
    add_space("s", points(50))
    add_space("one", np.ones((1, 2)))
    index(db, ["s"])
    done = run_cli(database, *words)
    assert message in str(done.exception)
    assert len(rows(db)) == 1
