"""The database is what schema/ says, however it came to be, and it refuses what makes no sense."""

import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from nearsql import migrations, schema
from nearsql.migrations.migrations import statements
from nearsql.udfs import connection, dbapi


def objects(db: sqlite3.Connection | dbapi.Connection) -> dict[tuple[str, str], str]:
    """Every table, index, trigger and view with its SQL, comments and spacing aside."""
    found = {}
    for kind, name, sql in db.execute(
        "select type, name, sql from sqlite_schema where sql is not null"
    ):
        if not name.startswith("_sqlite_migrations") and "_sqlite_migrations" not in sql:
            words = " ".join(re.sub(r"--[^\n]*", "", sql).split())
            # A column that was added later stands behind other spaces.
            found[kind, name] = re.sub(r" ?([(),]) ?", r"\1", words)
    return found


def test_schema_equals_all_migrations(db: dbapi.Connection) -> None:
    described = sqlite3.connect(":memory:")
    for group in schema.TABLE_GROUPS:
        described.executescript(schema.table_sql(group))
    for view in schema.view_files():
        described.executescript(view.read_text())
    assert objects(described) == objects(db)


def test_every_table_is_strict_and_commented(db: dbapi.Connection) -> None:
    tables = [sql for (kind, _), sql in objects(db).items() if kind == "table"]
    assert len(tables) > 25
    for sql in tables:
        assert re.search(r"\)strict(,without rowid)?$", sql), sql
    for group in schema.TABLE_GROUPS:
        assert schema.table_sql(group).startswith("-- "), group


def test_every_foreign_key_has_an_index(db: dbapi.Connection) -> None:
    # Otherwise deleting a run would read every vector.
    for (table,) in db.execute("select name from sqlite_schema where type = 'table'").fetchall():
        firsts = {
            db.execute(
                "select name from pragma_index_info(?) where seqno = 0", (index,)
            ).fetchone()[0]
            for (index,) in db.execute("select name from pragma_index_list(?)", (table,)).fetchall()
        }
        firsts |= {
            name
            for name, pk in db.execute("select name, pk from pragma_table_info(?)", (table,))
            if pk == 1
        }
        for (column,) in db.execute('select "from" from pragma_foreign_key_list(?)', (table,)):
            assert column in firsts, f"{table}.{column}"


def test_an_empty_json_column_is_no_fault_to_any_sqlite(database: Path) -> None:
    # Up to 3.44, json_valid(NULL) is 0; the standard library's is whatever this machine has.
    connection.connect(database).close()
    with sqlite3.connect(database) as stock:
        stock.execute(
            "insert into items (kind, collection, sha256, content, sequence_number)"
            " values ('text', 'c', ?, 't', 0)",
            ("0" * 64,),
        )
        stock.execute("insert into annotations (item_id, class_id, source) values (1, 0, 'hand')")
        stock.execute("insert into selections (name, how) values ('some', 'ids')")
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            stock.execute("update annotations set mask_json = '{'")
    stock.close()
    tables = [
        sql for (kind, _), sql in objects(connection.connect(database)).items() if kind == "table"
    ]
    for sql in tables:
        for column, rest in re.findall(r"(\w+_json) text check\((.*?json_valid)", sql):
            assert f"{column} is null or" in rest, sql


def test_file_knows_its_version(database: Path) -> None:
    db = connection.connect(database)
    assert migrations.file_state(db) == migrations.FileState("current", migrations.latest_version())
    assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    assert db.execute("pragma page_size").fetchone() == (connection.PAGE_SIZE,)
    assert (
        len(db.execute("select value from metadata where key = 'database_id'").fetchone()[0]) == 32
    )
    assert db.execute("pragma integrity_check").fetchone() == ("ok",)


