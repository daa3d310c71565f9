"""Rows on standard output: by whole lines, also where several processes share a pipe."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline import output
from nearsql.pipeline.output import write_rows


class Pipe(io.RawIOBase):
    """What the system is asked to write, call by call."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.calls.append(bytes(data))  # type: ignore[call-overload]
        return len(self.calls[-1])


lengths = st.one_of(st.integers(0, 60), st.integers(4000, 9000))
texts = st.tuples(st.sampled_from(["x", "ü", "漢", "🙂", '"', "a,"]), lengths)
rows = st.lists(texts.map(lambda found: (found[0] * found[1],)), max_size=40)


@given(rows=rows, is_buffered=st.booleans())
@pytest.mark.parametrize("format_", ["nl", "csv"])
def test_each_write_is_of_whole_lines(
    format_: str, rows: list[tuple[str]], is_buffered: bool
) -> None:
    raw = Pipe()
    out = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", write_through=not is_buffered)
    write_rows(format_, ["text"], rows, out)
    for call in raw.calls:
        assert call.endswith(b"\n")
        assert len(call) <= output._WHOLE or call.count(b"\n") == 1
    plain = io.StringIO()
    if format_ == "csv":
        csv.writer(plain, lineterminator="\n").writerows([["text"], *rows])
    else:
        for (text,) in rows:
            print(json.dumps({"text": text}, ensure_ascii=False), file=plain)
    assert b"".join(raw.calls).decode() == plain.getvalue()


WRITER = """
import os, sys
from nearsql.pipeline.output import write_rows
os.write(2, b"ready\\n")  # in one piece, as print() would not
sys.stdin.read()
write_rows("nl", ["who", "n", "text"], ((sys.argv[1], n, "x" * (n % 90)) for n in range(20_000)))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_of_several_processes_stay_whole(unbuffered: str) -> None:
    """As `xargs -P` has them: all write at once, and more than a pipe holds."""
    (read_end, write_end), (ready, say_ready), (start, begin) = os.pipe(), os.pipe(), os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(who)],
            stdin=start,
            stdout=write_end,
            stderr=say_ready,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
        for who in range(4)
    ]
    for end in (write_end, say_ready, start):
        os.close(end)
    with os.fdopen(ready) as of_all:
        assert [of_all.readline() for _ in writers] == ["ready\n"] * 4
        os.close(begin)
        with os.fdopen(read_end, encoding="utf-8") as pipe:
            lines = pipe.readlines()
    assert [writer.wait() for writer in writers] == [0] * 4
    found = [json.loads(line) for line in lines]
    for who in "0123":
        assert [row["n"] for row in found if row["who"] == who] == list(range(20_000))


def test_on_a_terminal_each_line_comes_at_once() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown, seen = Terminal(), []

    def slowly():
        for n in range(3):
            seen.append(shown.getvalue().count("\n"))
            yield (n,)

    write_rows("nl", ["n"], slowly(), shown)
    assert seen == [0, 1, 2]


def test_what_was_read_before_an_error_is_written() -> None:
    def fails():
        yield (1,)
        raise ValueError("gone")

    shown = io.StringIO()
    with pytest.raises(ValueError, match="gone"):
        write_rows("nl", ["n"], fails(), shown)
    assert shown.getvalue() == '{"n": 1}\n'
