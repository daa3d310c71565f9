"""Python code that SQLite calls: functions, aggregates, collations, hooks; and how it may fail.

SQLite learns only that such code failed. What the caller of the SQL sees is the standard library's
sentence ("user-defined function raised exception"), with the real error as its `__cause__`.
Functions registered on `.apsw` instead are not wrapped: their own error text is what is seen.
"""

import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import apsw

from nearsql.udfs.dbapi.session import Running, Session

_RESULT_TYPES = (str, bytes, float, type(None))
_INT64 = range(-(2**63), 2**63)
_INT32 = range(-(2**31), 2**31)

_tracebacks = SimpleNamespace(enabled=False)


def enable_callback_tracebacks(enable: bool, /) -> None:
    """Reports errors inside callbacks through sys.unraisablehook, for debugging them."""
    _tracebacks.enabled = bool(enable)


def _report(error: BaseException, code: object) -> None:
    if _tracebacks.enabled:
        # The hook's own argument type cannot be made from Python; it reads only these names.
        sys.unraisablehook(
            SimpleNamespace(
                exc_type=type(error),
                exc_value=error,
                exc_traceback=error.__traceback__,
                err_msg=None,
                object=code,
            )
        )


def _failure(error: Exception, code: object, message: str) -> Exception:
    """The exception for a failure of called code."""
    _report(error, code)
    if isinstance(error, MemoryError):
        return error
    if isinstance(error, OverflowError):
        return sqlite3.DataError("string or blob too big")
    return sqlite3.OperationalError(message)


def _result(value: Any) -> Any:
    """A returned value, checked here so that a bad one fails as the standard library's does."""
    if isinstance(value, int):
        if value not in _INT64:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        return value
    if isinstance(value, _RESULT_TYPES):
        if isinstance(value, str) and not value.isascii():
            value.encode()  # lone surrogates are no text to SQLite
        return value
    view = memoryview(value)
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A scalar function with the standard library's way of failing."""

    def call(*arguments: Any) -> Any:
        try:
            return _result(function(*arguments))
        except Exception as error:
            raise _failure(error, function, "user-defined function raised exception") from error

    return call


def _comparison(compare: Callable[[str, str], int]) -> Callable[[str, str], int]:
    """A collation; since a comparison cannot fail in SQLite, what goes wrong counts as equal."""

    def order(first: str, second: str) -> int:
        try:
            answer = compare(first, second)
            return (answer > 0) - (answer < 0)
        except Exception:
            return 0

    return order


def _authorizer(decide: Callable[..., int]) -> Callable[..., int]:
    """An authorizer that denies what it fails to answer."""

    def authorize(*access: Any) -> int:
        try:
            answer = decide(*access)
        except Exception as error:
            _report(error, decide)
            return sqlite3.SQLITE_DENY
        known = isinstance(answer, int) and answer in _INT32
        return answer if known else sqlite3.SQLITE_DENY

    return authorize


def _interrupter(ask: Callable[[], Any]) -> Callable[[], bool]:
    """A progress handler that interrupts when it fails."""

    def interrupts() -> bool:
        try:
            return bool(ask())
        except Exception as error:
            _report(error, ask)
            return True

    return interrupts


def _tracer(tell: Callable[[str], Any], running: Running) -> Callable[[dict[str, Any]], None]:
    """A trace callback that passes on the text of a statement, with its parameters filled in.

    APSW's event has the text without them; the cursor which is running has both.
    """

    def trace(event: dict[str, Any]) -> None:
        cursor = running.cursor()
        sql: str = event["sql"]
        try:
            try:
                # The text differs when the statement is one of the raw connection or a trigger's.
                if cursor is not None and cursor.sql == sql:
                    sql = cursor.expanded_sql
            except apsw.ExecutionCompleteError:
                pass
            except apsw.NoMemError as error:
                message = "Expanded SQL string exceeds the maximum string length"
                _report(sqlite3.DataError(message).with_traceback(error.__traceback__), tell)
            tell(sql)
        except Exception as error:
            _report(error, tell)

    return trace


