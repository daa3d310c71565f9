"""Folders of images into a collection: what comes in, what is said, and that again is harmless."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nearsql.pipeline import replay
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_images, writer
from nearsql.udfs import connection, dbapi


def image(path: Path, seed: int, size: tuple[int, int] = (12, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images in two classes and beside them."""
    root = tmp_path / "pets"
    for number in range(3):
        image(root / "cat" / f"{number}.png", number)
        image(root / "dog" / "small" / f"{number}.jpg", 10 + number)
    image(root / "z.png", 20)
    return root


def snapshot(root: Path) -> dict[str, tuple[bytes, float]]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime) for path in files}


def rows(db: dbapi.Connection) -> dict[str, list[tuple]]:
    """All that an ingest leaves, but for ids, runs and times."""
    return {
        "items": db.execute(
            "select kind, collection, sha256, uri, content, width, height, sequence_number,"
            " metadata_json from items order by collection, sequence_number"
        ).fetchall(),
        "labels": db.execute(
            "select i.sha256, l.name, l.value, l.source from item_labels l"
            " join items i on i.id = l.item_id order by 1, 2"
        ).fetchall(),
        "images": db.execute(
            "select i.sha256, m.media_type, m.data from item_images m"
            " join items i on i.id = m.item_id order by 1"
        ).fetchall(),
        "duplicates": db.execute(
            "select uri from item_errors where stage = 'duplicate' order by 1"
        ).fetchall(),
    }


def errors(db: dbapi.Connection) -> dict[str, tuple[str, str]]:
    return {
        Path(uri).name: (stage, message)
        for uri, stage, message in db.execute("select uri, stage, message from item_errors")
    }


def test_a_folder_becomes_items_in_sorted_order(db: dbapi.Connection, folder: Path) -> None:
    before = snapshot(folder)
    result = ingest_images(db, folder, collection="pets", label="class")
    assert result.counts["new"] == result.counts["found"] == 7
    paths = [*sorted(folder.glob("cat/*")), *sorted(folder.glob("dog/small/*")), folder / "z.png"]
    items = db.execute(
        "select sequence_number, uri, sha256, width, height, kind, run_id, content"
        " from items order by sequence_number"
    ).fetchall()
    expected_order = [folder / "z.png", *paths[:-1]]
    assert items == [
        (
            number,
            str(path),
            hashlib.sha256(path.read_bytes()).hexdigest(),
            12,
            9,
            "image",
            result.run_id,
            None,
        )
        for number, path in enumerate(expected_order)
    ]
    labels = db.execute(
        "select i.uri, l.value, l.source from item_labels l join items i on i.id = l.item_id"
        " where l.name = 'class'"
    ).fetchall()
    # The first-level folder, however deep the file; none for a file in no folder.
    assert sorted(labels) == [
        (str(p), p.relative_to(folder).parts[0], "folder") for p in paths[:-1]
    ]
    assert db.execute("select count(*) from item_images").fetchone() == (0,)
    assert snapshot(folder) == before
    status, kind, parameters = db.execute(
        "select status, kind, parameters_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert (status, kind) == ("finished", "ingest")
    assert json.loads(parameters)["source"] == str(folder)


def test_stored_bytes_are_the_files(db: dbapi.Connection, folder: Path) -> None:
    ingest_images(db, folder, store=True)
    stored = db.execute(
        "select i.uri, m.media_type, m.data from item_images m join items i on i.id = m.item_id"
    ).fetchall()
    assert len(stored) == 7
    for uri, media_type, data in stored:
        assert data == Path(uri).read_bytes()
        assert media_type == ("image/png" if uri.endswith("png") else "image/jpeg")


def test_bad_files_are_told_and_the_rest_comes_in(db: dbapi.Connection, folder: Path) -> None:
    whole = image(folder / "cat" / "whole.jpg", 99, (80, 80)).read_bytes()
    (folder / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "empty.png").touch()
    (folder / "cat" / "text.jpg").write_text("not an image")
    (folder / "readme.txt").write_text("nothing to see")
    (folder / "boxes.json").write_text("{}")
    image(folder / ".hidden.png", 50)
    image(folder / ".cache" / "thumb.png", 51)
    shutil.copy(folder / "z.png", folder / "copy")
    result = ingest_images(db, folder)
    assert {name: stage for name, (stage, _) in errors(db).items()} == {
        "cut.jpg": "decode",
        "empty.png": "decode",
        "text.jpg": "decode",
        "z.png": "duplicate",  # `copy` has the same bytes, comes first, and counts by its content
    }
    assert "truncated" in errors(db)["cut.jpg"][1]
    assert errors(db)["empty.png"][1] == "the file is empty"
    counts = result.counts
    assert (counts["new"], counts["errors"], counts["duplicates"]) == (8, 3, 1)
    assert counts["found"] == 12
    assert counts["skipped"] == 4  # two texts, a hidden file, a hidden folder
    assert db.execute("select count(*) from items").fetchone() == (8,)


def test_a_pixel_limit_is_an_error_of_the_file(db: dbapi.Connection, folder: Path) -> None:
    image(folder / "large.png", 1, (50, 50))
    result = ingest_images(db, folder, max_pixels=2000)
    assert errors(db) == {"large.png": ("decode", "it has 50 x 50 pixels, more than 2,000 in all")}
    assert result.counts["new"] == 7


def test_links_and_pipes(db: dbapi.Connection, folder: Path, tmp_path: Path) -> None:
    outside = image(tmp_path / "elsewhere" / "secret.png", 70)
    (folder / "out.png").symlink_to(outside)
    (folder / "far").symlink_to(outside.parent)
    (folder / "loop").symlink_to(folder)
    (folder / "in.png").symlink_to(folder / "z.png")
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    result = ingest_images(db, folder)
    assert result.counts["links_not_followed"] == 3
    uris = [uri for (uri,) in db.execute("select uri from items")]
    assert len(uris) == 7
    assert not any("secret" in uri or "out.png" in uri for uri in uris)
    assert errors(db)["broken.png"][0] == "read"
    assert errors(db)["z.png"][0] == "duplicate"  # in.png came first


def test_again_adds_nothing(db: dbapi.Connection, folder: Path) -> None:
    shutil.copy(folder / "z.png", folder / "zz.png")
    ingest_images(db, folder)
    before = rows(db)
    again = ingest_images(db, folder)
    assert rows(db) == before
    assert {name: n for name, n in again.counts.items() if n} == {"found": 8, "known": 8}


def test_labels_fill_in_and_never_overwrite(db: dbapi.Connection, folder: Path) -> None:
    ingest_images(db, folder)
    (cat,) = db.execute("select id from items where uri like '%cat/0.png'").fetchone()
    db.execute("insert into item_labels values (?, 'class', 'lion', 'a person')", (cat,))
    db.commit()
    result = ingest_images(db, folder, label="class")
    assert result.counts["labels"] == 5
    labels = db.execute("select value, source, count(*) from item_labels group by 1, 2").fetchall()
    assert sorted(labels) == [("cat", "folder", 2), ("dog", "folder", 3), ("lion", "a person", 1)]


def test_a_duplicate_in_another_class_is_told(db: dbapi.Connection, folder: Path) -> None:
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "same.png")
    ingest_images(db, folder, label="species")
    stage, message = errors(db)["same.png"]
    assert stage == "duplicate"
    assert "cat/0.png" in message
    assert "species is 'dog' here and 'cat' there, which is kept" in message
    (item,) = db.execute("select item_id from item_errors").fetchone()
    assert db.execute("select uri from items where id = ?", (item,)).fetchone() == (
        str(folder / "cat" / "0.png"),
    )


