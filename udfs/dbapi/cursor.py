"""The DB-API 2 cursor: runs one statement at a time and fetches its rows."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NoReturn, Self
from weakref import ref

import apsw

from nearsql.udfs.dbapi import parameters as parameters_
from nearsql.udfs.dbapi import rows, statements
from nearsql.udfs.dbapi.errors import from_callback, translate
from nearsql.udfs.dbapi.feeding import Feed, drain, has_row
from nearsql.udfs.dbapi.session import Session

# No row is waiting: the statement is finished, or none was run.
_NO_ROW: Any = object()
# The waiting row holds TEXT that APSW cannot decode; it is read in another way when asked for.
_UNDECODED: Any = object()


class Cursor:
    """A cursor with the interface of sqlite3.Cursor.

    One row is always read ahead, as the standard library does: so a statement is reset, its locks
    are released and `rowcount` is right as soon as the last row has been fetched, not one fetch
    later.
    """

    # What holds until __init__ has run, in a subclass that does not call it.
    _initialised = False
    _busy = False
    _closed = True

    def __init__(self, connection: Session, /) -> None:
        if not isinstance(connection, Session):
            raise TypeError(
                f"Cursor() argument 1 must be Connection, not {type(connection).__name__}"
            )
        if self._busy:
            self._refuse()
        self._connection = connection
        self._source = connection.apsw.cursor()
        self._initialised = True
        self._closed = False
        self._busy = False  # inside SQLite, or inside Python code that it called
        self._row: Any = _NO_ROW
        self._columns: statements.Columns = ()
        self._converters: list[rows.Converter | None] | None = None
        self._raw_text = False  # the waiting rows come from rows.raw_text_query
        self._is_converted = False  # rows are not given as APSW makes them
        self._statement = statements.parse("")
        self._query: tuple[str, Any] | None = None  # to read rows of a query once more
        self._fetched = 0
        self._row_maker: tuple[Any, Any] = (None, None)
        self.arraysize = 1
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.row_factory: Any = None

    # --- what is known about the last statement -------------------------------------------------

    @property
    def connection(self) -> Any:
        """The connection this cursor belongs to."""
        return self._connection

    @property
    def description(self) -> rows.Description | None:
        """The columns of the last statement, seven values each; None when it has none."""
        return rows.description(self._columns, self._connection.detect_types)

    def setinputsizes(self, sizes: Any, /) -> None:
        """Does nothing; required by DB-API 2."""

    def setoutputsize(self, size: Any, column: Any = None, /) -> None:
        """Does nothing; required by DB-API 2."""

    # --- running --------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """Runs one statement, up to its first row."""
        connection = self._ready()
        statement = self._begin_statement("execute", sql)
        with connection.lock:
            self._busy = True
            try:
                if statement.is_dml:
                    connection.begin_implicitly(sql)
                try:
                    # An adapter's error is the program's own and is not translated.
                    bindings = parameters_.bindings(parameters)
                except Exception:
                    connection.check_statement(sql)  # what is wrong with the SQL comes first
                    raise
                self._run(statement, sql, bindings)
                if not statement.is_blank:
                    self.lastrowid = connection.apsw.last_insert_rowid()
            finally:
                self._busy = False
        return self

    def executemany(self, sql: str, seq_of_parameters: Iterable[Any], /) -> Self:
        """Runs one statement that changes rows, once for each set of parameters."""
        connection = self._ready()
        statement = self._begin_statement("executemany", sql)
        if connection.check_statement(sql):
            raise sqlite3.ProgrammingError("executemany() can only execute DML statements.")
        feed = Feed(connection.apsw, seq_of_parameters)
        with connection.lock:
            self._busy = True
            try:
                if statement.is_dml:
                    connection.begin_implicitly(sql)
                self._run_many(statement, sql, feed)
            finally:
                self._busy = False
        return self

    def executescript(self, sql_script: str, /) -> Self:
        """Runs any number of statements, after committing a pending transaction."""
        connection = self._ready()
        if not isinstance(sql_script, str):
            raise TypeError(
                f"executescript() argument must be str, not {type(sql_script).__name__}"
            )
        if "\0" in sql_script:
            raise ValueError("embedded null character")
        connection.check_length(sql_script)
        with connection.lock:
            self._busy = True
            try:
                connection.commit_before_script()
                # Not this cursor's own: rows of its last statement can still be fetched.
                source = connection.apsw.cursor()
                connection.running.cursor = ref(source)
                source.execute(sql_script, can_cache=False)
                drain(source)
            except BaseException as error:
                self._raise(error, (sql_script, None))
            finally:
                self._busy = False
        return self

    def _begin_statement(self, method: str, sql: str) -> statements.Statement:
        """Forgets the last statement, and says what the new one is."""
        if not isinstance(sql, str):
            raise TypeError(f"{method}() argument 1 must be str, not {type(sql).__name__}")
        self._connection.check_length(sql)
        self._statement = statement = statements.parse(sql)
        if self._row is not _NO_ROW:
            self._discard()
        self._columns = ()
        self._converters = None
        self._raw_text = self._is_converted = False
        self._row_maker = (None, None)
        self._query = None
        self._fetched = 0
        self.rowcount = -1
        return statement

    def _run(self, statement: statements.Statement, sql: str, bindings: Any) -> None:
        """Runs a statement up to its first row, and finds its columns."""
        source = self._source
        self._connection.running.cursor = ref(source)
        watch = None
        try:
            if statement.is_watched:
                # Not from the cache: some PRAGMAs do their work while they are prepared.
                watch = source.exec_trace = statements.Watch(sql)
                source.execute(sql, bindings, can_cache=False)
            else:
                source.execute(sql, bindings)
        except BaseException as error:
            self._fail(error, (sql, bindings))
        finally:
            if watch is not None:
                source.exec_trace = None
        if statement.is_query:
            self._query = (sql if watch is None else watch.text, bindings)
        elif statement.is_dml:
            self.rowcount = 0
        self._read_ahead()
        if self._row is not _NO_ROW:
            # Only now, after the first step: SQLite prepares a statement again while stepping when
            # another connection has changed the schema.
            self._columns = source.get_description()
        elif statement.is_query or (statement.is_dml and statement.can_return_rows):
            self._columns = statements.columns(self._connection.apsw, sql)
        elif watch is not None:
            self._columns = watch.columns
        if detect_types := self._connection.detect_types:
            self._converters = rows.converters(self._columns, detect_types)
            self._is_converted = self._converters is not None

    def _run_many(self, statement: statements.Statement, sql: str, feed: Feed) -> None:
        """Runs a statement to its end for each set of parameters."""
        source = self._source
        self._connection.running.cursor = ref(source)
        try:
            source.executemany(sql, feed)
            drain(source)
        except BaseException as error:
            if error is feed.error:
                raise
            self._fail(error, (sql, feed.last))
        if statement.is_dml:
            self.rowcount = feed.changes

    def _read_ahead(self) -> None:
        """Reads the next row, or finishes the statement."""
        try:
            self._row = next(self._source, _NO_ROW)
        except UnicodeDecodeError as error:
            if not has_row(self._source):
                self._fail(error)
            self._row = _UNDECODED
        except BaseException as error:
            self._fail(error)
        else:
            if self._row is _NO_ROW and self._statement.is_dml:
                self.rowcount = self._connection.apsw.changes()

    def _discard(self) -> None:
        """Drops the running statement, and the locks that it holds."""
        self._row = _NO_ROW
        with self._connection.lock:
            self._source.close(True)
        self._source = self._connection.apsw.cursor()

    def _fail(self, error: BaseException, running: tuple[str, Any] | None = None) -> NoReturn:
        """Ends the statement with the standard library's exception for `error`."""
        self._row = _NO_ROW
        self.rowcount = -1
        self._raise(error, running)

    def _raise(self, error: BaseException, running: tuple[str, Any] | None) -> NoReturn:
        """Raises the standard library's exception for what APSW, or code it called, has raised.

        running: the statement and its parameters, when the failure may lie in binding them.
        """
        if isinstance(error, apsw.Error):
            raise translate(error) from error
        if isinstance(error, sqlite3.Error | MemoryError) or not isinstance(error, Exception):
            raise error
        if running is not None:
            at_fault = statements.binding_error(self._connection.apsw, *running)
            if type(at_fault) is type(error):
                raise parameters_.binding_failure(error) from error
        raise from_callback(error) from error

    # --- fetching -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """The cursor itself: its rows, one after the other."""
        return self

    def __next__(self) -> Any:
        """The next row, made by the row factory."""
        connection = self._ready()
        row = self._row
        if row is _NO_ROW:
            raise StopIteration
        self._busy = True
        try:
            with connection.lock:
                if self._is_converted or connection.text_factory is not str or row is _UNDECODED:
                    # A converter's error is the program's own, and leaves the row where it is.
                    row = self._converted_row()
                self._fetched += 1
                self._read_ahead()
        finally:
            self._busy = False
        factory = self.row_factory
        return row if factory is None else self._maker(factory)(row)

    def fetchone(self) -> Any:
        """The next row; None when there is none left."""
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next `size` rows (by default `arraysize`), or as many as are left."""
        wanted = self.arraysize if size is None else size
        fetched: list[Any] = []
        for row in self:
            fetched.append(row)
            if len(fetched) == wanted:
                break
        return fetched

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        connection = self._ready()
        if self._row is _NO_ROW:
            return []
        if self._is_converted or self._row is _UNDECODED:
            return list(self)
        # Without converters SQLite's rows can be taken at once, and text decoded afterwards.
        fetched = [self._row]
        self._row = _NO_ROW
        with connection.lock:
            self._busy = True
            try:
                fetched.extend(self._source)
                if self._statement.is_dml:
                    self.rowcount = connection.apsw.changes()
            except UnicodeDecodeError as error:
                if not has_row(self._source):
                    self._fail(error)
                self._row = _UNDECODED
            except BaseException as error:
                self._fail(error)
            finally:
                self._busy = False
        self._fetched += len(fetched)
        if (text_factory := connection.text_factory) is not str:
            fetched = [rows.convert(row, text_factory, None) for row in fetched]
        if self.row_factory is not None:
            fetched = list(map(self._maker(self.row_factory), fetched))
        if self._row is _UNDECODED:
            fetched.extend(self)
        return fetched

    def close(self) -> None:
        """Closes the cursor; it cannot be used afterwards."""
        if not self._initialised or self._busy:
            self._refuse()
        self._connection.check_usable()
        self._row = _NO_ROW
        with self._connection.lock:
            self._source.close(True)
        self._closed = True

    def _converted_row(self) -> tuple[Any, ...]:
        """The row that was read ahead, converted; it stays where it is until the next read."""
        if self._row is _UNDECODED:
            self._read_raw_text()
        text_factory = self._connection.text_factory
        if self._raw_text:
            return rows.convert_raw(self._row, self._columns, text_factory, self._converters)
        return rows.convert(self._row, text_factory, self._converters)

    def _read_raw_text(self) -> None:
        """Runs the query again, from the waiting row on, with its text as bytes."""
        if self._query is None:
            # A PRAGMA, or INSERT ... RETURNING, cannot be part of a query.
            raise sqlite3.OperationalError("Could not decode to UTF-8 a column of this row")
        sql, bindings = self._query
        query = rows.raw_text_query(sql, len(self._columns), self._fetched)
        source = self._connection.apsw.cursor()
        try:
            source.execute(query, bindings)
            row = next(source, _NO_ROW)
        except Exception as error:
            self._raise(error, None)
        if row is _NO_ROW:
            raise sqlite3.OperationalError("the rows changed while text that is not UTF-8 was read")
        self._source.close(True)
        self._source = source
        self._row = row
        self._raw_text = self._is_converted = True

    def _maker(self, factory: Any) -> Callable[[tuple[Any, ...]], Any]:
        """The row factory as a function of the row alone."""
        known, maker = self._row_maker
        if known is factory:
            return maker
        if isinstance(factory, type) and issubclass(factory, sqlite3.Row):
            maker = rows.row_maker(factory, [column[0] for column in self.description or ()])
            self._row_maker = (factory, maker)
            return maker
        # Not kept: a function that holds the cursor would make a cycle with it.
        return partial(factory, self)

    # --- states ---------------------------------------------------------------------------------

    def _ready(self) -> Session:
        """The connection, if this cursor may be used now."""
        if self._busy or self._closed:
            self._refuse()
        self._connection.check_usable()
        return self._connection

    def _refuse(self) -> NoReturn:
        if not self._initialised:
            raise sqlite3.ProgrammingError("Base Cursor.__init__ not called.")
        if self._closed:
            raise sqlite3.ProgrammingError("Cannot operate on a closed cursor.")
        raise sqlite3.ProgrammingError("Recursive use of cursors not allowed.")
