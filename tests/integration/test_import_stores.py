"""Older stores and llm's databases, imported: every vector, coordinate, loss, metric and parameter equal."""

import json
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from stores import LOSSES, METRICS, UNDEFINED, Store, blob_store, llm_store, vec0_store

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing import ImportResult, import_file
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

IDS = [f"folder/{name}.jpg" for name in ("ant", "bee", "cat", "dog", "eel")]
TEXTS = [f"what is written about number {number}" for number in range(5)]


@pytest.fixture
def db(tmp_path: Path) -> dbapi.Connection:
    return connection.create(tmp_path / "new.db")


def add_images(db: dbapi.Connection, ids: list[str]) -> dict[str, int]:
    """An image item for each file name; their ids by it."""
    found = {}
    for number, name in enumerate(ids):
        found[name] = db.execute(
            "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
            " values ('image', 'photos', ?, ?, 20, 10, ?)",
            (f"{number:064x}", f"/data/photos/{Path(name).name}", number),
        ).lastrowid
    db.commit()
    return found  # type: ignore[return-value]


def by_part(results: list[ImportResult]) -> dict[str, ImportResult]:
    return {result.part: result for result in results}


def vectors(db: dbapi.Connection, space: str | None) -> dict[int, bytes]:
    return dict(
        db.execute(
            "select item_id, vector from vectors v join spaces s on s.id = v.space_id where s.name = ?",
            (space,),
        ).fetchall()
    )


def check_parameters(db: dbapi.Connection, run_id: int, expected: dict[str, Any]) -> None:
    (text,) = db.execute("select parameters_json from runs where id = ?", (run_id,)).fetchone()
    found = json.loads(text)["of_source"]["parameters"]
    assert found == {**expected, "created_at": "2024-05-01"}


def check_blob_store(
    db: dbapi.Connection, store: Store, found: dict[str, ImportResult], items: dict[str, int]
) -> None:
    """All that the store holds is in the database, with all its bits."""
    for model in ("yolov8n-seg", "clip-vit-b-32"):
        result = found[f"embeddings/{model}"]
        expected = {items[id]: vector.tobytes() for id, vector in store.vectors[model].items()}
        assert vectors(db, result.space) == expected
        run = result.run_id
        losses = db.execute(
            "select item_id, component, value from losses where run_id = ? order by 1, 2", (run,)
        ).fetchall()
        metrics = db.execute(
            "select item_id, name, value from item_labels where source = ? order by 1, 2",
            (f"import run {run}",),
        ).fetchall()
        if model.startswith("clip"):
            assert not losses
            assert not metrics
            continue
        assert losses == sorted(
            (
                items[row["image_id"]],
                name.removesuffix("_loss"),
                None if row[name] == UNDEFINED else row[name],
            )
            for row in store.rows[model]
            for name in LOSSES
        )
        assert [(i, n, float(v)) for i, n, v in metrics] == sorted(
            (items[row["image_id"]], f"{model}/{name}", float(row[name]))
            for row in store.rows[model]
            for name in METRICS
            if row[name] != UNDEFINED
        )
    umap, tsne = found["umap_1f3a"], found["tsne_77"]
    assert vectors(db, umap.space) == {
        items[id]: place.astype(np.float32).tobytes()
        for id, place in store.vectors["umap_1f3a"].items()
    }
    points = db.execute(
        "select item_id, x, y from projection_points where run_id = ? order by 1", (tsne.run_id,)
    ).fetchall()
    assert points == sorted(
        (items[id], *place.tolist()) for id, place in store.vectors["tsne_77"].items()
    )
    check_parameters(db, umap.run_id, store.parameters["1f3a"])
    check_parameters(db, tsne.run_id, store.parameters["77"])


def test_blob_tables_of_images(db: dbapi.Connection, tmp_path: Path) -> None:
    items = add_images(db, IDS)
    store = blob_store(tmp_path / "old.db", IDS)
    before = store.path.read_bytes()
    found = by_part(import_file(db, str(store.path)))
    assert len(found) == 4
    check_blob_store(db, store, found, items)
    kinds = db.execute("select name, kind, metric from spaces order by name").fetchall()
    assert kinds == [
        ("old/embeddings/clip-vit-b-32", "embedding", "cosine"),
        ("old/embeddings/yolov8n-seg", "embedding", "cosine"),
        ("old/umap_1f3a", "projection", "l2"),
    ]
    families = dict(db.execute("select name, family from models").fetchall())
    assert families == {"imported/clip-vit-b-32": "clip", "imported/yolov8n-seg": "yolo"}
    # Nothing was written into the store, nor beside it.
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.glob("old.db*")] == ["old.db"]