def test_a_changed_file_is_a_new_item(db: dbapi.Connection, folder: Path) -> None:
    ingest_images(db, folder)
    image(folder / "z.png", 1000)
    result = ingest_images(db, folder)
    assert (result.counts["new"], result.counts["changed"]) == (1, 1)
    found = db.execute(
        "select sequence_number from items where uri = ? order by 1", (str(folder / "z.png"),)
    ).fetchall()
    assert found == [(0,), (7,)]


def test_a_moved_folder_is_found_again(db: dbapi.Connection, folder: Path) -> None:
    ingest_images(db, folder, collection="pets")
    moved = folder.rename(folder.with_name("moved"))
    result = ingest_images(db, moved, collection="pets")
    assert {name: n for name, n in result.counts.items() if n} == {
        "found": 7,
        "known": 7,
        "moved": 7,
    }
    assert all(Path(uri).exists() for (uri,) in db.execute("select uri from items"))


def test_collections_are_separate_and_numbers_go_on(db: dbapi.Connection, folder: Path) -> None:
    ingest_images(db, folder / "cat", collection="a")
    ingest_images(db, folder / "cat", collection="b")
    ingest_images(db, folder / "dog", collection="a")
    numbers = db.execute(
        "select collection, sequence_number from items order by collection, id"
    ).fetchall()
    assert numbers == [("a", n) for n in range(6)] + [("b", n) for n in range(3)]


def test_another_writers_items_are_counted_on(
    db: dbapi.Connection, folder: Path, monkeypatch
) -> None:
    """Sequence numbers stay apart when two processes fill one collection."""
    monkeypatch.setattr(writer, "BATCH_ROWS", 2)
    other = connection.connect(str(db.execute("pragma database_list").fetchone()[2]))
    flush = writer.Writer._flush
    flushes = []

    def slow_flush(self) -> None:
        flushes.append(1)
        if len(flushes) == 2:
            other.execute(
                "insert into items (kind, collection, sha256, content, sequence_number)"
                " values ('text', 'pets', ?, 'x', 40)",
                ("0" * 64,),
            )
            other.commit()
        flush(self)

    monkeypatch.setattr(writer.Writer, "_flush", slow_flush)
    ingest_images(db, folder, collection="pets")
    other.close()
    numbers = [n for (n,) in db.execute("select sequence_number from items order by id")]
    assert numbers == [0, 1, 40, 41, 42, 43, 44, 45]