def test_steps_are_numbered_without_gaps() -> None:
    numbers = [int(f.name[:4]) for f in migrations.step_files()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_statements_keep_triggers_whole() -> None:
    sql = "create table t (a);\ncreate trigger g after insert on t\nbegin\n  delete from t;\nend;\n"
    assert [s.split()[1] for s in statements(sql)] == ["table", "trigger"]


def test_public_views_can_be_read_by_the_oldest_sqlite(database: Path) -> None:
    """A stock sqlite3, without any of our functions, reads every view."""
    stock = shutil.which("sqlite3")
    assert stock, "the sqlite3 shell is needed for this test"
    for view in schema.view_files():
        name = view.name.removesuffix(".sql")
        done = subprocess.run(
            [stock, str(database), f"select count(*) from {name}"], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def insert_run(db: dbapi.Connection, family: str | None, kind: str = "detect") -> int:
    model = None
    if family:
        model = db.execute(
            "insert into models (name, family) values (?, ?)", (f"a {family}", family)
        ).lastrowid
    run = db.execute("insert into runs (kind, model_id) values (?, ?)", (kind, model)).lastrowid
    assert run is not None
    return run


DETECTOR_ROWS = {
    "predictions": "insert into predictions (run_id, item_id, class_id, confidence, x_min, y_min,"
    " x_max, y_max) values (:run, 1, 0, 0.5, 0, 0, 1, 1)",
    "losses": "insert into losses (run_id, item_id, component, value) values (:run, 1, 'box', 0.5)",
    "image_metrics": "insert into image_metrics (run_id, item_id, n_gt, n_pred, tp, fp, fn)"
    " values (:run, 1, 1, 1, 1, 0, 0)",
    "feature_maps": "insert into feature_maps (run_id, item_id, layer, shape_json, dtype, data)"
    " values (:run, 1, 'p5', '[1]', 'float16', x'0000')",
    "loss_distances": "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
    " distance) values (:run, 1, 1, 'box', 0.5)",
}


@pytest.mark.parametrize("table", DETECTOR_ROWS)
@pytest.mark.parametrize("family", ["yolo", "clip", "dino", "text", "pixels", "other", None])
def test_only_detectors_write_what_detectors_write(
    db: dbapi.Connection, table: str, family: str | None
) -> None:
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (1, 'text', 'c', ?, 'x', 0)",
        ("0" * 64,),
    )
    run = insert_run(db, family)
    if family == "yolo":
        db.execute(DETECTOR_ROWS[table], {"run": run})
        other = insert_run(db, "clip")
        with pytest.raises(sqlite3.IntegrityError, match="yolo family"):
            db.execute(f"update {table} set run_id = ?", (other,))
    else:
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} come only from .* yolo family"):
            db.execute(DETECTOR_ROWS[table], {"run": run})


def test_a_model_with_runs_keeps_its_family(db: dbapi.Connection) -> None:
    insert_run(db, "clip")
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        db.execute("update models set family = 'yolo'")


def test_an_ended_run_never_changes(db: dbapi.Connection) -> None:
    run = insert_run(db, "clip")
    db.execute("update runs set status = 'finished', finished_at = 'now' where id = ?", (run,))
    for change in ("status = 'failed', error = 'x'", "counts_json = '{\"a\": 1}'", "seed = 3"):
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            db.execute(f"update runs set {change} where id = ?", (run,))
    with pytest.raises(sqlite3.IntegrityError, match="reads nothing more"):
        db.execute("insert into run_inputs (run_id, kind, name) values (?, 'file', 'x')", (run,))


def test_a_failed_run_says_why(db: dbapi.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("insert into runs (kind, status, finished_at) values ('x', 'failed', 'now')")


def test_deleting_a_run_takes_what_it_made(db: dbapi.Connection) -> None:
    run = insert_run(db, "clip", "embed")
    db.execute(
        "insert into spaces (id, name, kind, run_id, dimensions, metric)"
        " values (1, 's', 'embedding', ?, 1, 'l2')",
        (run,),
    )
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number, run_id)"
        " values (1, 'text', 'c', ?, 'x', 0, ?)",
        ("0" * 64, run),
    )
    db.execute(
        "insert into vectors (space_id, item_id, run_id, vector) values (1, 1, ?, x'0000803f')",
        (run,),
    )
    db.execute("delete from runs where id = ?", (run,))
    counts = "select (select count(*) from spaces), (select count(*) from vectors), (select count(*) from items)"
    assert db.execute(counts).fetchone() == (0, 0, 1)  # the user's own items stay


