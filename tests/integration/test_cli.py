"""The `nearsql` command as a person and a pipe meet it."""

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nearsql import migrations
from nearsql.pipeline import cli
from nearsql.udfs import connection, dbapi

ROOT = Path(__file__).parents[2]


def nearsql(*args: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()", *map(str, args)],
        capture_output=True,
        text=True,
        input=stdin,
    )


def test_sql_writes_each_format(database: Path, db: dbapi.Connection, add_space) -> None:
    add_space("s", [[0.0, 0.0], [3.0, 4.0]])
    query = "select id, distance, null as missing, 'é' as word from knn('s', 1, 5)"
    assert "NULL" in nearsql("sql", database, query).stdout
    rows = json.loads(nearsql("sql", database, query, "--json").stdout)
    assert rows == [{"id": 2, "distance": 5.0, "missing": None, "word": "é"}]
    assert [
        json.loads(x) for x in nearsql("sql", database, query, "--nl").stdout.splitlines()
    ] == rows
    lines = list(csv.reader(io.StringIO(nearsql("sql", database, query, "--csv").stdout)))
    assert lines == [["id", "distance", "missing", "word"], ["2", "5.0", "", "é"]]


def test_empty_results_are_valid_in_each_format(database: Path) -> None:
    query = "select 1 as a where 0"
    assert json.loads(nearsql("sql", database, query, "--json").stdout) == []
    assert nearsql("sql", database, query, "--nl").stdout == ""
    assert nearsql("sql", database, query, "--csv").stdout.splitlines() == ["a"]


def test_duplicate_columns_and_blobs_survive_json(database: Path) -> None:
    out = nearsql("sql", database, "select 1 as a, 2 as a, x'00ff' as b", "--json").stdout
    assert json.loads(out) == [{"a": 1, "a_2": 2, "b": {"$base64": True, "encoded": "AP8="}}]


def test_rows_go_through_jq_into_sqlite_utils(
    database: Path, db: dbapi.Connection, add_space, tmp_path: Path
) -> None:
    add_space("s", [[0.0], [1.0], [5.0]])
    query = "select id, distance, vector('[1]') as v from knn('s', 1, 2)"
    lines = nearsql("sql", database, query, "--nl").stdout
    jq = subprocess.run(
        ["jq", "-c", "select(.distance > 2)"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    target = tmp_path / "target.db"
    subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "insert", str(target), "far", "-", "--nl"],
        input=jq.stdout,
        text=True,
        check=True,
    )
    assert sqlite3.connect(target).execute("select * from far").fetchall() == [
        (3, 5.0, b"\x00\x00\x80?")
    ]


def test_a_closed_pipe_is_quiet(database: Path) -> None:
    many = "with recursive n(i) as (select 1 union all select i + 1 from n limit 200000) select i from n"
    done = subprocess.run(
        f"{sys.executable} -c 'from nearsql.pipeline.cli import main; main()' sql {database} "
        f"'{many}' --csv | head -2",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["i", "1"]
    assert done.stderr == ""


def test_parameters_and_standard_input(database: Path) -> None:
    query = "select :a + 1 as a, typeof(:b) as b, typeof(:c) as c"
    out = nearsql(
        "sql",
        database,
        "-",
        "--json",
        *["-p", "a", "41", "-p", "b", "nan", "-p", "c", "1e3"],
        stdin=query,
    ).stdout
    assert json.loads(out) == [{"a": 42, "b": "text", "c": "real"}]


def test_sql_is_read_only_unless_asked(database: Path) -> None:
    insert = "insert into selections (name, how) values ('a', 'ids')"
    refused = nearsql("sql", database, insert)
    assert (refused.returncode, refused.stderr) == (
        1,
        "nearsql: attempt to write a readonly database\n",
    )
    assert nearsql("sql", database, insert, "--write").returncode == 0
    assert nearsql("sql", database, "select name from selections", "--csv").stdout == "name\na\n"


def test_the_shell_has_the_functions(database: Path) -> None:
    done = nearsql("sql", database, stdin="select vector_dimensions(vector('[1,2,3]'));\n.quit\n")
    assert done.stdout.strip() == "3"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.write_bytes(b"not a database " * 100), "is not an SQLite database"),
        (
            lambda path: sqlite3.connect(path).execute("create table t (a)"),
            "not a nearsql database",
        ),
        (
            lambda path: _with_version(path, migrations.latest_version() + 1),
            "newer than the .* upgrade nearsql",
        ),
        (lambda path: _with_version(path, 1), "run `nearsql migrate"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, make, sentence: str) -> None:
    path = tmp_path / "x.db"
    make(path)
    for args in (("sql", path, "select 1"), ("runs", path), ("replay", path, "1")):
        done = nearsql(*args)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert re.search(sentence, done.stderr), done.stderr
    assert path.exists() == (sentence != "there is no file")


