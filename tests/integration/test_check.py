"""`nearsql check`: each kind of damage is found by the check that is for it, and by no other; repairs."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gallery import Gallery

from nearsql.pipeline.check import check_file
from nearsql.pipeline.check.repair import repair
from nearsql.pipeline.check.sources import check_images
from nearsql.pipeline.cli import cli
from nearsql.pipeline.index import index
from nearsql.pipeline.neighbors import neighbors
from nearsql.udfs import connection, dbapi


@pytest.fixture(scope="module")
def sound(example_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples' file with a stored graph; nobody writes to it."""
    path = tmp_path_factory.mktemp("sound") / "digits.db"
    shutil.copy(example_database, path)
    with closing(connection.connect(path)) as db:
        neighbors(db, ["digits/pixels"], k=5)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copy(sound, tmp_path / "digits.db"))


@pytest.fixture
def db(path: Path) -> Iterator[dbapi.Connection]:
    """The copy, open."""
    with closing(connection.connect(path)) as opened:
        yield opened


@pytest.fixture
def gallery_copy(gallery: Gallery, tmp_path: Path) -> Path:
    """A file of images, to be damaged."""
    return Path(shutil.copy(gallery.path, tmp_path / "gallery.db"))


def wrong(db: dbapi.Connection) -> dict[str, str | None]:
    """The checks that found something, with the first fault in words."""
    return {found.check: found.detail for found in check_file(db) if found.wrong}


