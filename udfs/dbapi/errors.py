"""APSW's exceptions as the standard library's: which class, which text, which error code."""

import re
import sqlite3

import apsw

# The class for a primary result code, as in CPython's Modules/_sqlite/util.c. Codes that are not
# here are a plain DatabaseError there, and so here.
_CLASS_OF_CODE: dict[int, type[sqlite3.Error]] = {
    apsw.SQLITE_INTERNAL: sqlite3.InternalError,
    apsw.SQLITE_NOTFOUND: sqlite3.InternalError,
    apsw.SQLITE_ERROR: sqlite3.OperationalError,
    apsw.SQLITE_PERM: sqlite3.OperationalError,
    apsw.SQLITE_ABORT: sqlite3.OperationalError,
    apsw.SQLITE_BUSY: sqlite3.OperationalError,
    apsw.SQLITE_LOCKED: sqlite3.OperationalError,
    apsw.SQLITE_READONLY: sqlite3.OperationalError,
    apsw.SQLITE_INTERRUPT: sqlite3.OperationalError,
    apsw.SQLITE_IOERR: sqlite3.OperationalError,
    apsw.SQLITE_FULL: sqlite3.OperationalError,
    apsw.SQLITE_CANTOPEN: sqlite3.OperationalError,
    apsw.SQLITE_PROTOCOL: sqlite3.OperationalError,
    apsw.SQLITE_EMPTY: sqlite3.OperationalError,
    apsw.SQLITE_SCHEMA: sqlite3.OperationalError,
    apsw.SQLITE_TOOBIG: sqlite3.DataError,
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_MISMATCH: sqlite3.IntegrityError,
    apsw.SQLITE_MISUSE: sqlite3.InterfaceError,
    apsw.SQLITE_RANGE: sqlite3.InterfaceError,
}

# Errors of APSW itself, which carry no result code.
_CLASS_OF_APSW_ERROR: dict[type[apsw.Error], type[sqlite3.Error]] = {
    apsw.BindingsError: sqlite3.ProgrammingError,
    apsw.ThreadingViolationError: sqlite3.ProgrammingError,
    apsw.ForkingViolationError: sqlite3.ProgrammingError,
    apsw.ConnectionClosedError: sqlite3.ProgrammingError,
    apsw.CursorClosedError: sqlite3.ProgrammingError,
    apsw.IncompleteExecutionError: sqlite3.ProgrammingError,
    apsw.ExtensionLoadingError: sqlite3.OperationalError,
}

# Where APSW and the standard library word the same mistake differently, the text is the standard
# library's: programs match on it.
_WRONG_COUNT = re.compile(r"Incorrect number of bindings supplied\.\s+(.*) and (there are .*?)\.  ")
_NONE_NAMED = re.compile(r"Binding (\d+) has no name, but you supplied a dict ")

# How APSW calls the frames that it adds to tracebacks.
_FUNCTION = re.compile(r"user-defined-(?:scalar|aggregate-step|aggregate-final)-(.+)")

CLOSED_DATABASE = "Cannot operate on a closed database."


def error_name(code: int) -> str:
    """The name of an SQLite result code, such as SQLITE_CONSTRAINT_UNIQUE."""
    for names in (apsw.mapping_extended_result_codes, apsw.mapping_result_codes):
        if code in names:
            return str(names[code])
    return "unknown"


def translate(error: apsw.Error) -> sqlite3.Error | MemoryError:
    """The exception which the standard library raises where APSW raised `error`."""
    message = str(error)
    code: int | None = getattr(error, "extendedresult", None)
    if code is None:
        kind = _CLASS_OF_APSW_ERROR.get(type(error), sqlite3.DatabaseError)
        return kind(_reworded(error, message))
    primary = code & 0xFF
    if primary == apsw.SQLITE_NOMEM:
        return MemoryError()
    translated = _CLASS_OF_CODE.get(primary, sqlite3.DatabaseError)(message)
    translated.sqlite_errorcode = code
    translated.sqlite_errorname = error_name(code)
    return translated


def from_callback(error: Exception) -> BaseException:
    """What a failure inside Python code called by SQLite is to the caller of that SQL.

    An error of this interface stays what it is; any other becomes an OperationalError with the
    same text, because that is what programs report to their users.
    """
    if isinstance(error, sqlite3.Error | MemoryError):
        return error
    if isinstance(error, apsw.Error):
        return translate(error)
    if isinstance(error, UnicodeDecodeError):
        return sqlite3.OperationalError(_not_utf8(error))
    return sqlite3.OperationalError(str(error) or type(error).__name__)


def _not_utf8(error: UnicodeDecodeError) -> str:
    """What is wrong when a text that a function was given is not text: SQLite does not look.

    APSW reads arguments before it calls anything of ours, and names the function in the traceback only.
    """
    places, at = [], error.__traceback__
    while at is not None:
        places.append(at.tb_frame.f_code.co_name)
        at = at.tb_next
    found = next((found for place in reversed(places) if (found := _FUNCTION.match(place))), None)
    if found is not None:
        where = f"{found[1]}: an argument"
    elif "VirtualTable.xFilter" in places:
        where = "an argument of a table-valued function"
    else:
        where = "a value"
    byte = error.object[error.start]
    return (
        f"{where} is a text that is not valid UTF-8 (byte {byte:#04x} at {error.start}): hand it over as"
        " a BLOB, or mend it"
    )


def _reworded(error: apsw.Error, message: str) -> str:
    if isinstance(error, apsw.ConnectionClosedError):
        return CLOSED_DATABASE
    if isinstance(error, apsw.BindingsError):
        if found := _WRONG_COUNT.match(message):
            return f"Incorrect number of bindings supplied. {found[1]}, and {found[2]}."
        if found := _NONE_NAMED.match(message):
            return (
                f"Binding {int(found[1]) + 1} has no name, "
                "but you supplied a dictionary (which has only names)."
            )
    return message
