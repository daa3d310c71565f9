"""Records out of tables: equal to what the whole file says, however it is cut and broken."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import tables
from nearsql.pipeline.ingest.tables import Record, Source, read_records

# Any text that UTF-8 can hold; NUL is tested by itself.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


def records(data: bytes, format, **options) -> list[Record]:
    return list(read_records(Source("table", io.BytesIO(data)), format, **options)[1])


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_csv_gives_the_cells_that_were_written(rows, line_end) -> None:
    # csv writes a row of one empty cell, or a lone \r, in ways of its own: keep two quoted cells.
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *rows])
    read = records(buffer.getvalue().encode(), "csv")
    assert [(r.problem, r.cells) for r in read] == [(None, {"a": a, "b": b}) for a, b in rows]


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXTS, children, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.dictionaries(TEXTS, JSON_VALUES, max_size=4), max_size=6),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.integers(1, 40),
)
def test_a_json_array_read_in_pieces_equals_the_array_read_whole(rows, indent, ascii, size) -> None:
    data = json.dumps(rows, indent=indent, ensure_ascii=ascii).encode()
    before = tables._CHUNK_BYTES
    tables._CHUNK_BYTES = size  # cuts through objects, strings, and characters
    try:
        read = records(data, "json")
    finally:
        tables._CHUNK_BYTES = before
    assert [r.cells for r in read] == rows
    assert [r.place for r in read] == [f"item {i + 1}" for i in range(len(rows))]


@given(st.lists(st.dictionaries(TEXTS, JSON_VALUES, max_size=4), max_size=6))
def test_json_lines(rows) -> None:
    data = "\n".join(json.dumps(row) for row in rows).encode()
    assert [r.cells for r in records(data, "jsonl")] == rows


def test_places_are_the_lines_where_records_begin() -> None:
    data = b'a,b\n1,"two\nlines"\n\n3,4\n'
    assert [(r.place, r.cells) for r in records(data, "csv")] == [
        ("line 2", {"a": "1", "b": "two\nlines"}),
        ("line 5", {"a": "3", "b": "4"}),
    ]


def test_a_broken_record_is_told_and_reading_goes_on() -> None:
    read = records(b'a,b\n1,"x" y\n1,2,3\n4\n5,6\n', "csv")
    assert [r.place for r in read] == ["line 2", "line 3", "line 4", "line 5"]
    assert read[0].problem is not None
    assert "not valid CSV" in read[0].problem
    assert read[1].problem == "it has 3 cells, but there are 2 columns"
    assert read[2].cells == {"a": "4"}
    assert read[3].cells == {"a": "5", "b": "6"}
    read = records(b'{"a": 1}\nnonsense\n[1]\n\n{"a": Infinity}\n{"a": NaN}\n', "jsonl")
    assert [r.place for r in read] == ["line 1", "line 2", "line 3", "line 5", "line 6"]
    assert [r.problem is None for r in read] == [True, False, False, False, True]
    assert read[4].cells == {"a": None}


def test_a_quote_that_never_closes_does_not_swallow_the_rest_in_silence() -> None:
    (record,) = records(b'a,b\n1,"open\n2,3\n4,5\n', "csv")
    assert record.place == "line 2"
    assert record.problem is not None


def test_tabs_delimiters_and_byte_order_marks() -> None:
    assert records(b"a\tb\n1\t2\n", "tsv")[0].cells == {"a": "1", "b": "2"}
    assert records(b"a;b\n1;2\n", "csv", delimiter=";")[0].cells == {"a": "1", "b": "2"}
    for format, body in (("csv", "a\nx\n"), ("jsonl", '{"a": "x"}'), ("json", '[{"a": "x"}]')):
        (record,) = records(b"\xef\xbb\xbf" + body.encode(), format)
        assert record.cells == {"a": "x"}


@pytest.mark.parametrize("format", ["csv", "jsonl", "json"])
def test_a_wrong_encoding_names_the_byte(format, monkeypatch) -> None:
    monkeypatch.setattr(tables, "_CHUNK_BYTES", 7)
    text = {"csv": "a\n€€€\n", "jsonl": '{"a": "€€€"}\n', "json": '[{"a": "€€€'}[format]
    data = text.encode() + b"caf\xe9 au lait"
    with pytest.raises(UserError, match=rf"byte {len(text.encode()) + 3:,} \(0xe9\) is not utf-8"):
        records(data, format)


def test_encodings() -> None:
    assert records("a\ncafé\n".encode("cp1252"), "csv", encoding="cp1252")[0].cells == {"a": "café"}
    with pytest.raises(UserError, match="UTF-16"):
        records("a,b\n1,2\n".encode("utf-16"), "csv")
    with pytest.raises(UserError, match="there is no encoding 'klingon'"):
        records(b"a\n", "csv", encoding="klingon")
    with pytest.raises(UserError, match="convert it to UTF-8"):
        records(b"a\n", "csv", encoding="utf-16")


@pytest.mark.parametrize(
    ("data", "format", "sentence"),
    [
        (b"", "csv", "is empty"),
        (b"a,a\n1,2\n", "csv", "more than one column is called 'a'"),
        (b"a\0,b\n", "csv", "NUL"),
        (b'{"a": 1}\n{"a": 2}\n', "json", "give --format jsonl"),
        (b"[1, 2]", "json", "item 1 of the array.*not an object"),
        (b'[{"a": 1} {"a": 2}]', "json", "a comma is missing"),
        (b'[{"a": 1}, {"a": ', "json", "item 2 of the array"),
        (b'[{"a": 1}', "json", "the array does not end"),
        (b'[{"a": 1}]\n[{"a": 2}]', "json", "the file goes on behind the array"),
        (b"", "json", "is not a JSON array"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_sentence(data, format, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        records(data, format)


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(tables, "MAX_RECORD_BYTES", 1000)
    for format, data in (("csv", b"a\n"), ("jsonl", b"{}\n"), ("json", b'[{"a": "')):
        with pytest.raises(UserError, match=r"longer than|too long"):
            records(data + b"x" * 10_000, format)


def test_formats_by_name() -> None:
    assert tables.format_of("/x/A.CSV") == "csv"
    assert tables.format_of("a.ndjson") == "jsonl"
    with pytest.raises(UserError, match="give --format"):
        tables.format_of("a.txt")
