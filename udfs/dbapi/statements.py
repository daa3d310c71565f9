"""What the text of a statement tells before SQLite sees it, and what SQLite says before it runs."""

import re
import sqlite3
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import apsw

# Spaces and comments, where SQLite allows them: before, between and after statements.
_BLANK = re.compile(r"(?:[ \t\f\n\r]+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z]*")

_DML = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_QUERIES = frozenset({"SELECT", "VALUES", "WITH", "EXPLAIN"})

Columns = tuple[tuple[str, str | None], ...]  # of each: its name, and its type as declared

# Tells APSW to leave parameters unbound; its own apsw.ext.query_info uses it so.
_NO_BINDINGS = apsw._null_bindings  # type: ignore[attr-defined]

# Longer texts are not worth remembering: bulk SQL is seldom run twice, and APSW forgets it too.
_REMEMBERED_LENGTH = 16384


@dataclass(frozen=True, slots=True)
class Statement:
    """The facts about one SQL text that need no database.

    is_blank: there is no statement.
    is_dml: INSERT, UPDATE, DELETE or REPLACE: opens a transaction, and its changes are counted.
    is_query: preparing it has no effect, so its columns may be asked by preparing it once more.
    can_return_rows: false only when it certainly has no columns.
    is_watched: it must be looked at between preparing and running: perhaps more than one
        statement, or one which only SQLite can classify.
    """

    is_blank: bool
    keyword: str
    is_dml: bool
    is_query: bool
    can_return_rows: bool
    is_watched: bool


def parse(sql: str) -> Statement:
    """The facts about an SQL text."""
    return _remembered(sql) if len(sql) < _REMEMBERED_LENGTH else _parse(sql)


def _parse(sql: str) -> Statement:
    if "\0" in sql:
        raise sqlite3.ProgrammingError("the query contains a null character")
    start = _skip_blank(sql, 0)
    word = _WORD.match(sql, start)
    keyword = word[0].upper() if word else ""
    is_dml = keyword in _DML
    is_query = keyword in _QUERIES
    return Statement(
        is_blank=start == len(sql),
        keyword=keyword,
        is_dml=is_dml,
        is_query=is_query,
        can_return_rows=not is_dml or "returning" in sql.lower(),
        is_watched=not (is_dml or is_query) or ";" in sql.rstrip(" \t\f\n\r;"),
    )


_remembered = lru_cache(maxsize=1024)(_parse)


def _skip_blank(sql: str, start: int) -> int:
    found = _BLANK.match(sql, start)
    return found.end() if found else start


class Watch:
    """An APSW execution tracer: sees a statement after it is prepared, before its first step.

    It keeps the text and columns of the statement and whether it only reads, and refuses a text
    of several statements. It holds no reference to a cursor: APSW's cursor holds the tracer, and a cycle
    would keep a dropped cursor, and with it a lock on the database, until a garbage collection.
    """

    __slots__ = ("columns", "is_readonly", "run", "seen", "text")

    def __init__(self, sql: str, *, run: bool = True) -> None:
        self.text = sql
        self.run = run
        self.seen = False
        self.columns: Columns = ()
        self.is_readonly = True

    def __call__(self, cursor: apsw.Cursor, first: str, bindings: Any) -> bool:
        """Lets the statement run, unless it is only being looked at or is not the only one."""
        # After the first, APSW can only come to the blank rest of the text.
        if not self.seen:
            self.seen = True
            if _skip_blank(self.text, len(first)) < len(self.text):
                raise sqlite3.ProgrammingError("You can only execute one statement at a time.")
            self.text = first
            self.columns = cursor.get_description()
            self.is_readonly = cursor.is_readonly
        return self.run


def check(connection: apsw.Connection, sql: str) -> bool:
    """Prepares a statement without running it; raises what is wrong with it.

    Whether it only reads.
    """
    return _prepare(connection, sql, _NO_BINDINGS).is_readonly


def columns(connection: apsw.Connection, sql: str) -> Columns:
    """The names and declared types of the columns of a statement that has run and gave no row."""
    found: list[Columns] = []

    def look(cursor: apsw.Cursor, first: str, bound: Any) -> bool:
        found.append(cursor.get_description())
        return False

    cursor = connection.cursor()
    cursor.exec_trace = look
    try:
        cursor.execute(sql, _NO_BINDINGS)
    except apsw.ExecTraceAbort:
        pass
    return found[0]


def binding_error(connection: apsw.Connection, sql: str, bindings: Any) -> Exception | None:
    """What goes wrong when a statement is prepared and given its parameters, but not run."""
    try:
        _prepare(connection, sql, bindings)
    except Exception as error:
        return error
    return None


def _prepare(connection: apsw.Connection, sql: str, bindings: Any) -> Watch:
    watch = Watch(sql, run=False)
    cursor = connection.cursor()
    cursor.exec_trace = watch
    try:
        cursor.execute(sql, bindings)
    except apsw.ExecTraceAbort:
        pass
    return watch
