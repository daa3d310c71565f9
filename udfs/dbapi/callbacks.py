"""Python code that SQLite calls: functions, aggregates, collations, hooks; and how it may fail.

SQLite learns only that such code failed. What the caller of the SQL sees is the standard library's
sentence ("user-defined function raised exception"), with the real error as its `__cause__`.
Functions registered on `.apsw` instead are not wrapped: their own error text is what is seen.
"""

import sqlite3
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import apsw

from nearsql.udfs.dbapi.errors import translate
from nearsql.udfs.dbapi.session import Session

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
            SimpleNamespace(  # type: ignore[arg-type]
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
            raise _failure(
                error, function, "user-defined function raised exception"
            ) from error

    return call


class _Aggregate:
    """One run of an aggregate or window function over the rows of a group."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._instance: Any = None
        self._in_window = False

    def _started(self) -> Any:
        # Not before the first row: an aggregate over no rows is NULL, and nothing is made.
        if self._instance is None:
            try:
                self._instance = self._kind()
            except Exception as error:
                raise self._failure(error, "__init__", "method raised error") from error
        return self._instance

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            method = getattr(self._started(), name)
        except AttributeError as error:
            raise self._failure(error, name, "method not defined") from error
        try:
            return _result(method(*arguments))
        except Exception as error:
            raise self._failure(error, name, "method raised error") from error

    def _failure(self, error: Exception, name: str, what: str) -> Exception:
        return _failure(error, self._kind, f"user-defined aggregate's '{name}' {what}")

    def step(self, *arguments: Any) -> None:
        """Takes a row in."""
        try:
            method = self._started().step
        except AttributeError as error:
            raise self._failure(error, "step", "method not defined") from error
        try:
            method(*arguments)
        except Exception as error:
            raise self._failure(error, "step", "method raised error") from error

    def final(self) -> Any:
        """The value of the group; NULL when it had no rows."""
        if self._instance is None:
            return None
        try:
            return self._call("finalize")
        except Exception:
            # The end of a window has no value, and so SQLite reports no failure there.
            if self._in_window:
                return None
            raise

    def value(self) -> Any:
        """The value of the rows now in the window."""
        self._in_window = True
        return self._call("value")

    def inverse(self, *arguments: Any) -> None:
        """Takes out a row that left the window."""
        try:
            method = self._started().inverse
        except AttributeError as error:
            raise self._failure(error, "inverse", "method not defined") from error
        try:
            method(*arguments)
        except Exception as error:
            raise self._failure(error, "inverse", "method raised error") from error


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
        self.check_usable()
        try:
            self._db.create_scalar_function(
                name,
                None if func is None else _checked(func),
                narg,
                deterministic=bool(deterministic),
            )
        except (apsw.Error, OverflowError) as error:
            raise sqlite3.OperationalError("Error creating function") from error

    def create_aggregate(self, name: str, n_arg: int, aggregate_class: type | None) -> None:
        """Makes a class with `step` and `finalize` a SQL aggregate; None removes it."""
        self.check_usable()
        kind = aggregate_class
        try:
            self._db.create_aggregate_function(
                name, None if kind is None else lambda: _Aggregate(kind), n_arg
            )
        except (apsw.Error, OverflowError) as error:
            raise sqlite3.OperationalError("Error creating aggregate") from error

    def create_window_function(
        self, name: str, num_params: int, aggregate_class: type | None, /
    ) -> None:
        """Makes a class with `step`, `finalize`, `value`, `inverse` a SQL window function."""
        self.check_usable()
        kind = aggregate_class
        try:
            self._db.create_window_function(
                name, None if kind is None else lambda: _Aggregate(kind), num_params
            )
        except (apsw.Error, OverflowError) as error:
            raise sqlite3.ProgrammingError("Error creating window function") from error

    def create_collation(self, name: str, callback: Callable[[str, str], int] | None, /) -> None:
        """Makes a comparison of two texts a SQL collation; None removes it."""
        self.check_usable()
        if not isinstance(name, str):
            raise TypeError(f"create_collation() argument 1 must be str, not {type(name).__name__}")
        if callback is not None and not callable(callback):
            raise TypeError("parameter must be callable")
        compare = callback

        def order(first: str, second: str) -> int:
            # A comparison cannot fail in SQLite: what goes wrong counts as equal.
            assert compare is not None
            try:
                answer = compare(first, second)
                return (answer > 0) - (answer < 0)
            except Exception:
                return 0

        try:
            self._db.create_collation(name, None if callback is None else order)
        except apsw.Error as error:
            raise translate(error) from error

    def set_authorizer(self, authorizer_callback: Callable[..., int] | None) -> None:
        """Asks `authorizer_callback` about each access of a statement being prepared."""
        self.check_usable()
        if authorizer_callback is None:
            self._db.set_authorizer(None)
            return
        decide = authorizer_callback

        def authorize(*access: Any) -> int:
            try:
                answer = decide(*access)
            except Exception as error:
                _report(error, decide)
                return sqlite3.SQLITE_DENY
            known = isinstance(answer, int) and answer in _INT32
            return answer if known else sqlite3.SQLITE_DENY

        self._db.set_authorizer(authorize)

    def set_progress_handler(self, progress_handler: Callable[[], Any] | None, n: int) -> None:
        """Calls `progress_handler` every n instructions; a true answer interrupts the statement."""
        self.check_usable()
        if progress_handler is None:
            self._db.set_progress_handler(None)
            return
        ask = progress_handler

        def interrupts() -> bool:
            try:
                return bool(ask())
            except Exception as error:
                _report(error, ask)
                return True

        self._db.set_progress_handler(interrupts, n)

    def set_trace_callback(self, trace_callback: Callable[[str], Any] | None) -> None:
        """Calls `trace_callback` with each statement that runs, its parameters filled in."""
        self.check_usable()
        if trace_callback is None:
            self._db.trace_v2(0, None)
            return
        tell = trace_callback

        def trace(event: dict[str, Any]) -> None:
            try:
                tell(self._expanded(event))
            except Exception as error:
                _report(error, tell)

        self._db.trace_v2(apsw.SQLITE_TRACE_STMT, trace)

    def _expanded(self, event: dict[str, Any]) -> str:
        """The text of the statement a trace event is about, with its parameters filled in.

        APSW's event has the text without them; the cursor which is running has both.
        """
        sql: str = event["sql"]
        running = None if self.running is None else self.running()
        if running is None or event["trigger"]:
            return sql
        try:
            expanded = running.expanded_sql
        except apsw.ExecutionCompleteError:
            return sql
        except apsw.NoMemError:
            message = "Expanded SQL string exceeds the maximum string length"
            _report(sqlite3.DataError(message), self)
            return sql
        return expanded or sql
