"""The catalogue of SQL functions: declared once in Python, registered on connections, documented from here.

    @sql_function(example="select vector_dimensions(vector('[1, 2, 3]'))")
    def vector_dimensions(vector: bytes) -> int:
        '''How many numbers a vector holds.'''

A function whose first parameter is called `db` is given the raw APSW connection it is called on; SQL
does not see that parameter. Parameters with a default are optional in SQL.
"""

import importlib
import inspect
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import apsw

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.table_functions import TableFunctionModule

Kind = Literal["scalar", "aggregate", "table"]
Guard = Callable[[], str | None]
Implementation = TypeVar("Implementation", bound=Callable[..., Any])

# The modules that declare functions, in the order of the documentation; importing them fills the
# catalogue.
MODULES = (
    "nearsql.udfs.knn_functions",
    "nearsql.udfs.search_functions",
    "nearsql.udfs.loss_functions",
    "nearsql.udfs.vote_functions",
    "nearsql.udfs.finding_functions",
    "nearsql.udfs.metric_functions",
    "nearsql.udfs.evaluation_functions",
    "nearsql.udfs.clustering_functions",
    "nearsql.udfs.cluster_level_functions",
    "nearsql.udfs.topic_functions",
    "nearsql.udfs.diff_functions",
    "nearsql.udfs.projection_functions",
    "nearsql.udfs.sampling_functions",
    "nearsql.udfs.vector_functions",
    "nearsql.udfs.text_functions",
    "nearsql.udfs.image_functions",
    "nearsql.udfs.box_functions",
)


