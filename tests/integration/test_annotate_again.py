"""Annotating is harmless to repeat, to kill and to do twice at once; and what the command says."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled import YAML, coco, everything, image, tree, truth

from nearsql.pipeline import replay
from nearsql.pipeline.annotations import annotate, writer
from nearsql.pipeline.cli import main
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import connection, dbapi

Nearsql = Callable[..., tuple[int, str]]


def test_again_does_no_work_and_a_changed_label_replaces_its_truth(
    db: dbapi.Connection, root: Path
) -> None:
    ingest_images(db, root)
    first = annotate(db, "pets", "yolo", root)
    before, ids = everything(db), db.execute("select id, run_id from annotations").fetchall()
    changes = db.total_changes
    again = annotate(db, "pets", "yolo", root)
    assert everything(db) == before
    assert db.execute("select id, run_id from annotations").fetchall() == ids
    assert (again.counts["unchanged"], again.counts["new"], again.counts["objects"]) == (4, 0, 0)
    assert db.total_changes - changes < 10  # the run's own rows

    (root / "labels" / "train" / "0.txt").write_text("1 .25 .25 .1 .2\n0 .5 .5 .5 .5\n")
    assert annotate(db, "pets", "yolo", root).counts["unchanged"] == 4  # in another order
    (root / "labels" / "train" / "0.txt").write_text("1 .25 .25 .1 .2\n")
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "labels" / "train" / "2.txt").write_text("0 .5 .5 1 1")
    third = annotate(db, "pets", "yolo", root)
    assert (third.counts["changed"], third.counts["unchanged"]) == (3, 1)
    assert truth(db) == {
        "0": [(1, "dog", 8.0, 3.0, 12.0, 7.0)],
        "1": [],
        "2": [(0, "cat", 0.0, 0.0, 40.0, 20.0)],
        "3": [],
    }
    hashes = dict(db.execute("select item_id, truth_sha256 from annotated_items").fetchall())
    assert hashes[2] == hashes[4] != hashes[1]
    with pytest.raises(replay.CannotReplay, match="of the 4 items whose ground truth run"):
        replay.replay(db, first.run_id)
    assert replay.replay(db, third.run_id).is_same
    # Other names are another truth.
    (root / "data.yaml").write_text(YAML.replace("cat", "puss"))
    assert annotate(db, "pets", "yolo", root).counts["changed"] == 1
    assert truth(db)["2"][0][1] == "puss"
    assert db.execute("select name from classes where class_id = 0").fetchone() == ("puss",)


def test_replay_reads_the_labels_again(db: dbapi.Connection, root: Path) -> None:
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert replay.replay(db, result.run_id).is_same
    (root / "labels" / "train" / "1.txt").write_text("0 .5 .5 .5 .5")
    assert not replay.replay(db, result.run_id).is_same
    (root / "labels" / "train" / "1.txt").unlink()
    with pytest.raises(replay.CannotReplay, match=r"labels of images/train/1\.png.* are gone"):
        replay.replay(db, result.run_id)
    shutil.rmtree(root / "labels")
    with pytest.raises(replay.CannotReplay, match="are gone"):
        replay.replay(db, result.run_id)
    db.execute("delete from items where id = 1")
    db.commit()
    with pytest.raises(replay.CannotReplay, match="items were deleted"):
        replay.replay(db, result.run_id)


KILLED = """
import sys, time
from nearsql.pipeline.annotations import annotate, writer
from nearsql.udfs import connection

writer.BATCH_ITEMS = 5
flush = writer.TruthWriter._flush

def slow_flush(self):
    flush(self)
    time.sleep(0.1)

