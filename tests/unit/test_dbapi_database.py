"""Whole databases and several users of one: dump, backup, serialize, limits, threads, WAL."""

import sqlite3
import threading

import pytest

from nearsql.udfs import dbapi


@pytest.fixture
def db():
    connection = dbapi.connect(":memory:")
    connection.executescript(
        "create table t(id integer primary key, a text, b blob);"
        "insert into t values (1, 'it''s', x'00ff'), (2, null, null);"
        "create index ta on t(a);"
        "create view v as select a from t;"
    )
    yield connection
    connection.close()


def test_iterdump_makes_the_same_database(db):
    script = "\n".join(db.iterdump())
    for module in (sqlite3, dbapi):
        copy = module.connect(":memory:")
        copy.executescript(script)
        assert copy.execute("select * from t").fetchall() == [
            (1, "it's", b"\0\xff"),
            (2, None, None),
        ]
        assert "\n".join(copy.iterdump()) == script


def test_backup_reports_progress(db):
    db.executemany("insert into t(b) values (?)", [(bytes(5000),)] * 20)
    db.commit()
    target = dbapi.connect(":memory:")
    seen = []
    db.backup(target, pages=10, progress=lambda *given: seen.append(given))
    assert target.execute("select count(*) from t").fetchone() == (22,)
    assert seen[0][0] == dbapi.SQLITE_OK
    assert seen[-1][:2] == (dbapi.SQLITE_DONE, 0)
    assert [left for _, left, _ in seen] == sorted((left for _, left, _ in seen), reverse=True)


def test_backup_is_checked(db):
    with pytest.raises(ValueError, match="same connection"):
        db.backup(db)
    with pytest.raises(TypeError, match="must be Connection"):
        db.backup(sqlite3.connect(":memory:"))
    with pytest.raises(dbapi.OperationalError, match="unknown database"):
        db.backup(dbapi.connect(":memory:"), name="nowhere")
    with pytest.raises(ZeroDivisionError):
        db.backup(dbapi.connect(":memory:"), pages=1, progress=lambda *given: 1 / 0)


def test_backup_waits_for_a_lock(tmp_path, db):
    source = dbapi.connect(tmp_path / "a.db", timeout=0)
    source.execute("create table t(a)")
    source.close()
    source, writer = (dbapi.connect(tmp_path / "a.db", timeout=0) for _ in range(2))
    writer.execute("begin exclusive")
    statuses = []

    def release(status, remaining, total):
        statuses.append(status)
        if writer.in_transaction:
            writer.commit()

    source.backup(dbapi.connect(":memory:"), progress=release, sleep=0.01)
    assert statuses == [dbapi.SQLITE_BUSY, dbapi.SQLITE_DONE]


def test_backup_lets_another_thread_end_its_transaction():
    source = dbapi.connect(":memory:", check_same_thread=False)
    source.execute("create table t(a)")
    source.execute("insert into t values (1)")
    target = dbapi.connect(":memory:")
    committing = threading.Timer(0.05, source.commit)
    committing.start()
    source.backup(target, sleep=0.01)
    committing.join()
    assert target.execute("select a from t").fetchall() == [(1,)]


def test_serialize_and_deserialize(db):
    content = db.serialize()
    other = dbapi.connect(":memory:")
    other.deserialize(content)
    assert other.execute("select count(*) from t").fetchone() == (2,)
    standard = sqlite3.connect(":memory:")
    standard.deserialize(content)
    assert standard.execute("select count(*) from t").fetchone() == (2,)


def test_limits(db):
    before = db.getlimit(dbapi.SQLITE_LIMIT_VARIABLE_NUMBER)
    assert db.setlimit(dbapi.SQLITE_LIMIT_VARIABLE_NUMBER, 2) == before
    assert db.getlimit(dbapi.SQLITE_LIMIT_VARIABLE_NUMBER) == 2
    with pytest.raises(dbapi.OperationalError, match="variable number must be between"):
        db.execute("select ?3", (1, 2, 3))
    with pytest.raises(dbapi.ProgrammingError, match="out of bounds"):
        db.getlimit(1111)


def test_configuration(db):
    assert db.getconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE) is False
    db.setconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE)
    assert db.getconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE) is True
    db.setconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE, False)
    assert db.getconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE) is False
    with pytest.raises(ValueError, match="unknown config"):
        db.getconfig(-5)


def test_loading_an_extension_that_is_not_there(db):
    db.enable_load_extension(True)
    with pytest.raises(dbapi.OperationalError):
        db.load_extension("/nonexistent/extension")