def test_names_that_are_not_utf8(db: dbapi.Connection, folder: Path) -> None:
    shutil.copy(folder / "z.png", os.fsencode(folder) + b"/caf\xe9.png")
    result = ingest_images(db, folder)
    assert result.counts["errors"] == 1
    uri, message = db.execute("select uri, message from item_errors").fetchone()
    assert uri.endswith("caf\\udce9.png")
    assert "not valid UTF-8" in message


def test_images_from_memory(db: dbapi.Connection, folder: Path) -> None:
    data = (folder / "z.png").read_bytes()
    given = [
        ("memory:0", data, {"digit": "3", "hand": "left"}, {"page": 7}),
        ("memory:1", b"nonsense", {}, {}),
        ("memory:2", data, {"digit": "3"}, {}),
    ]
    result = ingest_image_bytes(db, given, collection="digits", source="scans")
    assert {n: c for n, c in result.counts.items() if c} == {
        "found": 3,
        "new": 1,
        "duplicates": 1,
        "errors": 1,
        "labels": 2,
    }
    item_id, uri, metadata = db.execute("select id, uri, metadata_json from items").fetchone()
    assert uri == "memory:0"
    assert json.loads(metadata) == {"format": "PNG", "mode": "RGB", "page": 7}
    assert db.execute("select * from item_labels order by name").fetchall() == [
        (item_id, "digit", "3", "scans"),
        (item_id, "hand", "left", "scans"),
    ]
    assert db.execute("select data from item_images").fetchone() == (data,)
    with pytest.raises(replay.CannotReplay, match="in memory"):
        replay.replay(db, result.run_id)


def test_replay(db: dbapi.Connection, folder: Path) -> None:
    shutil.copy(folder / "z.png", folder / "zz.png")
    first = ingest_images(db, folder, label="class")
    image(folder / "cat" / "later.png", 300)
    second = ingest_images(db, folder, label="class")
    assert replay.replay(db, first.run_id).is_same
    assert replay.replay(db, second.run_id).is_same
    # Another class is another result.
    (folder / "cat").rename(folder / "kitten")
    assert not replay.replay(db, second.run_id).is_same
    image(folder / "z.png", 301)
    (folder / "zz.png").unlink()
    with pytest.raises(replay.CannotReplay, match="1 of the images"):
        replay.replay(db, first.run_id)
    shutil.rmtree(folder)
    with pytest.raises(replay.CannotReplay, match="gone"):
        replay.replay(db, first.run_id)


def test_what_is_no_folder(db: dbapi.Connection, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for path, sentence in (
        (tmp_path / "gone", "there is no folder"),
        (folder / "z.png", "is not a folder"),
        (tmp_path / "nothing", "has no files in it"),
    ):
        with pytest.raises(UserError, match=sentence):
            ingest_images(db, path)
    assert db.execute("select count(*) from runs").fetchone() == (0,)


KILLED = """
import sys, time
from nearsql.pipeline.ingest import writer
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import connection

writer.BATCH_ROWS = 5
flush = writer.Writer._flush

def slow_flush(self):
    flush(self)
    time.sleep(0.1)

writer.Writer._flush = slow_flush
ingest_images(connection.connect(sys.argv[1]), sys.argv[2], label="class", store=True)
"""


def test_killed_in_the_middle_and_run_again(tmp_path: Path, monkeypatch) -> None:
    root = tmp_path / "many"
    for number in range(60):
        image(root / f"class{number % 3}" / f"{number}.png", number % 50)  # ten are there twice
    databases = [tmp_path / "whole.db", tmp_path / "killed.db"]
    opened = [connection.create(path) for path in databases]
    ingest_images(opened[0], root, label="class", store=True)

    process = subprocess.Popen([sys.executable, "-c", KILLED, str(databases[1]), str(root)])
    deadline = time.monotonic() + 30
    while opened[1].execute("select count(*) from items").fetchone()[0] < 10:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = opened[1].execute("select count(*) from items").fetchone()
    assert 10 <= left < 50
    assert left % 5 == 0  # whole batches only

    result = ingest_images(opened[1], root, label="class", store=True)
    assert result.counts["new"] == 50 - left
    assert rows(opened[1]) == rows(opened[0])
    statuses = opened[1].execute("select status from runs order by id").fetchall()
    assert statuses == [("interrupted",), ("finished",)]
    assert replay.replay(opened[1], result.run_id).is_same
    for db in opened:
        db.close()
