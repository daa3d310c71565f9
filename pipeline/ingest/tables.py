"""Records out of CSV, TSV, JSON lines and JSON arrays, one at a time: no file is held in memory whole.

A record that cannot be read is given as a sentence, and reading goes on; what makes the rest of the
file unreadable (a wrong encoding, a broken JSON array) is a UserError that says where.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, get_args

from nearsql.pipeline.console import UserError

Format = Literal["csv", "tsv", "jsonl", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}

# A longer line or record is a sign of a missing line break or quote, and would fill the memory.
MAX_RECORD_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its cells by column, or the sentence that says why it cannot be read."""

    place: str  # "line 12", or "item 3" of a JSON array
    cells: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


class Source:
    """An open binary file with its name for error sentences, counting what was read."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.bytes_read = 0
        self._file = file

    def chunks(self) -> Iterator[bytes]:
        """The file in pieces."""
        while data := self._file.read(_CHUNK_BYTES):
            self.bytes_read += len(data)
            yield data

    def lines(self, encoding: str) -> Iterator[str]:
        """The decoded lines with their line ends, a byte order mark taken off."""
        while data := self._file.readline(MAX_RECORD_BYTES + 1):
            if len(data) > MAX_RECORD_BYTES:
                raise UserError(
                    f"{self.name}: the line at byte {self.bytes_read:,} is longer than"
                    f" {MAX_RECORD_BYTES:,} bytes: is it a table of this format?"
                )
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError as error:
                raise self.decoding_error(error, encoding, self.bytes_read) from error
            yield text.removeprefix("\ufeff") if self.bytes_read == 0 else text
            self.bytes_read += len(data)

    def decoding_error(self, error: UnicodeDecodeError, encoding: str, start: int) -> UserError:
        """The sentence for bytes that the encoding does not have; start: where error.object begins."""
        offset = start + error.start
        byte = error.object[error.start]
        if offset == 0 and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            advice = "it is UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`"
        else:
            advice = "give its encoding, such as --encoding cp1252"
        return UserError(f"{self.name}: byte {offset:,} (0x{byte:02x}) is not {encoding}: {advice}")


def format_of(name: str) -> Format:
    """The format that a file's name tells. Raises UserError."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        raise UserError(
            f"{name}: its name does not tell its format: give --format, one of {', '.join(FORMATS)}"
        )
    return _FORMAT_OF_SUFFIX[suffix]


def read_records(
    source: Source, format: Format, *, encoding: str = "utf-8", delimiter: str | None = None
) -> tuple[list[str] | None, Iterator[Record]]:
    """The columns, where the format says them once (CSV, TSV), and the records.

    encoding: any that keeps ASCII as it is. delimiter: of the cells of a CSV; default a comma.
    """
    _check_encoding(encoding)
    if delimiter is not None and (format not in ("csv", "tsv") or len(delimiter) != 1):
        raise UserError("--delimiter is one character, and only for csv and tsv")
    if format == "jsonl":
        return None, _json_lines(source, encoding)
    if format == "json":
        return None, _json_array(source, encoding)
    delimiter = delimiter or ("\t" if format == "tsv" else ",")
    # The csv module's limit belongs to the process; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
    reader = csv.reader(source.lines(encoding), delimiter=delimiter, strict=True)
    columns = _header(source, reader)
    return columns, _csv_records(reader, columns)


def _check_encoding(encoding: str) -> None:
    try:
        keeps_ascii = "a\n".encode(encoding) == b"a\n"
    except LookupError as error:
        raise UserError(f"there is no encoding {encoding!r}: try utf-8 or cp1252") from error
    if not keeps_ascii:
        raise UserError(f"files in {encoding} cannot be read by lines: convert it to UTF-8 first")


def _header(source: Source, reader: Any) -> list[str]:
    try:
        columns: list[str] = next(reader)
    except StopIteration:
        raise UserError(f"{source.name} is empty") from None
    except csv.Error as error:
        raise UserError(f"{source.name}: line 1 is no header: {error}") from error
    if any("\0" in column for column in columns):
        raise UserError(f"{source.name}: line 1 holds NUL characters: it is no table of text")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UserError(f"{source.name}: more than one column is called {twice[0]!r}")
    return columns