def test_another_thread_is_refused(db):
    cursor = db.execute("select 1")
    refused = []

    def use():
        for action in (db.execute, db.commit, db.close, cursor.fetchone, cursor.close):
            with pytest.raises(dbapi.ProgrammingError, match="created in a thread"):
                action(*(["select 1"] if action == db.execute else []))
            refused.append(action)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(refused) == 5


def test_threads_take_turns_on_one_connection():
    db = dbapi.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.execute("create table t(a)")
    failures = []

    def work(n):
        try:
            for i in range(100):
                db.execute("insert into t values (?)", (n * 1000 + i,))
                assert db.execute("select count(*) > 0 from t").fetchall() == [(1,)]
        except BaseException as error:  # noqa: BLE001  reported by the test below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.execute("select count(distinct a) from t").fetchone() == (400,)


def test_a_busy_connection_makes_other_threads_wait():
    db = dbapi.connect(":memory:", check_same_thread=False, isolation_level=None)
    db.execute("create table t(a, b)")
    db.execute("insert into t values (1, x'00')")
    entered, release = threading.Event(), threading.Event()

    def hold():
        entered.set()
        return release.wait(10)

    db.create_function("hold", 0, hold)
    done = []
    uses = {
        "execute": lambda: db.execute("select a from t").fetchall(),
        "executemany": lambda: db.executemany("insert into t values (?, 1)", [(2,)]),
        "executescript": lambda: db.executescript("select 1"),
        "check": lambda: db("select 1"),
        "commit": db.commit,
        "cursor": lambda: db.cursor().close(),
        "in_transaction": lambda: db.in_transaction,
        "total_changes": lambda: db.total_changes,
        "blob": lambda: db.blobopen("t", "b", 1).close(),
        "function": lambda: db.create_function("f", 0, None),
        "collation": lambda: db.create_collation("c", None),
        "authorizer": lambda: db.set_authorizer(None),
        "progress": lambda: db.set_progress_handler(None, 0),
        "trace": lambda: db.set_trace_callback(None),
        "limit": lambda: db.getlimit(dbapi.SQLITE_LIMIT_LENGTH),
        "config": lambda: db.getconfig(dbapi.SQLITE_DBCONFIG_DEFENSIVE),
        "serialize": db.serialize,
        "backup": lambda: db.backup(dbapi.connect(":memory:")),
    }
    failed = {}

    def use(name):
        try:
            uses[name]()
        except BaseException as error:  # noqa: BLE001  reported by the assertion below
            failed[name] = error
        done.append(name)

    holder = threading.Thread(target=lambda: db.execute("select hold()").fetchall())
    holder.start()
    assert entered.wait(10)
    threads = [threading.Thread(target=use, args=(name,)) for name in uses]
    for thread in threads:
        thread.start()
    release.set()
    for thread in (holder, *threads):
        thread.join(10)
    assert failed == {}
    assert sorted(done) == sorted(uses)


def test_reader_and_writer_in_wal(tmp_path):
    path = tmp_path / "a.db"
    writer, reader = dbapi.connect(path), dbapi.connect(path)
    assert writer.execute("pragma journal_mode = wal").fetchone() == ("wal",)
    writer.execute("create table t(a)")
    writer.execute("insert into t values (1), (2)")
    writer.commit()
    reading = reader.execute("select a from t")
    assert reading.fetchone() == (1,)
    writer.execute("insert into t values (3)")
    writer.commit()
    assert reading.fetchall() == [(2,)]
    assert reader.execute("select count(*) from t").fetchone() == (3,)


def test_second_writer_waits_for_its_timeout_only(tmp_path):
    path = tmp_path / "a.db"
    first, second = dbapi.connect(path), dbapi.connect(path, timeout=0.05)
    first.execute("create table t(a)")
    first.execute("insert into t values (1)")
    with pytest.raises(dbapi.OperationalError) as caught:
        second.execute("insert into t values (2)")
    assert str(caught.value) == "database is locked"
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"
    first.commit()
    second.execute("insert into t values (2)")
    second.commit()


def test_closing_with_open_cursors_and_a_transaction(tmp_path):
    path = tmp_path / "a.db"
    db = dbapi.connect(path)
    db.execute("create table t(a)")
    db.execute("insert into t values (1)")
    cursor = db.execute("select 1 union select 2")
    cursor.fetchone()
    db.close()
    assert dbapi.connect(path).execute("select count(*) from t").fetchone() == (0,)
