"""The connection offers exactly what the catalogue documents, and refuses bad calls in a sentence."""

import sqlite3

import pytest

from nearsql.udfs import catalogue, dbapi
from nearsql.udfs.connection import prepare


def function_names(raw: object) -> set[str]:
    return {name for (name,) in raw.execute("select distinct name from pragma_function_list")}


def module_names(raw: object) -> set[str]:
    return {name for (name,) in raw.execute("select name from pragma_module_list")}


def test_the_connection_offers_exactly_the_catalogue(db: dbapi.Connection) -> None:
    bare = dbapi.connect(":memory:").apsw
    before = function_names(bare) | module_names(bare)
    added = (function_names(db.apsw) | module_names(db.apsw)) - before
    from_sqlite_vec = {name for name in added if name.startswith("vec_") or name == "vec0"}
    assert {"vec_version", "vec_distance_cosine", "vec0"} <= from_sqlite_vec
    # A table-valued function that was called shows as a table of the schema, never as another name.
    assert added - from_sqlite_vec == set(catalogue.load())


def test_every_function_is_documented() -> None:
    for function in catalogue.load().values():
        first_line = function.documentation.splitlines()[0]
        assert first_line.endswith("."), function.name
        assert function.name in function.example, function.name


@pytest.mark.parametrize("name", sorted(catalogue.load()))
def test_wrong_number_of_arguments_is_a_sentence(db: dbapi.Connection, name: str) -> None:
    function = catalogue.load()[name]
    source = f"select * from {name}" if function.kind == "table" else f"select {name}"
    required = [p for p in function.parameters if p.default is p.empty]
    if required:
        with pytest.raises(sqlite3.OperationalError) as caught:
            db.execute(f"{source}()" if function.kind != "table" else source).fetchall()
        assert function.signature in str(caught.value)
    too_many = ", ".join(["1"] * (len(function.parameters) + 1))
    with pytest.raises(sqlite3.OperationalError, match=name):
        db.execute(f"{source}({too_many})").fetchall()


@pytest.mark.parametrize(
    "name", sorted(n for n, f in catalogue.load().items() if f.kind == "table")
)
def test_null_arguments_are_a_sentence(db: dbapi.Connection, name: str) -> None:
    parameters = catalogue.load()[name].parameters
    nulls = ", ".join("null" for _ in parameters)
    with pytest.raises(sqlite3.OperationalError, match=f"^{name}: .*(NULL|no spaces)"):
        db.execute(f"select * from {name}({nulls})").fetchall()


def test_functions_that_read_are_refused_in_views(db: dbapi.Connection) -> None:
    # A hostile file must not make us compute by being looked at.
    db.execute("create view trap as select * from knn('s', 1, 10)")
    with pytest.raises(sqlite3.OperationalError, match="unsafe use"):
        db.execute("select * from trap")


def test_a_file_without_our_tables_is_a_sentence() -> None:
    db = dbapi.connect(":memory:")
    prepare(db)
    with pytest.raises(sqlite3.OperationalError, match=r"^knn: .* is not a nearsql database: run"):
        db.execute("select * from knn('s', 1, 10)")


def test_declaring_twice_or_undocumented_is_refused() -> None:
    def knn() -> None:
        """Something."""

    def undocumented() -> None: ...

    with pytest.raises(ValueError, match="declared twice"):
        catalogue.sql_function(example="x")(knn)
    with pytest.raises(ValueError, match="needs a docstring"):
        catalogue.sql_function(example="x")(undocumented)