def damage(path: Path, script: str) -> None:
    """What a program without foreign keys, and with the triggers gone, might do to the file."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("pragma foreign_keys = off")
        other.executescript(script)
        other.commit()


def test_a_sound_file_has_nothing_wrong(db: dbapi.Connection) -> None:
    assert wrong(db) == {}
    assert repair(db) == []
    checked = {found.check: found.checked for found in check_file(db)}
    # Nothing is called sound because there was nothing to look at.
    for name in (
        "numbers of vectors", "sizes of clusters", "ranks of stored neighbours", "places on maps",
        "stored neighbours of digits/pixels", "votes from other folds", "folds of predictions",
    ):  # fmt: skip
        assert checked[name] > 0, name


DAMAGES = {
    "foreign keys": ("delete from items where id = 3", "no such items"),
    "statements of the schema": (
        "drop trigger vectors_inserted",
        "trigger vectors_inserted is missing",
    ),
    "lengths of vectors": (
        "drop trigger vectors_updated; update vectors set vector = x'00' where item_id = 2 and length(vector) = 256",
        "1 bytes, not 256",
    ),
    "numbers of vectors": (
        f"update vectors set vector = x'{'0000c07f' * 64}' where item_id = 2 and length(vector) = 256",
        "has NaN or infinity",
    ),
    "log of changes": (
        "update spaces set generation = generation - 1",
        "its newest change is logged as generation",
    ),
    "parameters of runs": (
        "drop trigger runs_finished_never_change; update runs set parameters_json = '[]' where id = 1",
        "run 1 (",
    ),
    "sizes of clusters": ("update clusters set size = size + 1 where id = 1", "and has"),
    "parents of clusters": (
        "update clusters set parent_id = 1 where id = (select max(id) from clusters)",
        "has its parent at level",
    ),
    "exemplars of clusters": (
        "update clusters set exemplar_item_id = (select exemplar_item_id from clusters where id = 2)",
        "and is no member",
    ),
    "places on maps": (
        "update projection_points set x = 9e999 where item_id = 5",
        "item 5 of run",
    ),
    "ranks of stored neighbours": (
        "update neighbors set rank = 99 where rank = 2 and item_id = 4",
        "item 4 of run",
    ),
    "stored neighbours of digits/pixels": (
        "update neighbors set neighbor_id = 1 where rank = 5 and item_id <> 1",
        "has other neighbours than are nearest to it",
    ),
    "folds of predictions": (
        "update cv_predictions set fold = fold + 1 where item_id = (select min(item_id) from folds)",
        "was predicted in fold",
    ),
    "votes from other folds": ("update folds set fold = 0", "votes for item"),
}


@pytest.mark.parametrize("check", DAMAGES)
def test_damage_is_found(path: Path, check: str) -> None:
    script, words = DAMAGES[check]
    damage(path, script)
    with closing(connection.connect(path)) as db:
        found = wrong(db)
    assert check in found, found
    assert words in str(found[check])


def test_clusters_of_another_run_and_models_that_are_no_detectors(path: Path) -> None:
    damage(
        path,
        "update memberships set level = 7 where item_id = 2;"
        "drop trigger losses_only_from_yolo_on_insert;"
        "insert into losses (run_id, item_id, component, value) values (1, 1, 'box', 0.5)",
    )
    with closing(connection.connect(path)) as db:
        found = wrong(db)
    assert "item 2 is at level 7" in str(found["clusters of memberships"])
    assert "run 1 wrote losses" in str(found["detectors behind detections"])


def test_lost_keys_are_mended_and_nothing_else_is_touched(path: Path) -> None:
    damage(path, "delete from items where id = 3; delete from clusters where id = 1")
    with closing(connection.connect(path)) as db:
        before = db.execute("select count(*) from vectors where item_id <> 3").fetchone()
        done = repair(db)
        assert any("rows of vectors whose row of items is gone" in words for words in done)
        assert "foreign keys" not in wrong(db)
        assert db.execute("select count(*) from vectors where item_id <> 3").fetchone() == before
        assert repair(db) == []


def test_a_log_that_lies_begins_anew_and_searches_are_right(path: Path) -> None:
    damage(path, "update spaces set generation = generation - 1")
    with closing(connection.connect(path)) as db:
        assert any("logs of changes" in words for words in repair(db))
        assert "log of changes" not in wrong(db)
        moved = np.ones(64, "<f4").tobytes()
        db.execute(
            "update vectors set vector = ? where item_id = 7 and space_id ="
            " (select id from spaces where name = 'digits/pixels')",
            (moved,),
        )
        db.commit()
        (nearest,) = db.execute("select id from knn('digits/pixels', ?, 1)", (moved,)).fetchone()
        assert nearest == 7
        assert "log of changes" not in wrong(db)


def test_an_index_that_is_not_what_it_says_is_removed(path: Path) -> None:
    with closing(connection.connect(path)) as db:
        index(db, ["digits/pixels"], engine="hnsw")
    damage(path, "update vector_index_chunks set data = zeroblob(length(data)) where part = 0")
    runner = CliRunner()
    outcome = runner.invoke(cli, ["check", str(path), "--format", "json"])
    assert outcome.exit_code == 1
    faults = [row for row in json.loads(outcome.stdout) if row["wrong"]]
    assert [row["check"] for row in faults] == ["bytes of the hnsw index of digits/pixels"]
    assert "--repair" in faults[0]["cure"]
    mended = runner.invoke(cli, ["check", str(path), "--repair"])
    assert mended.exit_code == 0, mended.output
    assert "removed the hnsw index of digits/pixels: `nearsql index" in mended.stderr


def test_a_torn_page_ends_the_check_with_what_sqlite_says(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("pragma wal_checkpoint(truncate)")
        (size,) = other.execute("pragma page_size").fetchone()
        (root,) = other.execute(
            "select rootpage from sqlite_schema where name = 'item_labels_value'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\0" * 100)
    with closing(connection.connect(path)) as db:
        (found, *others) = [each for each in check_file(db) if each.wrong]
        assert found.check == "pages of the file"
        assert not others


def test_images_are_read_compared_and_decoded(gallery_copy: Path) -> None:
    with closing(connection.connect(gallery_copy)) as db:
        assert check_images(db).wrong == 0
        db.execute("update item_images set data = substr(data, 1, 30) where item_id = 1")
        db.execute("update items set uri = '/nowhere/item90.png' where id = 90")
        db.commit()
        found = check_images(db)
    assert (found.checked, found.wrong) == (90, 2)
    assert str(found.detail).startswith("item 1, ")
