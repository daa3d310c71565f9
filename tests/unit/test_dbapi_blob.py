"""blobopen: incremental reading and writing, compared with the standard library's."""

import array
import os
import sqlite3

import pytest

from nearsql.udfs import dbapi

DATA = b"this blob data string is exactly fifty bytes long!"


def opened(module):
    db = module.connect(":memory:")
    db.execute("create table t(b blob)")
    db.execute("insert into t values (?)", (DATA,))
    return db, db.blobopen("t", "b", 1)


@pytest.fixture
def blob():
    db, blob = opened(dbapi)
    yield blob
    blob.close()
    db.close()


def outcome(do, blob):
    try:
        return do(blob)
    except Exception as error:  # noqa: BLE001  the failures are what is compared
        return type(error), str(error)


def set_item(key, value):
    def do(blob):
        blob[key] = value
        return blob[:]

    return do


SAME = {
    "read": lambda b: (b.read(4), b.tell(), b.read(), b.read(), b.read(5)),
    "read more": lambda b: b.read(1000),
    "seek": lambda b: (b.seek(10), b.seek(5, os.SEEK_CUR), b.tell(), b.seek(-3, 2), b.read()),
    "seek far": lambda b: b.seek(51),
    "seek before": lambda b: b.seek(-1),
    "seek nowhere": lambda b: b.seek(0, 3),
    "seek overflow": lambda b: (b.seek(1), b.seek(2**31 - 1, 1)),
    "write": lambda b: (b.write(b"abc"), b.tell(), b.write(array.array("b", [1, 2])), b[:8]),
    "write long": lambda b: b.write(b"x" * 51),
    "write text": lambda b: b.write("x"),
    "length": len,
    "true": bool,
    "index": lambda b: (b[0], b[49], b[-1], b[-50]),
    "index far": lambda b: b[50],
    "index before": lambda b: b[-51],
    "index huge": lambda b: b[2**70],
    "index text": lambda b: b["a"],
    "index float": lambda b: b[1.5],
    "slice": lambda b: (b[:], b[5:14], b[-5:], b[5:5], b[60:], b[0:10:3]),
    "slice zero": lambda b: b[::0],
    "slice float": lambda b: b[5:5.5],
    "set": set_item(3, 65),
    "set last": set_item(-1, 0),
    "set far": set_item(50, 0),
    "set big": set_item(0, 256),
    "set negative": set_item(0, -1),
    "set bytes": set_item(0, b"x"),
    "set slice": set_item(slice(0, 4), b"THAT"),
    "set slice step": set_item(slice(0, 10, 3), b"abcd"),
    "set slice empty": set_item(slice(5, 5), b""),
    "set slice wrong": set_item(slice(0, 4), b"abc"),
    "set slice text": set_item(slice(0, 1), "a"),
    "set slice scattered": set_item(slice(0, 2), memoryview(b"abcd")[::2]),
    "delete": lambda b: b.__delitem__(0),
    "delete slice": lambda b: b.__delitem__(slice(0, 2)),
    "iterate": lambda b: b"a" in b,
    "hash": lambda b: hash(b) == hash(b),
}


@pytest.mark.parametrize("what", SAME)
def test_does_what_the_standard_library_does(what):
    results = []
    for module in (sqlite3, dbapi):
        db, blob = opened(module)
        done = outcome(SAME[what], blob)
        results.append(
            (
                # A failure's wording may name the class with its module.
                repr(done).replace("sqlite3.Blob", "Blob"),
                db.execute("select b from t").fetchone(),
            )
        )
        blob.close()
    assert results[0] == results[1]


def test_slices_may_run_backwards(blob):
    assert (blob[::-1], blob[10:0:-3]) == (DATA[::-1], DATA[10:0:-3])
    blob[3::-1] = b"SIHT"
    assert blob[:5] == b"THIS "


def test_context_manager_closes(blob):
    with blob as same:
        assert same is blob
    for use in (blob.read, blob.tell, lambda: blob[0], lambda: len(blob), blob.__enter__):
        with pytest.raises(dbapi.ProgrammingError, match="Cannot operate on a closed blob"):
            use()


def test_changed_row_expires_the_blob(blob):
    db = blob._connection
    db.execute("update t set b = 'other'")
    with pytest.raises(dbapi.OperationalError, match="abort"):
        blob.write(b"x")
    assert len(blob) == 0


def test_read_only(blob):
    db = blob._connection
    with db.blobopen("t", "b", 1, readonly=True) as reader:
        assert reader.read() == DATA
        reader.seek(0)
        with pytest.raises(dbapi.OperationalError, match="readonly"):
            reader.write(b"x")


@pytest.mark.parametrize(
    ("where", "schema"),
    [
        (("t", "b", 2), "main"),
        (("t", "c", 1), "main"),
        (("u", "b", 1), "main"),
        (("t", "b", 1), "x"),
    ],
)
def test_what_is_not_there(blob, where, schema):
    with pytest.raises(dbapi.OperationalError, match="no such"):
        blob._connection.blobopen(*where, name=schema)


def test_empty_blob_and_text():
    db = dbapi.connect(":memory:")
    db.execute("create table t(b)")
    db.execute("insert into t values (x''), ('text')")
    with db.blobopen("t", "b", 1) as empty:
        assert (len(empty), empty.read(), empty[:]) == (0, b"", b"")
    with db.blobopen("t", "b", 2) as text:
        assert text.read() == b"text"


def test_closed_connection(blob):
    blob._connection.close()
    with pytest.raises(dbapi.ProgrammingError, match="closed database"):
        blob.read()
    blob._connection.__init__(":memory:")