def test_blob_tables_of_texts_bring_the_items(db: dbapi.Connection, tmp_path: Path) -> None:
    store = blob_store(tmp_path / "old.db", IDS, texts=TEXTS)
    found = by_part(import_file(db, str(store.path), collection="issues"))
    rows = db.execute(
        "select id, collection, content, json_extract(metadata_json, '$.id'),"
        " json_extract(metadata_json, '$.title') from items order by id"
    ).fetchall()
    assert [row[1:] for row in rows] == [
        ("issues", text, id, f"Title {number}")
        for number, (id, text) in enumerate(zip(IDS, TEXTS, strict=True))
    ]
    check_blob_store(db, store, found, {id: item for item, _, _, id, _ in rows})


def test_tables_of_sqlite_vec(db: dbapi.Connection, tmp_path: Path) -> None:
    items = add_images(db, IDS)
    store = vec0_store(tmp_path / "vec.db", IDS)
    found = by_part(import_file(db, str(store.path)))
    assert set(found) == set(store.vectors)
    for part, expected in store.vectors.items():
        result = found[part]
        if part == "vec_maps2d_projections/flat":
            points = db.execute(
                "select item_id, x, y from projection_points where run_id = ? order by 1",
                (result.run_id,),
            ).fetchall()
            assert points == sorted((items[id], *v.tolist()) for id, v in expected.items())
        else:
            assert vectors(db, result.space) == {items[i]: v.tobytes() for i, v in expected.items()}
        check_parameters(db, result.run_id, store.parameters[part.rpartition("/")[2]])
    assert db.execute("select kind from spaces where name like '%metrics%'").fetchall() == [
        ("metric",)
    ]
    losses = db.execute("select item_id, component, value from losses order by 1, 2").fetchall()
    assert losses == sorted(
        (items[row["image_id"]], component, value)
        for row in store.rows["vec_metrics/yolo-1"]
        for component, value in zip(("box", "cls"), row["losses"], strict=True)
    )