@dataclass(frozen=True)
class SqlFunction:
    """One SQL function: what it is called, what it gives, and the Python that does it."""

    name: str
    kind: Kind
    implementation: Callable[..., Any]
    columns: tuple[str, ...]
    example: str
    estimated_rows: int

    @cached_property
    def takes_connection(self) -> bool:
        """Whether the implementation's first parameter is the connection, `db`."""
        return "db" in inspect.signature(self.implementation).parameters

    @cached_property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The parameters that SQL sees, in order."""
        function = self.implementation
        if self.kind == "aggregate":  # a class: its step method takes the values of one row
            function = function.step  # type: ignore[attr-defined]
        found = inspect.signature(function).parameters.values()
        return tuple(p for p in found if p.name not in ("db", "self"))

    @property
    def signature(self) -> str:
        """As the documentation and error sentences show it: `knn(space, query[, k, within])`."""
        required = [p.name for p in self.parameters if p.default is p.empty]
        optional = [p.name for p in self.parameters if p.default is not p.empty]
        inside = ", ".join(required)
        if optional:
            inside += f"[{', ' if required else ''}{', '.join(optional)}]"
        return f"{self.name}({inside})"

    @property
    def documentation(self) -> str:
        """The docstring, without its indentation."""
        return inspect.getdoc(self.implementation) or ""


CATALOGUE: dict[str, SqlFunction] = {}


def sql_function(
    *,
    example: str,
    kind: Kind = "scalar",
    columns: tuple[str, ...] = (),
    estimated_rows: int = 1000,
) -> Callable[[Implementation], Implementation]:
    """Declares the decorated function (or aggregate class) as a SQL function of the same name.

    columns makes it a table-valued function; estimated_rows is what the query planner is told.
    An aggregate is a class with `step(...)` and `final()`, made anew for each group.
    """

    def declare(implementation: Implementation) -> Implementation:
        name = _sql_name(implementation.__name__)
        function = SqlFunction(
            name,
            "table" if columns else kind,
            implementation,
            columns,
            inspect.cleandoc(example),
            estimated_rows,
        )
        if name in CATALOGUE:
            raise ValueError(f"SQL function {name!r} is declared twice")
        if not function.documentation or not example:
            raise ValueError(f"SQL function {name!r} needs a docstring and an example")
        CATALOGUE[name] = function
        return implementation

    return declare


def _sql_name(python_name: str) -> str:
    """`Centroid` or `VoteShare`, the classes of aggregates, are `centroid` and `vote_share` in SQL."""
    return "".join(
        f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(python_name)
    )


def load() -> dict[str, SqlFunction]:
    """The whole catalogue, its modules imported, in the order of MODULES and of the code."""
    for module in MODULES:
        importlib.import_module(module)
    order = sorted(CATALOGUE.values(), key=lambda f: MODULES.index(f.implementation.__module__))
    return {function.name: function for function in order}


def register(connection: apsw.Connection, guard: Guard, functions: Iterable[SqlFunction]) -> None:
    """Gives an APSW connection the functions.

    guard() is asked before each call of a function that reads the database; a sentence from it
    (a file of a newer schema, say) refuses the call.
    """
    for function in functions:
        call = _callable(function, connection, guard)
        if function.kind == "table":
            module: Any = TableFunctionModule(  # a part of apsw.VTModule: what reading needs
                function.columns,
                tuple(p.name for p in function.parameters),
                call,
                function.estimated_rows,
            )
            connection.create_module(
                function.name,
                module,
                use_bestindex_object=True,
                eponymous_only=True,
                read_only=True,
            )
        elif function.kind == "aggregate":
            connection.create_aggregate_function(function.name, call, -1)
        else:
            # What reads the database may be called by the user only, never by a trigger or view that a
            # hostile file brings; what computes from its arguments is safe anywhere.
            flags = apsw.SQLITE_DIRECTONLY if function.takes_connection else apsw.SQLITE_INNOCUOUS
            connection.create_scalar_function(
                function.name,
                call,
                -1,
                deterministic=not function.takes_connection,
                flags=flags,
            )


def _unforeseen(error: Exception) -> str:
    what = f"{type(error).__name__}: {str(error)[:100]}"
    if isinstance(error, UnicodeDecodeError):  # SQLite keeps whatever it is given as a text
        what = f"a text that is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}"
    return (
        f"it met what it cannot read ({what}): `nearsql check FILE`"
        " says whether the file is damaged; if it is not, this is a fault of nearsql"
    )


def _callable(
    function: SqlFunction, connection: apsw.Connection, guard: Guard
) -> Callable[..., Any]:
    """The implementation with its connection bound, its arguments checked and its errors named."""
    # Weakly: the connection owns the function, and must not be kept alive by it.
    owner = weakref.ref(connection)
    signature = inspect.Signature(
        [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in function.parameters]
    )

    required = {p.name for p in function.parameters if p.default is p.empty}
    known = {p.name for p in function.parameters}

    def check_arity(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A table function is called by names only; binding them takes longer than this look.
        if not args and required <= kwargs.keys() <= known:
            return
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise SqlFunctionError(f"{error}; call it as {function.signature}") from None

    def named(error: SqlFunctionError) -> SqlFunctionError:
        return SqlFunctionError(f"{function.name}: {error}")

    @contextmanager
    def sentences() -> Iterator[None]:
        """Turns what comes out of a function that reads the file into a sentence.

        A file may hold what its own rules forbid, when somebody took those away.
        """
        try:
            yield
        except SqlFunctionError as error:
            raise named(error) from error.__cause__
        except (apsw.Error, sqlite3.Error, MemoryError):
            raise
        except Exception as error:
            if not function.takes_connection:
                raise
            raise named(SqlFunctionError(_unforeseen(error))) from error

    def call(*args: Any, **kwargs: Any) -> Any:
        with sentences():
            check_arity(args, kwargs)
            if not function.takes_connection:
                return function.implementation(*args, **kwargs)
            if problem := guard():
                raise SqlFunctionError(problem)
            return function.implementation(owner(), *args, **kwargs)

    def rows(*args: Any, **kwargs: Any) -> Iterable[Any]:
        result = call(*args, **kwargs)
        with sentences():
            yield from result  # a generator refuses its arguments only now

    def new_aggregate() -> tuple[Any, Callable[..., None], Callable[[Any], Any]]:
        state = function.implementation()

        def step(_: Any, *args: Any) -> None:
            try:
                check_arity(args, {})
                state.step(*args)
            except SqlFunctionError as error:
                raise named(error) from error.__cause__

        def final(_: Any) -> Any:
            try:
                return state.final()
            except SqlFunctionError as error:
                raise named(error) from error.__cause__

        return None, step, final

    by_kind: dict[Kind, Callable[..., Any]] = {
        "scalar": call,
        "table": rows,
        "aggregate": new_aggregate,
    }
    return by_kind[function.kind]