writer.TruthWriter._flush = slow_flush
annotate(connection.connect(sys.argv[1]), "many", "yolo", sys.argv[2])
"""


def test_killed_in_the_middle_and_run_again(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(60):
        image(root / "images" / f"{number:02}.png", number)
        lines = [f"{k} .{10 + number} .5 .1 .2" for k in range(number % 4)]
        if number % 10 == 9:
            lines.append("9 1 2 3")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{number:02}.txt").write_text("\n".join(lines))
    databases = [tmp_path / "whole.db", tmp_path / "killed.db"]
    opened = [connection.create(path) for path in databases]
    for db in opened:
        ingest_images(db, root)
    whole = annotate(opened[0], "many", "yolo", root)

    process = subprocess.Popen([sys.executable, "-c", KILLED, str(databases[1]), str(root)])
    deadline = time.monotonic() + 30
    n_annotated = "select count(*) from annotated_items"
    while opened[1].execute(n_annotated).fetchone()[0] < 10:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = opened[1].execute(n_annotated).fetchone()
    assert 10 <= left < 54

    result = annotate(opened[1], "many", "yolo", root)
    assert result.counts["new"] == 54 - left
    assert whole.counts["new"] == 54
    assert everything(opened[1]) == everything(opened[0])
    statuses = (
        opened[1].execute("select status from runs where kind = 'annotate' order by id").fetchall()
    )
    assert statuses == [("interrupted",), ("finished",)]
    assert replay.replay(opened[1], result.run_id).is_same
    for db in opened:
        db.close()


def test_the_size_of_batches_changes_nothing(tmp_path: Path, root: Path, monkeypatch) -> None:
    found = []
    for items, numbers in ((500, 1_000_000), (1, 1_000_000), (500, 1)):
        monkeypatch.setattr(writer, "BATCH_ITEMS", items)
        monkeypatch.setattr(writer, "BATCH_NUMBERS", numbers)
        db = connection.create(tmp_path / f"{items}-{numbers}.db")
        ingest_images(db, root)
        result = annotate(db, "pets", "yolo", root)
        sha256 = "select result_sha256 from runs where id = ?"
        found.append((everything(db), db.execute(sha256, (result.run_id,)).fetchone()))
        db.close()
    assert found[0] == found[1] == found[2]


@pytest.fixture
def nearsql(capsys) -> Nearsql:
    """Runs the command here: its exit status, and all that it says."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_two_at_once_write_no_object_twice(
    tmp_path: Path, root: Path, db: dbapi.Connection, monkeypatch
) -> None:
    """Another process annotates the same images after this one has looked at what is known."""
    ingest_images(db, root)
    look = writer.TruthWriter._known_truths

    def look_and_be_overtaken(self: writer.TruthWriter) -> dict[int, tuple[bool, str]]:
        known = look(self)
        monkeypatch.setattr(writer.TruthWriter, "_known_truths", look)
        path = db.execute("select file from pragma_database_list").fetchone()[0]
        other = connection.connect(path)
        annotate(other, "pets", "yolo", root)
        other.close()
        return known

    monkeypatch.setattr(writer.TruthWriter, "_known_truths", look_and_be_overtaken)
    annotate(db, "pets", "yolo", root)
    assert db.execute("select count(*) from runs where kind = 'annotate'").fetchone() == (2,)
    assert {name: len(rows) for name, rows in truth(db).items()} == {"0": 2, "1": 1, "2": 0, "3": 0}


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    """Root may write anywhere, so the tree is compared, too."""
    coco(root)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(root)
    try:
        for format in ("yolo", "coco"):
            file = tmp_path / f"{format}.db"
            status, output = nearsql("ingest", file, root, "--annotations", format)
            assert status == 0, output
            assert tree(root) == before
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_command(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    file = tmp_path / "p.db"
    status, output = nearsql("ingest", file, root, "--annotations", "yolo")
    assert status == 0, output
    for sentence in (
        "run 1: the collection 'pets' has 4 items",
        "run 2: the collection 'pets' has 3 annotated objects, 1 with an outline",
        f"next: nearsql detect {file} --weights yolov8n-seg.pt --collection pets",
        "without labels: nothing there  1\n",
    ):
        assert sentence in output
    assert output.count("next:") == 1
    # Later, on a collection that is there: the ingest brings nothing new.
    (root / "labels" / "train" / "1.txt").write_text("oh no")
    status, output = nearsql(
        "ingest", file, root, "--annotations", "yolo", "--classes", root / "data.yaml"
    )
    assert status == 0, output
    assert "1.txt line 1: it has 2 columns" in output
    assert "the image counts as not annotated" in output
    assert "known        4" in output


def test_the_command_refuses_before_it_writes(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    file, table = tmp_path / "p.db", tmp_path / "t.csv"
    table.write_text("a\nb\n")
    for arguments, sentence in (
        ([root, "--labels", "x"], "--labels goes with --annotations"),
        ([root, "--split", "x"], "--split goes with --annotations"),
        ([root, "--classes", "x"], "--classes goes with --annotations"),
        ([root, "--annotations", "yolo", "--classes", "x.yaml"], "cannot be opened"),
        ([root, "--annotations", "coco"], "no JSON file"),
        ([table, "--annotations", "coco", "--text", "a"], "is for folders of images"),
        ([table, "--split", "x", "--text", "a"], "--split goes with --annotations"),
    ):
        status, output = nearsql("ingest", file, *arguments)
        assert status == 1
        assert sentence in output
        assert not file.exists()