def test_a_collection_whose_name_is_no_text_is_refused(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    path = llm_store(tmp_path / "llm.db").path
    with closing(dbapi.connect(path)) as store:
        store.execute("update collections set name = x'ff' where id = 1")
        store.commit()
    with pytest.raises(UserError, match="the name or model of collection 1 is no text"):
        import_file(db, path)


def test_bytes_where_llm_has_a_time_are_kept_in_hexadecimal(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    path = llm_store(tmp_path / "llm.db").path
    with closing(dbapi.connect(path)) as store:
        store.execute("update embeddings set updated = x'00ff'")
        store.commit()
    import_file(db, path)
    kept = db.execute("select distinct metadata_json ->> 'updated' from items").fetchall()
    assert kept == [("00ff",)]


def test_the_databases_of_llm(db: dbapi.Connection, tmp_path: Path) -> None:
    store = llm_store(tmp_path / "llm.db")
    found = by_part(import_file(db, str(store.path)))
    assert set(found) == {"docs", "bare"}
    for name, result in found.items():
        items = dict(
            db.execute(
                "select json_extract(metadata_json, '$.id'), id from items where collection = ?",
                (name,),
            ).fetchall()
        )
        assert vectors(db, f"llm/{name}") == {
            items[id]: vector.tobytes() for id, vector in store.vectors[name].items()
        }
        contents = dict(
            db.execute(
                "select json_extract(metadata_json, '$.id'), content from items where collection = ?",
                (name,),
            ).fetchall()
        )
        stored = {row["id"]: row["content"] for row in store.rows["docs"]}
        assert contents == (stored if name == "docs" else {id: id for id in stored})
        assert result.counts.get("without_text", 0) == (0 if name == "docs" else 3)
    titles = db.execute(
        "select distinct metadata_json ->> '$.title' from items order by 1"
    ).fetchall()
    assert titles == [("7",), ("LICENCE",), ("README",)]


@pytest.mark.parametrize("make", [blob_store, vec0_store])
def test_again_and_replayed(db: dbapi.Connection, tmp_path: Path, make: Any) -> None:
    add_images(db, IDS)
    store = make(tmp_path / "old.db", IDS)
    first = import_file(db, str(store.path))

    def contents() -> list[list[tuple[Any, ...]]]:
        tables = (
            "runs",
            "spaces",
            "vectors",
            "projection_points",
            "losses",
            "item_labels",
            "items",
        )
        return [db.execute(f"select * from {table}").fetchall() for table in tables]

    before = contents()
    again = import_file(db, str(store.path))
    assert contents() == before
    assert [(r.run_id, r.is_old) for r in again] == [(r.run_id, True) for r in first]
    for result in first:
        outcome = replay(db, result.run_id)
        assert outcome.is_same
        assert outcome.different_rows == 0
        assert sum(table.stored for table in outcome.tables) > 0
    # A value that somebody changed since is told.
    db.execute("update vectors set vector = zeroblob(length(vector)) where id = 3")
    db.commit()
    run_id = db.execute("select run_id from vectors where id = 3").fetchone()[0]
    assert replay(db, run_id).different_rows == 1


def test_items_that_come_later_are_brought_by_the_next_run(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    add_images(db, IDS[:3])
    store = blob_store(tmp_path / "old.db", IDS)
    first = by_part(import_file(db, str(store.path)))
    assert first["tsne_77"].counts["unmatched"] == 2
    rows = db.execute(
        "select uri, stage, message from item_errors where run_id = ?", (first["tsne_77"].run_id,)
    ).fetchall()
    assert rows == [
        (f"{store.path}#{name}", "match", f"row {number}: {name!r} is no item here")
        for number, name in enumerate(IDS)
        if number > 2
    ]
    db.execute(
        "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
        " values ('image', 'photos', ?, 'dog.jpg', 20, 10, 3)",
        ("d" * 64,),
    )
    db.commit()
    second = by_part(import_file(db, str(store.path)))
    assert second["tsne_77"].counts["matched"] == 4
    assert second["tsne_77"].counts["projection_points"] == 4
    made = second["embeddings/clip-vit-b-32"].counts
    assert (made["vectors"], made["already"]) == (1, 3)
    assert replay(db, second["embeddings/clip-vit-b-32"].run_id).is_same


def one_table(path: Path, sql: str, rows: list[tuple[Any, ...]]) -> str:
    db = dbapi.connect(path)
    db.execute(f"create table {sql}")
    marks = ", ".join("?" * len(rows[0]))
    db.executemany(f"insert into {sql.partition(' ')[0]} values ({marks})", rows)
    db.commit()
    db.close()
    return str(path)


def test_metrics_with_counts_become_image_metrics(db: dbapi.Connection, tmp_path: Path) -> None:
    items = add_images(db, ["ant.jpg", "bee.jpg"])
    source = one_table(
        tmp_path / "counts.db",
        "embeddings (id text, model text, embedding blob, mean_iou real, hit_freq real,"
        " category_distribution text, flag_cat integer, n_gt integer, tp integer, fp integer, fn integer)",
        [
            ("ant", "yolov8n", bytes(8), 0.1, 0.25, '{"cat": 2, "dog": 1}', 1, 4, 1, 2, 3),
            ("bee", "yolov8n", bytes(8), 1.5, None, None, 0, None, None, None, None),
        ],
    )
    (result,) = import_file(db, source)
    rows = db.execute(
        "select item_id, mean_iou, hit_freq, n_pred, category_distribution_json, flag_cat, n_gt, tp, fp,"
        " fn from image_metrics"
    ).fetchall()
    assert rows == [(items["ant.jpg"], 0.1, 0.25, 3, '{"cat": 2, "dog": 1}', 1, 4, 1, 2, 3)]
    assert db.execute("select item_id, stage, message from item_errors").fetchall() == [
        (items["bee.jpg"], "metrics", "mean_iou is 1.5, not between 0 and 1")
    ]
    assert result.counts["image_metrics"] == 1
    assert replay(db, result.run_id).is_same


def test_blobs_in_other_forms(db: dbapi.Connection, tmp_path: Path) -> None:
    """Arrays in numpy's format, JSON, and what is none of it; a pickle is a BLOB like any other."""
    import io
    import pickle

    items = add_images(db, IDS)
    file = io.BytesIO()
    np.save(file, np.array([1.5, -2], np.float64))
    hostile = io.BytesIO()
    np.save(hostile, np.array([print], object), allow_pickle=True)
    huge = file.getvalue().replace(b"(2,), }", b"(2**9,)", 1).replace(b"(2**9,)", b"(9999999,)", 1)
    source = one_table(
        tmp_path / "forms.db",
        "vectors (path text, vector blob)",
        [
            ("ant.jpg", file.getvalue()),
            ("bee.jpg", "[0.25, 3]"),
            ("cat.jpg", hostile.getvalue()),
            ("dog.jpg", huge),
            ("eel.jpg", pickle.dumps([1.0, 2.0])),
        ],
    )
    (result,) = import_file(db, source, space="forms")
    assert vectors(db, "forms") == {
        items[IDS[0]]: struct.pack("<2f", 1.5, -2),
        items[IDS[1]]: struct.pack("<2f", 0.25, 3),
    }
    assert result.counts["errors"] == 3
    messages = [m for (m,) in db.execute("select message from item_errors order by id")]
    assert "only pickle could load" in messages[0]
    assert "row 3" in messages[1]
    assert "row 4" in messages[2]


def test_rounding_is_told(db: dbapi.Connection, tmp_path: Path) -> None:
    items = add_images(db, ["ant.jpg", "bee.jpg"])
    source = one_table(
        tmp_path / "wide.db",
        "embeddings (id text, embedding blob)",
        [("ant", struct.pack("<2d", 0.5, 2)), ("bee", struct.pack("<2d", 0.1, 2))],
    )
    (result,) = import_file(db, source, space="wide", dtype="float64")
    assert result.counts["rounded"] == 1
    assert vectors(db, "wide")[items["bee.jpg"]] == struct.pack("<2f", 0.1, 2)


def test_what_is_refused(db: dbapi.Connection, tmp_path: Path) -> None:
    one = one_table(tmp_path / "a.db", "embeddings (id text, embedding blob)", [("ant", bytes(8))])
    with pytest.raises(UserError, match=r"'ant' is no item here.*ingest the items first"):
        import_file(db, one)
    assert db.execute("select status from runs").fetchall() == [("failed",)]
    assert db.execute("select count(*) from spaces").fetchone() == (0,)
    other = one_table(tmp_path / "b.db", "notes (id text, words text)", [("ant", "some")])
    with pytest.raises(
        UserError, match=r"no vectors in a form that is known.*its tables are notes"
    ):
        import_file(db, other)
    clip = one_table(
        tmp_path / "c.db",
        "embeddings (id text, model text, embedding blob, box_loss real)",
        [("ant", "clip-b", bytes(8), 0.5)],
    )
    with pytest.raises(UserError, match=r"losses of clip-b, which is no detector"):
        import_file(db, clip)
    with pytest.raises(UserError, match=r"has no part 'x': it has embeddings/clip-b"):
        import_file(db, clip, parts=["x"])
    broken = tmp_path / "d.db"
    broken.write_bytes(Path(one).read_bytes()[:4096] + b"\xff" * 4096)
    with pytest.raises(UserError, match=r"cannot be read"):
        import_file(db, str(broken))


@pytest.mark.parametrize("changed", ["sql", "name"])
def test_a_store_whose_schema_is_in_blobs_is_read(
    db: dbapi.Connection, tmp_path: Path, changed: str
) -> None:
    items = add_images(db, ["ant.jpg"])
    path = tmp_path / "a.db"
    one_table(path, "embeddings (id text, embedding blob)", [("ant", bytes(8))])
    with closing(apsw.Connection(str(path))) as store:
        store.pragma("writable_schema", True)
        store.execute(f"update sqlite_schema set {changed} = cast({changed} as blob)")
    import_file(db, str(path), space="s")
    assert vectors(db, "s") == {items["ant.jpg"]: bytes(8)}


def test_a_store_with_changes_in_its_log_is_not_read_by_half(
    db: dbapi.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "log.db"
    writer = dbapi.connect(path)
    writer.execute("pragma journal_mode = wal")
    writer.execute("create table embeddings (id text, embedding blob)")
    writer.commit()
    with pytest.raises(UserError, match=r"has changes that lie in .*log.db-wal"):
        import_file(db, str(path))
    writer.close()
