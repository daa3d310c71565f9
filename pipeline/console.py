"""What a command says on the terminal: progress, summaries, tables, errors."""

import errno
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

# Nothing can be written: the disk's fault, or the quota's, whatever was to be written.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# What SQLite says when the system refuses it something, or the file is not as it was, and what to do about it.
_OF_SQLITE = {
    "malformed JSON": "a text that was read as JSON is none; if it is in a cell of the file, `nearsql check FILE`"
    " says whether the file is as nearsql makes it",
    "database or disk is full": "make room, and run the command again; what was written until now is kept",
    "disk I/O error": "the system would not read or write the file; see to its disk, to a quota and to"
    " `ulimit -f`, and run the command again; what was written until now is kept",
}


class Progress(Protocol):
    """Told how far the work is."""

    def advance(self, n: int = 1) -> None:
        """n more of the total are done."""


class _Silent:
    def advance(self, n: int = 1) -> None:
        pass


class _Lines:
    """Plain lines on standard error, for logs and pipes: none for short work, then few."""

    SECONDS = 5.0  # between two lines

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started = self._said = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        now = time.monotonic()
        if now - self._said >= self.SECONDS and self._done < self._total:
            self._said = now
            left = (now - self._started) / self._done * (self._total - self._done)
            say(f"{self._title}: {self._done:,} of {self._total:,}, about {left:.0f} s left")


@contextmanager
def progress(title: str, total: int, *, quiet: bool = False) -> Iterator[Progress]:
    """A progress bar on a terminal, plain lines elsewhere. Always on standard error."""
    if quiet or total == 0:
        yield _Silent()
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=total)

            class _Bar:
                def advance(self, n: int = 1) -> None:
                    bar.advance(task, n)

            yield _Bar()
    else:
        yield _Lines(title, total)


def say(line: str) -> None:
    """A line for the person, on standard error, so that standard output stays data."""
    click.echo(line, err=True)


def read_standard_input() -> str:
    """All that standard input holds. Raises UserError when it is not UTF-8."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start:,})") from None


def summary(title: str, facts: Mapping[str, Any], *, next_step: str | None = None) -> None:
    """What a command did, at its end: the facts by name, and what to try next."""
    say(title)
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        say(f"  {name.ljust(width)}  {shown}")
    if next_step:
        say(f"  next: {next_step}")


def command_line(*words: object) -> str:
    """A command to be pasted into a shell, whatever spaces or quotes there are in its words."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: object) -> str:
    """Double quotes where they suffice: SQL has single ones of its own."""
    text = str(word)
    plain = shlex.quote(text)
    return plain if plain == text or re.search(r'["$`\\!]', text) else f'"{text}"'


def sql_text(text: str) -> str:
    """The text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as an aligned plain-text table; NULL is shown as such, BLOBs by their size."""
    from tabulate import tabulate

    shown = [[_cell(value) for value in row] for row in rows]
    return str(tabulate(shown, headers=list(headers), disable_numparse=True))


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def is_for_the_user(error: BaseException) -> bool:
    """Whether the error is a sentence about the user's input, not a fault of ours."""
    import apsw

    from nearsql.udfs import dbapi
    from nearsql.udfs.errors import SqlFunctionError

    if isinstance(error, OSError):
        return error.filename is not None or error.errno in _DISK
    if isinstance(
        error, UnicodeEncodeError
    ):  # bytes that are no UTF-8 among the words of a command
        return error.reason == "surrogates not allowed"
    # What is done on the raw connection fails with APSW's own errors: a full disk does not ask where.
    ours = dbapi.Error | apsw.Error | SqlFunctionError | LookupError | UserError
    return isinstance(error, ours) and not isinstance(error, KeyError | IndexError)


def sentence(error: BaseException) -> str:
    """The error's own words."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"cannot write: {error.strerror}"
    for words, what_to_do in _OF_SQLITE.items():
        if str(error).endswith(words):
            return f"{error}: {what_to_do}"
    if isinstance(error, UnicodeEncodeError):
        return f"not UTF-8: {error.object[:60]!r}"
    return str(error) or type(error).__name__


class UserError(Exception):
    """Wrong input to a command: a sentence that says what is wrong and what would work."""