class _Aggregate:
    """One run of an aggregate or window function over the rows of a group."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._instance: Any = None
        self._in_window = False

    def step(self, *arguments: Any) -> None:
        """Takes a row in."""
        self._call("step", arguments)

    def final(self) -> Any:
        """The value of the group; NULL when it had no rows."""
        if self._instance is None:
            return None
        try:
            return self._call("finalize", (), _result)
        except Exception:
            # The end of a window has no value, and so SQLite reports no failure there.
            if self._in_window:
                return None
            raise

    def value(self) -> Any:
        """The value of the rows now in the window."""
        self._in_window = True
        return self._call("value", (), _result)

    def inverse(self, *arguments: Any) -> None:
        """Takes out a row that left the window."""
        self._call("inverse", arguments)

    def _call(
        self, name: str, arguments: tuple[Any, ...], checked: Callable[[Any], Any] | None = None
    ) -> Any:
        """Calls a method of the program's class, and checks what it gives."""
        if self._instance is None:
            # Not before the first row: an aggregate over no rows is NULL, and nothing is made.
            try:
                self._instance = self._kind()
            except Exception as error:
                raise self._failure(error, "__init__", "method raised error") from error
        try:
            method = getattr(self._instance, name)
        except AttributeError as error:
            raise self._failure(error, name, "method not defined") from error
        try:
            given = method(*arguments)
            return given if checked is None else checked(given)
        except Exception as error:
            raise self._failure(error, name, "method raised error") from error

    def _failure(self, error: Exception, name: str, what: str) -> Exception:
        return _failure(error, self._kind, f"user-defined aggregate's '{name}' {what}")


class Callbacks(Session):
    """The methods of a connection that register Python code with SQLite."""

    def create_function(
        self,
        name: str,
        narg: int,
        func: Callable[..., Any] | None,
        *,
        deterministic: bool = False,
    ) -> None:
        """Makes a Python function a SQL function; None removes it. narg -1: any number."""
        function = None if func is None else _checked(func)
        with self.use() as db:
            try:
                db.create_scalar_function(name, function, narg, deterministic=bool(deterministic))
            except (apsw.Error, OverflowError) as error:
                raise sqlite3.OperationalError("Error creating function") from error

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: type | None) -> None:
        """Makes a class with `step` and `finalize` a SQL aggregate; None removes it."""
        factory = None if aggregate_class is None else partial(_Aggregate, aggregate_class)
        with self.use() as db:
            try:
                db.create_aggregate_function(name, factory, n_arg)
            except (apsw.Error, OverflowError) as error:
                raise sqlite3.OperationalError("Error creating aggregate") from error

    def create_window_function(
        self, name: str, num_params: int, aggregate_class: type | None, /
    ) -> None:
        """Makes a class with `step`, `finalize`, `value`, `inverse` a SQL window function."""
        factory = None if aggregate_class is None else partial(_Aggregate, aggregate_class)
        with self.use() as db:
            try:
                db.create_window_function(name, factory, num_params)
            except (apsw.Error, OverflowError) as error:
                raise sqlite3.ProgrammingError("Error creating window function") from error

    def create_collation(self, name: str, callback: Callable[[str, str], int] | None, /) -> None:
        """Makes a comparison of two texts a SQL collation; None removes it."""
        if not isinstance(name, str):
            raise TypeError(f"create_collation() argument 1 must be str, not {type(name).__name__}")
        if callback is not None and not callable(callback):
            raise TypeError("parameter must be callable")
        with self.use() as db:
            db.create_collation(name, None if callback is None else _comparison(callback))

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Asks `authorizer_callback` about each access of a statement being prepared."""
        code = authorizer_callback
        with self.use() as db:
            db.set_authorizer(None if code is None else _authorizer(code))

    def set_progress_handler(self, progress_handler: Callable[[], Any] | None, n: int) -> None:
        """Calls `progress_handler` every n instructions; a true answer interrupts the statement."""
        with self.use() as db:
            if progress_handler is None:
                db.set_progress_handler(None)
            else:
                db.set_progress_handler(_interrupter(progress_handler), n)

    def set_trace_callback(self, trace_callback: Callable[[str], Any] | None) -> None:
        """Calls `trace_callback` with each statement that runs, its parameters filled in."""
        with self.use() as db:
            if trace_callback is None:
                db.trace_v2(0, None)
            else:
                db.trace_v2(apsw.SQLITE_TRACE_STMT, _tracer(trace_callback, self.running))