def _csv_records(reader: Any, columns: list[str]) -> Iterator[Record]:
    while True:
        place = f"line {reader.line_num + 1}"  # where the record begins; its cells may have more
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(place, problem=f"it is not valid CSV: {error}")
            continue
        if not cells:
            continue  # an empty line
        if len(cells) > len(columns):
            problem = f"it has {len(cells)} cells, but there are {len(columns)} columns"
            yield Record(place, problem=problem)
        else:
            yield Record(place, dict(zip(columns, cells, strict=False)))


def _json_lines(source: Source, encoding: str) -> Iterator[Record]:
    for number, line in enumerate(source.lines(encoding), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            value = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            yield Record(place, problem=f"it is not valid JSON: {error}")
        else:
            yield _json_record(place, value)


def _json_array(source: Source, encoding: str) -> Iterator[Record]:
    """The objects of one JSON array, decoded as soon as each is complete."""
    text = _JsonText(source, encoding)
    first = text.next_character()
    if first != "[":
        hint = "; if each line is an object, give --format jsonl" if first == "{" else ""
        raise UserError(f"{source.name} is not a JSON array of objects{hint}")
    text.skip_character()
    number = 0
    while (character := text.next_character()) != "]":
        if not character:
            raise text.broken("the array does not end", number + 1)
        if number:
            if character != ",":
                raise text.broken("a comma is missing", number)
            text.skip_character()
        number += 1
        if text.next_character() != "{":
            raise text.broken("it is not an object", number)
        yield _json_record(f"item {number}", text.next_object(number))
    text.skip_character()
    if text.next_character():
        raise text.broken("the file goes on behind the array", number)


class _JsonText:
    """A window that slides over JSON text, so that one object at a time can be decoded."""

    def __init__(self, source: Source, encoding: str) -> None:
        self._source, self._encoding = source, encoding
        self._decoder = codecs.getincrementaldecoder(
            "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        )()
        self._chunks = source.chunks()
        self._text, self._position, self._is_at_end = "", 0, False

    def next_character(self) -> str:
        """The next character that is no white space; '' at the end."""
        while True:
            match = _WHITE_SPACE.match(self._text, self._position)
            assert match is not None  # it matches nothing at all, too
            self._position = match.end()
            if self._position < len(self._text) or not self._more():
                return self._text[self._position : self._position + 1]

    def skip_character(self) -> None:
        self._position += 1

    def next_object(self, number: int) -> Any:
        """The object that begins here."""
        while True:
            try:
                value, self._position = _DECODER.raw_decode(self._text, self._position)
                return value
            except (ValueError, RecursionError) as error:
                # Perhaps its end is not read yet. Doubling the window keeps this linear.
                length = len(self._text) - self._position
                if length > MAX_RECORD_BYTES:
                    raise self.broken("it is not valid JSON, or too long", number) from error
                if not self._more(at_least=length):
                    raise self.broken(f"it is not valid JSON: {error}", number) from error

    def broken(self, why: str, number: int) -> UserError:
        """The sentence for an array that cannot be read on."""
        return UserError(
            f"{self._source.name}: item {number} of the array, before byte"
            f" {self._source.bytes_read:,}: {why}"
        )

    def _more(self, at_least: int = 1) -> bool:
        """Reads on, and forgets what is behind; False when there was nothing left."""
        pieces, length = [self._text[self._position :]], 0
        while length < at_least and not self._is_at_end:
            data = next(self._chunks, b"")
            self._is_at_end = not data
            pending = len(self._decoder.getstate()[0])
            try:
                piece = self._decoder.decode(data, final=self._is_at_end)
            except UnicodeDecodeError as error:
                start = self._source.bytes_read - len(data) - pending
                raise self._source.decoding_error(error, self._encoding, start) from error
            pieces.append(piece)
            length += len(piece)
        self._text, self._position = "".join(pieces), 0
        return length > 0


def _json_record(place: str, value: Any) -> Record:
    if not isinstance(value, dict):
        return Record(place, problem="it is not a JSON object")
    return Record(place, value)


def _json_constant(name: str) -> None:
    """NaN is how some programs write a missing number; infinities have no JSON."""
    if name != "NaN":
        raise ValueError(f"{name} is not JSON")


_WHITE_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=_json_constant)
