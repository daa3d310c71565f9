"""Large JSON files, one element of a top-level array at a time.

COCO's instances_train2017.json has 450 MB; parsed as a whole it takes 4 GB of memory. Here a file
takes as much as its largest element.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_CHUNK = 2**20
_OF_A_NUMBER = re.compile(r"[-+.eE0-9]*")
_SPACE = re.compile(r"[ \t\n\r]*")

# The largest value that is parsed at once; the largest annotation of COCO has 60 kB.
MOST_CHARACTERS = 64 * 2**20


class NotJson(Exception):
    """The file is no JSON that can be read here; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element of the array under a key of the file's one object, and where its text lies."""

    key: str
    value: Any
    offset: int  # in bytes
    length: int


def elements(file: BinaryIO, arrays: set[str]) -> Iterator[Element]:
    """The elements of all arrays that are values of the file's top-level object, in their order.

    arrays: is given the key of each array, also of an empty one. Values that are no arrays are read
    and left out. Raises NotJson, at the place where the file stops
    being JSON: what came before has been given.
    """
    reader = _Reader(file)
    if reader.peek() != "{":
        raise NotJson("it does not begin with {")
    reader.skip(1)
    if reader.peek() == "}":
        reader.skip(1)
    else:
        while True:
            key = reader.value().value
            if not isinstance(key, str):
                raise NotJson(f"byte {reader.offset:,}: a key is no text")
            reader.expect(":")
            if reader.peek() == "[":
                arrays.add(key)
                yield from _array(reader, key)
            else:
                reader.value()
            if reader.expect(",", "}") == "}":
                break
    if reader.peek():
        raise NotJson(f"byte {reader.offset:,}: something follows after the end")


def _array(reader: "_Reader", key: str) -> Iterator[Element]:
    reader.skip(1)
    if reader.peek() == "]":
        reader.skip(1)
        return
    while True:
        element = reader.value()
        yield Element(key, element.value, element.offset, element.length)
        if reader.expect(",", "]") == "]":
            return


class _Reader:
    """The text from where the reading is, with as much of it in memory as has been needed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._at, self._is_at_end = "", 0, False
        self.offset = 0  # of self._text[self._at], in bytes
        if file.read(3) == codecs.BOM_UTF8:
            self.offset = 3
        else:
            file.seek(0)

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self.skip(match.end() - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, n: int) -> int:
        """Goes on by n characters; gives how many bytes they are."""
        n_bytes = n
        if not self._text.isascii():
            n_bytes = len(self._text[self._at : self._at + n].encode())
        self._at += n
        self.offset += n_bytes
        return n_bytes

    def expect(self, *characters: str) -> str:
        """Takes one of these characters."""
        found = self.peek()
        if found not in characters:
            what = repr(found) if found else "the end of the file"
            raise NotJson(f"byte {self.offset:,}: {what} instead of {' or '.join(characters)}")
        self.skip(1)
        return found

    def value(self) -> Element:
        """Takes one value, of any kind."""
        self.peek()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
                # At the edge of what was read, 1.5e of 1.5e10 is a number already: 1.5.
                match = _OF_A_NUMBER.match(self._text, end)
                assert match is not None
                if match.end() < len(self._text) or self._is_at_end:
                    break
            except RecursionError:
                raise NotJson(f"byte {self.offset:,}: it is nested too deep") from None
            except json.JSONDecodeError as error:
                if self._is_at_end:
                    raise NotJson(f"byte {self.offset:,}: {error.msg}") from None
            except ValueError as error:  # a number of more than 4,300 digits
                raise NotJson(f"byte {self.offset:,}: {error}") from None
            if len(self._text) - self._at > MOST_CHARACTERS:
                raise NotJson(
                    f"byte {self.offset:,}: here begins a value of more than {MOST_CHARACTERS:,}"
                    " characters, or one that is no JSON"
                )
            self._more()
        offset = self.offset
        return Element("", value, offset, self.skip(end - self._at))

    def _more(self) -> bool:
        """Reads on, at least as much as is waiting, so that a long value is not parsed again too often."""
        if self._is_at_end:
            return False
        rest = self._text[self._at :]
        try:
            data = self._file.read(max(_CHUNK, len(rest)))
            self._is_at_end = not data
            self._text, self._at = rest + self._decode(data, self._is_at_end), 0
        except UnicodeDecodeError:
            raise NotJson(f"it is not UTF-8 text, somewhere after byte {self.offset:,}") from None
        return not self._is_at_end