def _with_version(path: Path, version: int) -> None:
    connection.create(path).close()
    db = sqlite3.connect(path)
    db.execute(f"pragma user_version = {version}")
    db.commit()
    db.close()


def test_migrate_by_either_tool_gives_the_same_database(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    listed = nearsql("migrate", ours, "--list").stdout.splitlines()
    assert len(listed) == migrations.latest_version()
    assert all(line.startswith("pending  ") for line in listed)
    assert not ours.exists()
    assert nearsql("migrate", ours).stdout.splitlines() == [
        line.replace("pending", "applied") for line in listed
    ]
    again = nearsql("migrate", ours)
    assert (again.stdout, "nothing to do" in again.stderr) == ("", True)
    subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "migrate", str(theirs), str(ROOT / "migrations")],
        check=True,
        capture_output=True,
    )
    assert dump(ours) == dump(theirs)
    assert nearsql("migrate", theirs, "--list").stdout == nearsql("migrate", ours, "--list").stdout


def dump(path: Path) -> list[object]:
    db = sqlite3.connect(path)
    return [
        db.execute("pragma user_version").fetchone(),
        db.execute("pragma application_id").fetchone(),
        db.execute("select migration_set, name from _sqlite_migrations order by id").fetchall(),
        db.execute("select type, name, sql from sqlite_schema order by name").fetchall(),
    ]


def test_a_failed_step_leaves_the_file_at_the_step_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "half.db"
    db = connection.connect(path)
    db.execute("create view clustering_results as select 1")  # stands in the way of 0012
    db.commit()
    from sqlite_utils import Database

    from nearsql.migrations.migrations import migration

    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migration.apply(Database(db, execute_plugins=False))
    assert db.execute("pragma user_version").fetchone() == (11,)
    db.execute("drop view clustering_results")
    db.commit()
    steps = [f.name.removesuffix(".sql") for f in migrations.step_files()]
    assert connection.migrate(db) == steps[11:]
    db.close()


def test_help_lists_every_command_as_it_describes_itself() -> None:
    for name in cli.COMMANDS:
        done = CliRunner().invoke(cli.cli, [name, "--help"])
        assert done.exit_code == 0, done.output
    listing = nearsql("--help").stdout
    for name, (_, line) in cli.COMMANDS.items():
        assert name in listing
        assert line in listing


def test_unknown_commands_and_functions_are_sentences() -> None:
    assert "No such command 'nope'" in nearsql("nope").stderr
    assert "there is no function 'nope': they are" in nearsql("functions", "nope").stderr
    assert nearsql("functions", "knn").stdout.startswith("knn(space, query[")


def test_sqlite_utils_has_the_functions(database: Path, db: dbapi.Connection, add_space) -> None:
    add_space("s", [[0.0], [1.0]])
    done = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "query", str(database),
         "select id, distance, sqlite_version() as v from knn('s', 1, 5)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [{"id": 2, "distance": 1.0, "v": dbapi.sqlite_version}]


def test_the_stock_shell_reads_the_file(database: Path, db: dbapi.Connection, add_space) -> None:
    add_space("s", [[0.0], [1.0]])
    stock = shutil.which("sqlite3")
    assert stock, "the sqlite3 shell is needed for this test"
    sql = "select item_id, hex(vector) from vectors order by item_id; pragma integrity_check"
    done = subprocess.run([stock, str(database), sql], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1|00000000", "2|0000803F", "ok"]


def test_ctrl_c_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nearsql.pipeline.commands import functions

    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(functions.command, "callback", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["functions"])
    assert ended.value.code == 130
    assert (
        capsys.readouterr().err
        == "nearsql: stopped; what was written is kept, and the same command goes on\n"
    )
