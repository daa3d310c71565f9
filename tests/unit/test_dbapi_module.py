"""The module face: what a program finds in `nearsql.udfs.dbapi` in place of `sqlite3`."""

import doctest
import inspect
import sqlite3

import apsw
import pytest

from nearsql.udfs import dbapi

EXCEPTIONS = (
    "Warning",
    "Error",
    "InterfaceError",
    "DatabaseError",
    "DataError",
    "OperationalError",
    "IntegrityError",
    "InternalError",
    "ProgrammingError",
    "NotSupportedError",
)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_are_the_standard_classes(name):
    assert getattr(dbapi, name) is getattr(sqlite3, name)
    assert getattr(dbapi.Connection, name) is getattr(sqlite3, name)


def test_every_public_name_of_the_standard_module_is_there():
    for name in dir(sqlite3):
        if not name.startswith("_"):
            assert hasattr(dbapi, name), name


def test_constants_are_those_of_the_sqlite_below():
    assert dbapi.SQLITE_DENY == sqlite3.SQLITE_DENY
    assert dbapi.SQLITE_DBCONFIG_DQS_DML == apsw.SQLITE_DBCONFIG_DQS_DML
    with pytest.raises(AttributeError, match="no attribute 'SQLITE_NOT_A_CONSTANT'"):
        dbapi.SQLITE_NOT_A_CONSTANT  # noqa: B018


def test_version_is_apsws():
    db = dbapi.connect(":memory:")
    (version,) = db.execute("select sqlite_version()").fetchone()
    assert version == dbapi.sqlite_version == apsw.sqlite_lib_version()
    assert ".".join(map(str, dbapi.sqlite_version_info)) == version


def test_connect_has_the_standard_signature():
    parameters = inspect.signature(dbapi.connect).parameters
    assert [*parameters][:8] == [
        "database",
        "timeout",
        "detect_types",
        "isolation_level",
        "check_same_thread",
        "factory",
        "cached_statements",
        "uri",
    ]
    assert parameters["timeout"].default == 5.0
    assert parameters["isolation_level"].default == ""
    assert parameters["cached_statements"].default == 128


def test_connect_takes_all_arguments_by_position():
    db = dbapi.connect(":memory:", 1.0, 0, None, True, dbapi.Connection, 10, False)
    assert db.isolation_level is None


def test_factory_makes_the_connection():
    class Mine(dbapi.Connection):
        def __init__(self, *args, **kwargs):
            kwargs["isolation_level"] = None
            super().__init__(*args, **kwargs)

    db = dbapi.connect(":memory:", factory=Mine)
    assert type(db) is Mine
    assert db.isolation_level is None


def test_apsw_is_the_raw_connection():
    db = dbapi.connect(":memory:")
    assert isinstance(db.apsw, apsw.Connection)
    db.apsw.create_scalar_function("twice", lambda x: 2 * x)
    assert db.execute("select twice(21)").fetchone() == (42,)


def test_registered_adapters_and_converters_are_shared_with_the_standard_module():
    assert dbapi.adapters is sqlite3.adapters
    assert dbapi.converters is sqlite3.converters


def test_complete_statement():
    assert dbapi.complete_statement("select 1;") is True
    assert dbapi.complete_statement("select 1") is False


def test_shared_memory_databases_are_shared():
    uri = "file:test_dbapi_shared?mode=memory&cache=shared"
    first = dbapi.connect(uri, uri=True)
    second = dbapi.connect(uri, uri=True)
    first.execute("create table t(a)")
    first.execute("insert into t values (1)")
    first.commit()
    assert second.execute("select a from t").fetchall() == [(1,)]


def test_a_subclass_refuses_a_shared_memory_database_it_could_not_share():
    class Mine(dbapi.Connection):
        pass

    with pytest.raises(dbapi.NotSupportedError, match="shared cache"):
        dbapi.connect("file:x?mode=memory&cache=shared", uri=True, factory=Mine)


def test_uri_opens_read_only(tmp_path):
    path = tmp_path / "a.db"
    db = dbapi.connect(path)
    db.execute("create table t(a)")
    db.close()
    reader = dbapi.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(dbapi.OperationalError, match="readonly"):
        reader.execute("insert into t values (1)")


def test_path_that_is_not_unicode(tmp_path):
    path = bytes(tmp_path) + b"/\xff\xfe.db"
    with_bytes = dbapi.connect(path)
    with_bytes.execute("create table t(a)")
    with_bytes.close()
    assert sqlite3.connect(path).execute("select name from sqlite_master").fetchall() == [("t",)]


def test_null_character_in_path():
    with pytest.raises(ValueError, match="null"):
        dbapi.connect("a\0b")


def test_missing_folder_is_an_operational_error(tmp_path):
    with pytest.raises(dbapi.OperationalError, match="unable to open database file") as caught:
        dbapi.connect(tmp_path / "no" / "such.db")
    assert caught.value.sqlite_errorname == "SQLITE_CANTOPEN"


def test_uninitialised_objects_say_so():
    class NoInit(dbapi.Connection):
        def __init__(self):
            pass

    class NoCursorInit(dbapi.Cursor):
        def __init__(self, connection):
            pass

    with pytest.raises(dbapi.ProgrammingError, match=r"Base Connection\.__init__ not called"):
        NoInit().cursor()
    with pytest.raises(dbapi.ProgrammingError, match=r"Base Cursor\.__init__ not called"):
        NoCursorInit(dbapi.connect(":memory:")).execute("select 1")


def test_closed_connection_says_so():
    db = dbapi.connect(":memory:")
    cursor = db.execute("select 1")
    db.close()
    db.close()
    for use in (db.cursor, db.commit, cursor.fetchone, lambda: db.apsw, lambda: db.in_transaction):
        with pytest.raises(dbapi.ProgrammingError, match="Cannot operate on a closed database"):
            use()


def test_examples_in_the_documentation():
    result = doctest.testmod(dbapi)
    assert result.attempted > 0
    assert result.failed == 0
