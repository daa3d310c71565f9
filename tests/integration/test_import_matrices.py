"""Matrices with ids, imported: .npy, Parquet, CSV and JSON; which items they mean; what is refused."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing import import_file, run
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi

NAMES = ["000000000139.jpg", "ant.png", "train/bee.jpg", "val/bee.jpg"]


@pytest.fixture
def db(tmp_path: Path) -> dbapi.Connection:
    """Four images 1 to 4, with labels and metadata."""
    db = connection.create(tmp_path / "new.db")
    for number, name in enumerate(NAMES):
        db.execute(
            "insert into items (kind, collection, sha256, uri, width, height, sequence_number,"
            " metadata_json) values ('image', 'photos', ?, ?, 20, 10, ?, ?)",
            (f"{number:064x}", f"/data/{name}", 10 + number, json.dumps({"key": f"k{number}"})),
        )
        db.execute(
            "insert into item_labels values (?, 'code', ?, 'tests')", (number + 1, f"c{number}")
        )
    db.commit()
    return db


def matrix(n: int, dimensions: int = 3, dtype: str = "<f4") -> NDArray[Any]:
    return np.random.default_rng(n).normal(size=(n, dimensions)).astype(dtype)


def vectors(db: dbapi.Connection, space: str) -> dict[int, bytes]:
    return dict(
        db.execute(
            "select item_id, vector from vectors v join spaces s on s.id = v.space_id where s.name = ?",
            (space,),
        ).fetchall()
    )


def expected(values: NDArray[Any], items: list[int]) -> dict[int, bytes]:
    return {item: row.astype("<f4").tobytes() for item, row in zip(items, values, strict=True)}


@pytest.mark.parametrize(
    ("match", "ids"),
    [
        ("name", ["139", "ant", "/data/train/bee.jpg", "val/bee.jpg"]),
        ("name", [139, "ant.png", "train/bee", "val/bee"]),
        ("id", [1, 2, 3, 4]),
        ("sequence", ["10", "11", "12", "13"]),
        ("uri", [f"/data/{name}" for name in NAMES]),
        ("metadata:key", ["k0", "k1", "k2", "k3"]),
        ("label:code", ["c0", "c1", "c2", "c3"]),
    ],
)
def test_what_the_ids_mean(
    db: dbapi.Connection, tmp_path: Path, match: str, ids: list[Any]
) -> None:
    values = matrix(4)
    path = tmp_path / "m.csv"
    # A number in a table of text is a text: the same id to us, but for file names.
    with path.open("w") as file:
        file.write("id,a,b,c\n")
        for id, row in zip(ids, values.tolist(), strict=True):
            file.write(f"{id},{row[0]!r},{row[1]!r},{row[2]!r}\n")
    skipped = match == "name" and ids[0] in ("139", 139)
    (result,) = import_file(db, str(path), match=match)
    items = [2, 3, 4] if skipped else [1, 2, 3, 4]
    assert vectors(db, "m") == expected(values[1:] if skipped else values, items)
    assert replay(db, result.run_id).is_same


def test_numbers_name_files_that_are_numbers(db: dbapi.Connection, tmp_path: Path) -> None:
    values = matrix(1)
    path = tmp_path / "m.parquet"
    parquet.write_table(pyarrow.table({"image_id": [139], "vector": values.tolist()}), path)
    import_file(db, str(path))
    assert vectors(db, "m") == expected(values, [1])


def test_two_items_of_one_name_are_neither(db: dbapi.Connection, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,a\nbee.jpg,1\nant.png,2\n")
    (result,) = import_file(db, str(path))
    assert result.counts["unmatched"] == 1
    assert db.execute("select message from item_errors").fetchall() == [
        ("line 2: 'bee.jpg' may be more than one item",)
    ]


@pytest.mark.parametrize(
    ("dtype", "order"),
    [("<f2", "C"), ("<f4", "F"), ("<f8", "C"), (">f4", "C"), ("<i2", "F"), ("u1", "C")],
)
def test_npy(db: dbapi.Connection, tmp_path: Path, dtype: str, order: str) -> None:
    values = np.array(matrix(4) * 50, dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "m.npy", values)
    (tmp_path / "ids.txt").write_text("ant\ntrain/bee.jpg\n139.jpg\nval/bee.jpg\n")
    import_file(db, str(tmp_path / "m.npy"), ids=str(tmp_path / "ids.txt"), space="s", metric="l2")
    assert vectors(db, "s") == expected(values[[0, 1, 3]], [2, 3, 4])
    assert db.execute("select dimensions, metric from spaces").fetchall() == [(3, "l2")]
    # Without ids, the rows' numbers; a .npy of ids.
    np.save(tmp_path / "ids.npy", np.array([13, 10, 11, 12]))
    for name, ids in (("ids.npy", [4, 1, 2, 3]), (None, None)):
        given = None if name is None else str(tmp_path / name)
        if ids is None:
            with pytest.raises(UserError, match="0 is no item here"):
                import_file(db, str(tmp_path / "m.npy"), space="t", match="sequence")
            continue
        import_file(db, str(tmp_path / "m.npy"), ids=given, space="u", match="sequence")
        assert vectors(db, "u") == expected(values, ids)


@pytest.mark.parametrize("form", ["list", "large", "fixed", "wide", "double"])
def test_parquet(db: dbapi.Connection, tmp_path: Path, form: str) -> None:
    values = matrix(4, dtype="<f8" if form == "double" else "<f4")
    flat = pyarrow.array(values.ravel())
    kinds = {"large": pyarrow.large_list(pyarrow.float32())}
    columns: dict[str, Any] = {"id": [1, 2, 3, 4], "note": list("abcd")}
    if form == "wide":
        columns |= {f"d{n}": values[:, n] for n in range(3)}
    elif form == "fixed":
        columns["vector"] = pyarrow.FixedSizeListArray.from_arrays(flat, 3)
    else:
        columns["vector"] = pyarrow.array(list(values), kinds.get(form))
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet", row_group_size=3)
    (result,) = import_file(db, str(tmp_path / "m.parquet"), match="id")
    assert vectors(db, "m") == expected(values, [1, 2, 3, 4])
    assert result.counts.get("rounded", 0) == (4 if form == "double" else 0)
    outcome = replay(db, result.run_id)
    assert outcome.is_same
    assert outcome.tables[0].stored == 4


def test_parquet_with_holes(db: dbapi.Connection, tmp_path: Path) -> None:
    table = {"id": [1, 2, 3, 4], "vector": [[1.0, 2.0], None, [3.0], [float("nan"), 1.0]]}
    parquet.write_table(pyarrow.table(table), tmp_path / "m.parquet")
    (result,) = import_file(db, str(tmp_path / "m.parquet"), match="id")
    assert list(vectors(db, "m")) == [1]
    assert result.counts["errors"] == 3
    assert [m for (m,) in db.execute("select message from item_errors order by id")] == [
        "row 1: it has no vector",
        "row 2: its vector has 1 dimensions, the first one 2",
        "row 3: its vector holds NaN, infinity, or what float32 cannot hold",
    ]


def test_json_and_texts_as_new_items(db: dbapi.Connection, tmp_path: Path) -> None:
    rows = [
        {"key": "a", "embedding": [1, 0.5], "body": "first", "title": "A"},
        {"key": "b", "embedding": [2, 0.25], "body": "second", "title": "B"},
        {"key": "c", "embedding": [3, 0.25], "body": "first", "title": "C"},
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (result,) = import_file(db, str(path), text="body")
    items = db.execute(
        "select content, collection, metadata_json from items where kind = 'text' order by id"
    ).fetchall()
    assert items == [
        ("first", "texts", '{"id": "a", "title": "A"}'),
        ("second", "texts", '{"id": "b", "title": "B"}'),
    ]
    assert (result.counts["vectors"], result.counts["duplicates"]) == (2, 1)
    assert db.execute("select stage, message from item_errors").fetchall() == [
        ("duplicate", "line 3: it is item 5, as 'a' was before: the first counts")
    ]
    again = import_file(db, str(path), text="body")
    assert again[0].is_old
    assert replay(db, result.run_id).is_same


def test_the_vectors_that_are_there_stay(db: dbapi.Connection, tmp_path: Path) -> None:
    for name, first in (("one", "1"), ("two", "9")):
        (tmp_path / f"{name}.csv").write_text(f"id,a\n1,{first}\n2,2\n3,3\n")
    import_file(db, str(tmp_path / "one.csv"), match="id", space="s")
    (second,) = import_file(db, str(tmp_path / "two.csv"), match="id", space="s")
    assert second.counts["different"] == 1
    assert second.counts["already"] == 2
    assert "vectors" not in second.counts
    assert vectors(db, "s")[1] == np.float32(1).tobytes()
    (tmp_path / "wide.csv").write_text("id,a,b\n1,1,1\n")
    with pytest.raises(UserError, match="is of kind embedding with 1 dimensions"):
        import_file(db, str(tmp_path / "wide.csv"), match="id", space="s")


def test_a_source_that_changed_is_not_replayed(db: dbapi.Connection, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,a\n1,1\n")
    (result,) = import_file(db, str(path), match="id")
    path.write_text("id,a\n1,2\n")
    with pytest.raises(CannotReplay, match="has changed since"):
        replay(db, result.run_id)
    path.unlink()
    with pytest.raises(CannotReplay, match="cannot be opened"):
        replay(db, result.run_id)


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(118 - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.filterwarnings("error")
def test_an_array_of_python_2(db: dbapi.Connection, tmp_path: Path) -> None:
    """Its header has an L behind whole numbers; numpy's advice on it is none for who imports."""
    values = matrix(2)
    (tmp_path / "old.npy").write_bytes(header("(2L, 3L)") + values.tobytes())
    import_file(db, str(tmp_path / "old.npy"), match="id", space="s")
    assert vectors(db, "s") == expected(values[1:], [1])  # its ids are 0 and 1


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dbapi.Connection:
    """A database that none of the refused files comes into."""
    return connection.create(tmp_path_factory.mktemp("untouched") / "new.db")


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.npy", header("(2, 3)", "'|O'") + pickle.dumps(print), "only pickle could load"),
        ("a.npy", header("(2, 3)") + bytes(20), "are 24 bytes, not 20"),
        ("a.npy", header("(99999999999, 99999999)") + bytes(20), "bytes, not 20"),
        ("a.npy", header("(6,)") + bytes(24), r"its shape is \(6,\)"),
        ("a.npy", header("(-1, -3)") + bytes(12), "its shape is"),
        ("a.npy", header("(2, 3").replace(b"}", b"("), "no array in numpy's format"),
        ("a.npy", header("(1, 1)", "'<U1'") + bytes(4), "not real numbers"),
        ("a.npy", b"\x93NUMPY\x09\x00" + bytes(30), "its format version 9.0"),
        ("a.npy", b"", "its name does not tell|neither its first bytes nor its name"),
        ("a.pkl", pickle.dumps([1.0]), "a pickle or an archive"),
        ("a.npz", b"PK\x03\x04", "a pickle or an archive"),
        ("a.parquet", b"PAR1" + bytes(50), "cannot be read as Parquet"),
        ("a.db", b"SQLite format 3\0" + bytes(84), "cannot be read|not an SQLite|not a database"),
        ("a.csv", b"id,a\n1,\xff\n", "is not utf-8"),
        ("a.csv", b"other,a\nx,1\n", "no column is called like an id"),
        ("a.csv", b"id,a\n1,x\n", "no columns of numbers"),
        ("a.jsonl", b'{"id": 1, "vector": "[1, {}]"}\n', "something that is no number"),
    ],
)
def test_hostile_files(
    untouched: dbapi.Connection, tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises((UserError, dbapi.Error), match=sentence):
        import_file(untouched, str(path), match="id")
    assert untouched.execute("select count(*) from spaces").fetchone() == (0,)


def test_options_that_do_not_fit(db: dbapi.Connection, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,a\n1,1\n")
    for options, sentence in (
        ({"match": "colour"}, "--match must be one of name, new"),
        ({"metric": "far"}, "--metric must be one of"),
        ({"format": "xml"}, "--format must be one of"),
        ({"dtype": "int8"}, "--dtype must be one of"),
        ({"ids": str(path)}, "--ids does not go with m.csv"),
        ({"images": str(path)}, "--images is for COCO results"),
        ({"id": "b"}, "has no column 'b': its columns are 'id', 'a'"),
        ({"parts": ["b"]}, "has no part 'b': it has matrix"),
    ):
        with pytest.raises(UserError, match=sentence):
            import_file(db, str(path), **options)  # type: ignore[arg-type]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="not a regular file"):
        import_file(db, str(pipe))
    assert db.execute("select count(*) from runs").fetchone() == (0,)


KILLED = """
import sys, time
from nearsql.pipeline.importing import import_file, run
from nearsql.udfs import connection
run.BATCH_ROWS = 7
take = run._Filling._take
def slowly(self, batch):
    found = take(self, batch)
    print(self._run.counts.get("vectors", 0), flush=True)
    time.sleep(0.05)
    return found
run._Filling._take = slowly
import_file(connection.open_database(sys.argv[1]), sys.argv[2], match="new", space="s")
"""


def test_a_killed_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = matrix(100)
    np.save(tmp_path / "m.npy", values)
    db = connection.create(tmp_path / "killed.db")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed.db"), str(tmp_path / "m.npy")],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    for _ in range(4):
        child.stdout.readline()
    time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    (before,) = db.execute("select count(*) from vectors").fetchone()
    assert 28 <= before < 100
    monkeypatch.setattr(run, "BATCH_ROWS", 7)
    (result,) = import_file(db, str(tmp_path / "m.npy"), match="new", space="s")
    assert db.execute("select id, status from runs").fetchall() == [(result.run_id, "finished")]
    rows = db.execute(
        "select json_extract(i.metadata_json, '$.id'), v.vector from vectors v"
        " join items i on i.id = v.item_id order by 1"
    ).fetchall()
    assert rows == [(number, row.tobytes()) for number, row in enumerate(values)]
    assert result.counts["vectors"] == 100
    assert replay(db, result.run_id).is_same
    # The same as without the kill.
    whole = connection.create(tmp_path / "whole.db")
    (other,) = import_file(whole, str(tmp_path / "m.npy"), match="new", space="s")
    hashes = [
        d.execute("select result_sha256 from runs where id = ?", (r.run_id,)).fetchone()
        for d, r in ((db, result), (whole, other))
    ]
    assert hashes[0] == hashes[1]
