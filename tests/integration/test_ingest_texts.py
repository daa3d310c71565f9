"""Tables of texts into a collection, from files and from standard input."""

import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nearsql.pipeline import replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import ingest_texts
from nearsql.udfs import connection, dbapi

TABLE = b"""\
page,body,stars,year
3,"a fine
book",5,1999
1,,4,2000
2,a poor book,1,2001
9,a fine book,5,2002
10,a poor book,2,2003
x,no number,2,2004
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_bytes(TABLE)
    return path


def nearsql(*args: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    code = "from nearsql.pipeline.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def texts(db: dbapi.Connection) -> list[tuple[str, int]]:
    return db.execute(
        "select content, sequence_number from items order by sequence_number"
    ).fetchall()


def test_a_table_becomes_items(db: dbapi.Connection, table: Path) -> None:
    result = ingest_texts(db, table, text="body", label="stars", sequence="page")
    assert result.collection == "reviews"
    assert {name: n for name, n in result.counts.items() if n} == {
        "found": 6,
        "new": 3,
        "duplicates": 1,
        "errors": 2,
        "labels": 3,
    }
    items = db.execute(
        "select kind, sha256, uri, content, sequence_number, metadata_json, run_id, width"
        " from items order by id"
    ).fetchall()
    assert items == [
        ("text", sha256(content), f"{table}#line={line}", content, number, metadata, 1, None)
        for content, line, number, metadata in (
            ("a fine\nbook", 2, 3, '{"year": "1999"}'),
            ("a poor book", 5, 2, '{"year": "2001"}'),
            ("a fine book", 6, 9, '{"year": "2002"}'),
        )
    ]
    assert db.execute("select item_id, name, value, source from item_labels").fetchall() == [
        (1, "stars", "5", "table"),
        (2, "stars", "1", "table"),
        (3, "stars", "5", "table"),
    ]
    problems = db.execute("select item_id, uri, stage, message from item_errors").fetchall()
    assert problems == [
        (None, f"{table}#line=4", "read", "line 4: 'body' is empty"),
        (
            2,
            f"{table}#line=7",
            "duplicate",
            f"the same text as item 2 ({table}#line=5); stars is '2' here and '1' there, which is kept",
        ),
        (
            None,
            f"{table}#line=8",
            "read",
            "line 8: 'page' must be a whole number of at least 0, not 'x'",
        ),
    ]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_again_adds_nothing_and_fills_in_labels(db: dbapi.Connection, table: Path) -> None:
    ingest_texts(db, table, text="body")
    before = texts(db)
    again = ingest_texts(db, table, text="body", label="stars")
    assert texts(db) == before
    assert again.counts["new"] == again.counts["duplicates"] == 0
    assert again.counts["known"] == 5
    assert db.execute("select value from item_labels order by item_id").fetchall() == [
        ("5",),
        ("1",),
        ("5",),
        ("2",),
    ]
    with table.open("a") as file:
        file.write("11,one more,3,2005\n")
    assert ingest_texts(db, table, text="body").counts["new"] == 1
    assert texts(db)[-1] == ("one more", len(before))


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_json(db: dbapi.Connection, tmp_path: Path, format: str) -> None:
    rows = [
        {"t": "one", "kind": "a", "n": 4, "nested": {"x": [1, None]}},
        {"t": "two", "kind": 7, "n": 2},
        {"t": "İstanbul'da çay", "kind": True, "n": 3},
        {"t": "four", "kind": None, "n": 5},
        {"t": 5, "n": 6},
        {"t": None, "n": 6},
        {"n": 6},
        {"t": "eight", "n": 2.5},
        {"t": "nine", "kind": ["x"], "n": 7},
        {"t": "nul\0", "n": 8},
        {"t": "half \ud800", "n": 9},
        {"t": "ten", "n": 10, "other": "half \ud800"},
        {"t": "eleven", "n": 2**63},
    ]
    path = tmp_path / f"rows.{format}"
    path.write_text("\n".join(map(json.dumps, rows)) if format == "jsonl" else json.dumps(rows))
    ingest_texts(db, path, text="t", label="kind", sequence="n")
    assert texts(db) == [("two", 2), ("İstanbul'da çay", 3), ("one", 4), ("four", 5)]
    labels = db.execute("select value from item_labels order by item_id").fetchall()
    assert labels == [("a",), ("7",), ("true",)]
    (metadata,) = db.execute("select metadata_json from items where content = 'one'").fetchone()
    assert json.loads(metadata) == {"nested": {"x": [1, None]}}
    place = "line" if format == "jsonl" else "item"
    messages = [m for (m,) in db.execute("select message from item_errors order by id")]
    assert [m.partition(":")[0] for m in messages] == [f"{place} {n}" for n in range(5, 14)]
    for message, words in zip(
        messages,
        (
            "'t' is a number, not a text",
            "'t' is empty",
            "it has no 't': the only column is 'n'",
            "whole number",
            "'kind' is a list, not a label",
            "NUL",
            "not valid Unicode",
            "cannot be kept",
            "whole number",
        ),
        strict=True,
    ):
        assert words in message


def test_a_missing_column_lists_those_there_are(db: dbapi.Connection, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,texts\n1,x\n")
    (tmp_path / "b.csv").write_text("id;text\n1;x\n")
    (tmp_path / "c.jsonl").write_text('{"id": 1, "texts": "x"}\n')
    with pytest.raises(UserError, match="no column 'text': the columns are 'id', 'texts'"):
        ingest_texts(db, tmp_path / "a.csv", text="text")
    with pytest.raises(UserError, match="no column 'label': the columns are 'id', 'texts'"):
        ingest_texts(db, tmp_path / "c.jsonl", text="texts", label="label")
    with pytest.raises(UserError, match="give --delimiter ';'"):
        ingest_texts(db, tmp_path / "b.csv", text="text")
    assert ingest_texts(db, tmp_path / "b.csv", text="text", delimiter=";").counts["new"] == 1
    # What is refused before anything is read leaves no run behind.
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_a_wrong_encoding_ends_the_run_and_the_next_does_the_rest(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    body = "".join(f"text {n}\n" for n in range(600))
    path.write_bytes(b"t\n" + body.encode() + b"caf\xe9\n")
    with pytest.raises(UserError, match=rf"byte {len(body) + 5:,} \(0xe9\) is not utf-8"):
        ingest_texts(db, path, text="t")
    assert db.execute("select status from runs").fetchall() == [("failed",)]
    assert len(texts(db)) == 500  # one whole batch
    assert ingest_texts(db, path, text="t", encoding="cp1252").counts["new"] == 101
    assert texts(db)[-1] == ("café", 600)


def test_replay(db: dbapi.Connection, table: Path) -> None:
    first = ingest_texts(db, table, text="body", label="stars", sequence="page")
    with table.open("a") as file:
        file.write("11,one more,3,2005\n")
    second = ingest_texts(db, table, text="body", label="stars")
    assert replay.replay(db, first.run_id).is_same
    assert replay.replay(db, second.run_id).is_same
    table.write_bytes(TABLE.replace(b"9,a fine book,5", b"9,a fine book,4"))
    assert not replay.replay(db, first.run_id).is_same
    with pytest.raises(replay.CannotReplay, match="1 of the texts"):
        replay.replay(db, second.run_id)
    table.write_bytes(b"other\ncolumns\n")
    with pytest.raises(replay.CannotReplay, match="no column 'body'"):
        replay.replay(db, first.run_id)
    table.unlink()
    with pytest.raises(replay.CannotReplay, match="is gone"):
        replay.replay(db, first.run_id)
    table.mkdir()
    with pytest.raises(replay.CannotReplay, match="not a regular file"):
        replay.replay(db, first.run_id)


def test_the_command_reads_files_and_standard_input(tmp_path: Path, table: Path) -> None:
    file = tmp_path / "t.db"
    done = nearsql("ingest", file, table, "--text", "body", "--label", "stars")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    said = done.stderr.decode()
    assert "run 1: the collection 'reviews' has 4 items" in said
    assert f"{table}: line 4: 'body' is empty" in said
    assert f"next: nearsql embed {file} --model tfidf --collection reviews" in said

    lines = b'{"t": "piped"}\n{"t": "in"}\n'
    done = nearsql(
        "ingest", file, "-", "--format", "jsonl", "--text", "t", "--collection", "p", stdin=lines
    )
    assert done.returncode == 0, done.stderr
    with connection.connect(file) as db:
        found = db.execute("select uri, content from items where collection = 'p'").fetchall()
        assert found == [("standard input#line=1", "piped"), ("standard input#line=2", "in")]
        with pytest.raises(replay.CannotReplay, match="standard input"):
            replay.replay(db, 2)
    db.close()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["FILE", "gone.csv", "--text", "a"], "there is no file or folder 'gone.csv'"),
        (["FILE", "TABLE"], "say with --text which column"),
        (["FILE", "TABLE", "--text", "nope"], "the columns are 'page', 'body', 'stars', 'year'"),
        (["FILE", "TABLE", "--text", "body", "--store"], "--store is for folders"),
        (["FILE", "TABLE", "--text", "body", "--encoding", "klingon"], "no encoding 'klingon'"),
        (["FILE", "FOLDER", "--text", "body"], "--text is for tables"),
        (["FILE", "-", "--text", "a"], "give --format and --collection"),
        (["FILE", "photo.JPG", "--text", "a"], "there is no file"),
        (["TABLE", "TABLE", "--text", "body"], "is not an SQLite database"),
    ],
)
def test_what_the_command_refuses_is_one_line(tmp_path: Path, table: Path, args, sentence) -> None:
    names = {"FILE": tmp_path / "t.db", "TABLE": table, "FOLDER": tmp_path}
    done = nearsql("ingest", *(names.get(arg, arg) for arg in args))
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("nearsql: ")
    assert sentence in line


def test_killed_in_the_middle_and_run_again(tmp_path: Path) -> None:
    """The killed process is one that waits for the rest of its input, with half a batch in hand."""
    rows = [("t", "label")] + [(f"text {n % 1900}", f"l{n % 3}") for n in range(2000)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    path = tmp_path / "t.csv"
    path.write_text(buffer.getvalue())
    options = ["--text", "t", "--label", "label", "--format", "csv", "--collection", "c"]
    databases = [tmp_path / "whole.db", tmp_path / "killed.db"]
    assert nearsql("ingest", databases[0], path, *options).returncode == 0

    code = "from nearsql.pipeline.cli import main; main()"
    pipe = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert pipe.stdin is not None
    process = subprocess.Popen(
        [sys.executable, "-c", code, "ingest", databases[1], "-", *options],
        stdin=pipe.stdout,
        stderr=subprocess.DEVNULL,
    )
    head = "".join(buffer.getvalue().splitlines(keepends=True)[:1301])
    pipe.stdin.write(head.encode() + b"x" * 100)
    pipe.stdin.flush()
    db = connection.create(databases[1])
    deadline = time.monotonic() + 30
    while db.execute("select count(*) from items").fetchone() != (1000,):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    pipe.stdin.close()
    pipe.wait()
    assert db.execute("select count(*) from items").fetchone() == (1000,)
    # The same rows from standard input again, so that their places are the same.
    done = nearsql("ingest", databases[1], "-", *options, stdin=path.read_bytes())
    assert done.returncode == 0, done.stderr
    sql = (
        "select i.content, i.sequence_number, l.value,"
        " (select group_concat(replace(e.uri, rtrim(e.uri, '0123456789'), '')) from item_errors e"
        "  where e.item_id = i.id) from items i join item_labels l on l.item_id = i.id order by i.id"
    )
    whole = connection.connect(databases[0])
    assert db.execute(sql).fetchall() == whole.execute(sql).fetchall()
    assert db.execute("select count(*) from items").fetchone() == (1900,)
    assert db.execute("select count(*) from item_errors").fetchone() == (100,)
    statuses = db.execute("select status from runs order by id").fetchall()
    assert statuses == [("interrupted",), ("finished",)]
    db.close()
    whole.close()