class TestVectors:
    """Any writer's change is seen in the space's generation, token and log."""

    @pytest.fixture(autouse=True)
    def space(self, db: dbapi.Connection) -> None:
        db.execute(
            "insert into spaces (id, name, kind, dimensions, metric) values (1, 's', 'embedding', 1, 'l2')"
        )
        for i in range(1, 6):
            db.execute(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'c', ?, 'x', ?)",
                (i, f"{i:064x}", i),
            )
        db.commit()

    def state(self, db: dbapi.Connection) -> tuple[int, int]:
        return db.execute("select generation, generation_token from spaces where id = 1").fetchone()

    def changed_since(self, db: dbapi.Connection, generation: int) -> list[int]:
        return [
            i
            for (i,) in db.execute(
                "select item_id from vector_changes where space_id = 1 and generation > ? order by generation",
                (generation,),
            )
        ]

    def test_each_kind_of_change_is_logged(self, db: dbapi.Connection) -> None:
        put = "insert into vectors (space_id, item_id, vector) values (1, ?, x'00000000')"
        for sql, args, changed in (
            (put, (1,), [1]),
            (put, (2,), [2]),
            (put.replace("insert", "insert or replace"), (2,), [2]),
            ("update vectors set vector = x'0000803f' where item_id = ?", (1,), [1, 1]),
            ("update vectors set item_id = 3 where item_id = ?", (1,), [1, 3]),
            ("update or replace vectors set item_id = 2 where item_id = ?", (3,), [3, 2]),
            (put + " on conflict do update set vector = x'0000803f'", (2,), [2, 2]),
            (put + " on conflict do nothing", (2,), []),
            ("delete from vectors where item_id = ?", (2,), [2]),
        ):
            generation, token = self.state(db)
            db.execute(sql, args)
            after, new_token = self.state(db)
            assert self.changed_since(db, generation) == changed, sql
            assert after - generation == len(changed)
            assert (token == new_token) == (not changed)

    def test_a_delete_of_everything_is_logged_row_by_row(self, db: dbapi.Connection) -> None:
        db.execute(
            "insert into vectors (space_id, item_id, vector) select 1, id, x'00000000' from items"
        )
        generation, _ = self.state(db)
        db.execute("delete from vectors")  # without triggers SQLite would truncate
        assert sorted(self.changed_since(db, generation)) == [1, 2, 3, 4, 5]

    def test_deleting_an_item_is_a_change(self, db: dbapi.Connection) -> None:
        db.execute("insert into vectors (space_id, item_id, vector) values (1, 4, x'00000000')")
        generation, _ = self.state(db)
        db.execute("delete from items where id = 4")
        assert self.changed_since(db, generation) == [4]

    def test_a_rolled_back_generation_is_not_mistaken_for_a_later_one(
        self, db: dbapi.Connection
    ) -> None:
        put = "insert into vectors (space_id, item_id, vector) values (1, 1, x'00000000')"
        db.execute(put)
        lost = self.state(db)
        db.rollback()
        db.execute(put)
        kept = self.state(db)
        assert lost[0] == kept[0]
        assert lost[1] != kept[1]

    def test_wrong_length_is_refused(self, db: dbapi.Connection) -> None:
        for blob in ("x''", "x'0000'", "x'0000000000000000'"):
            with pytest.raises(sqlite3.IntegrityError, match="float32"):
                db.execute(f"insert into vectors (space_id, item_id, vector) values (1, 1, {blob})")
        db.execute("insert into vectors (space_id, item_id, vector) values (1, 1, x'00000000')")
        with pytest.raises(sqlite3.IntegrityError, match="float32"):
            db.execute("update vectors set vector = x'00'")

    def test_ids_are_not_reused_by_replace(self, db: dbapi.Connection) -> None:
        db.execute(
            "insert into vectors (id, space_id, item_id, vector) values (7, 1, 1, x'00000000')"
        )
        with pytest.raises(sqlite3.IntegrityError, match="another vector"):
            db.execute(
                "insert or replace into vectors (id, space_id, item_id, vector)"
                " values (7, 1, 2, x'00000000')"
            )
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            db.execute("update or replace vectors set id = 8")

    def test_a_filled_space_keeps_its_meaning(self, db: dbapi.Connection) -> None:
        db.execute("update spaces set metric = 'cosine'")  # still empty
        db.execute("insert into vectors (space_id, item_id, vector) values (1, 1, x'00000000')")
        for change in ("metric = 'ip'", "dimensions = 2"):
            with pytest.raises(sqlite3.IntegrityError, match="keeps its dimensions and metric"):
                db.execute(f"update spaces set {change}")
