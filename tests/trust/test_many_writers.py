"""Eight processes write to one file, and another reads it: no error, nothing twice, nothing missing."""

from pathlib import Path

import pytest

from nearsql.udfs import connection
from tests.trust import many_writers
from tests.trust.many_writers import COLLECTION, WRITERS, Reader, Report, texts_of, write_all

ROWS = 8000


def test_eight_write_and_one_reads(tmp_path: Path) -> None:
    report = write_all(tmp_path / "busy.db", ROWS)
    assert report.errors == []
    assert report.reads >= 2


def test_two_writers_want_to_write_the_same() -> None:
    every = [texts_of(writer, ROWS) for writer in range(WRITERS)]
    assert len({text for texts in every for text in texts}) == ROWS
    for writer, texts in enumerate(every):
        shared = {*texts} & {*every[writer - 1]}
        assert len(shared) == ROWS // WRITERS // many_writers.SHARED


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "insert into items (kind, collection, sha256, content, sequence_number) select kind, collection, replace(sha256, '0', 'b'), 'x', 0 from items",
            "2 items have 1 places to 0",
        ),
        ("delete from items", "(1, 1, 1) became (0, 0, 2)"),
        ("update spaces set generation = 7", "generation 7, log 1"),
    ],
)
def test_the_reader_notices(tmp_path: Path, fault: str, said: str) -> None:
    path = tmp_path / "busy.db"
    db = connection.create(path)
    db.execute(
        "insert into items (kind, collection, sha256, content, sequence_number)"
        " values ('text', ?, hex(zeroblob(32)), 'text 1 of writer 1', 0)",
        (COLLECTION,),
    )
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('shared', 'embedding', 8, 'l2')"
    )
    vector = many_writers._vector("text 1 of writer 1")
    db.execute("insert into vectors (space_id, item_id, vector) values (1, 1, ?)", (vector,))
    db.commit()
    report = Report()
    reader = Reader(path, report)
    reader.read()
    assert (report.reads, report.errors) == (1, [])
    db.execute(fault)
    db.commit()
    reader.read()
    assert said in report.errors
    reader.close()
    db.close()
