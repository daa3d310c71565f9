"""COCO results, imported as predictions; and the command with all its words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from pycocotools import mask
from stores import blob_store

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing import import_file
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

POLYGON = [[2.0, 2.0, 8.0, 2.0, 8.0, 7.0, 2.0, 7.0]]


def drawn(height: int, width: int) -> dict[str, Any]:
    pixels = np.zeros((height, width), np.uint8, order="F")
    pixels[2:5, 3:9] = 1
    found = mask.encode(pixels)
    return {"size": found["size"], "counts": found["counts"].decode()}


@pytest.fixture
def db(tmp_path: Path) -> dbapi.Connection:
    db = connection.create(tmp_path / "new.db")
    for number, name in enumerate(("000000000139.jpg", "000000000285.jpg")):
        db.execute(
            "insert into items (kind, collection, sha256, uri, width, height, sequence_number)"
            " values ('image', 'val', ?, ?, 20, 10, ?)",
            (f"{number:064x}", f"/data/{name}", number),
        )
    db.execute("insert into classes (collection, class_id, name) values ('val', 17, 'cat')")
    db.commit()
    return db


def results(tmp_path: Path, found: list[Any]) -> str:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found))
    return str(path)


GOOD = [
    {"image_id": 139, "category_id": 17, "bbox": [1.25, 2, 3.5, 4], "score": 0.75},
    {"image_id": 285, "category_id": 18, "bbox": [0, 0, 20, 10], "score": 1},
    {
        "image_id": 139,
        "category_id": 17,
        "bbox": [3, 2, 6, 3],
        "score": 0.1,
        "segmentation": drawn(10, 20),
    },
    {
        "image_id": 285,
        "category_id": 17,
        "bbox": [2, 2, 6, 5],
        "score": 0.5,
        "segmentation": POLYGON,
    },
]


def test_every_detection(db: dbapi.Connection, tmp_path: Path) -> None:
    source = results(tmp_path, GOOD)
    (result,) = import_file(db, source, model="yolov8n")
    rows = db.execute(
        "select item_id, class_id, class_name, confidence, x_min, y_min, x_max, y_max, mask_json"
        " from predictions where run_id = ? order by id",
        (result.run_id,),
    ).fetchall()
    assert [row[:8] for row in rows] == [
        (1, 17, "cat", 0.75, 1.25, 2.0, 4.75, 6.0),
        (1, 17, "cat", 0.1, 3.0, 2.0, 9.0, 5.0),
        (2, 18, None, 1.0, 0.0, 0.0, 20.0, 10.0),
        (2, 17, "cat", 0.5, 2.0, 2.0, 8.0, 7.0),
    ]
    assert json.loads(rows[1][8]) == GOOD[2]["segmentation"]
    polygons = mask.merge(mask.frPyObjects(POLYGON, 10, 20))
    assert json.loads(rows[3][8])["counts"] == polygons["counts"].decode()
    assert [rows[0][8], rows[2][8]] == [None, None]
    assert db.execute(
        "select m.name, m.family from runs r join models m on m.id = r.model_id"
    ).fetchall() == [("imported/yolov8n", "yolo")]
    assert replay(db, result.run_id).is_same
    (again,) = import_file(db, source, model="yolov8n")
    assert (again.run_id, again.is_old) == (result.run_id, True)
    assert db.execute("select count(*) from predictions").fetchone() == (4,)


def test_images_by_the_names_of_a_coco_file(db: dbapi.Connection, tmp_path: Path) -> None:
    instances = tmp_path / "instances.json"
    instances.write_text(
        json.dumps(
            {
                "images": [{"id": "a", "file_name": "000000000285.jpg"}],
                "categories": [{"id": 3, "name": "boat"}],
                "annotations": [],
            }
        )
    )
    found = [{"image_id": "a", "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.5}]
    source = results(tmp_path, [*found, {**found[0], "image_id": "b"}])
    (result,) = import_file(db, source, images=str(instances))
    assert db.execute("select item_id, class_name from predictions").fetchall() == [(2, "boat")]
    assert result.counts["errors"] == 1
    assert replay(db, result.run_id).is_same


def test_what_is_no_detection_is_told(db: dbapi.Connection, tmp_path: Path) -> None:
    good = GOOD[0]
    bad: list[tuple[Any, str]] = [
        ({**good, "score": 1.5}, "its score is 1.5"),
        ({**good, "score": True}, "its score is True"),
        ({**good, "bbox": [1, 2, -3, 4]}, "its bbox is -3 wide"),
        ({**good, "bbox": [1, 2, 1e300, 4]}, "its bbox is"),
        ({**good, "category_id": -1}, "its category_id is -1"),
        ({**good, "category_id": 2**70}, "its category_id is"),
        ({**good, "image_id": [1]}, "its image_id is"),
        ({**good, "segmentation": 7}, "its segmentation is 7"),
        ({**good, "image_id": 999}, "999 is no item here"),
        ({**good, "segmentation": [[1, 2, 3]]}, "is not three points"),
        ({**good, "segmentation": {"size": [9, 9], "counts": "x"}}, "its segmentation"),
        ({**good, "segmentation": {**drawn(9, 9)}}, "9 x 9 pixels, and the image 20 x 10"),
        ({**good, "segmentation": {"size": [10, 20], "counts": [1, -5, 9**30]}}, "counts"),
        ({**good, "segmentation": [[0, 0, 1e9, 0, 5, 5]]}, "is not three points"),
    ]
    source = results(tmp_path, [*(value for value, _ in bad), good])
    (result,) = import_file(db, source)
    assert result.counts["predictions"] == 1
    messages = [m for (m,) in db.execute("select message from item_errors order by id")]
    assert len(messages) == len(bad)
    for _, sentence in bad:
        assert any(sentence in message for message in messages), (sentence, messages)
    assert replay(db, result.run_id).is_same
    for nothing in ([], [bad[0][0]], [1, 2]):
        with pytest.raises(
            UserError, match=r"holds no detections|not a JSON array|is not an object"
        ):
            import_file(db, results(tmp_path, nothing), format="coco-results")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blob_store(Path("old.db"), ["ant", "bee"], texts=["one", "two"])

    def run(*words: str) -> Any:
        return CliRunner().invoke(cli, ["import", *words])

    listed = run("new.db", "old.db", "--list", "--output", "json")
    assert listed.exit_code == 0
    assert not Path("new.db").exists()
    assert [(row["part"], row["rows"], row["dimensions"]) for row in json.loads(listed.stdout)] == [
        ("embeddings/clip-vit-b-32", 2, 4),
        ("embeddings/yolov8n-seg", 2, 6),
        ("umap_1f3a", 2, 3),
        ("tsne_77", 2, 2),
    ]
    made = run("new.db", "old.db", "--part", "embeddings/yolov8n-seg", "--space", "issues")
    assert made.exit_code == 0, made.output
    assert "run 1: embeddings/yolov8n-seg -> issues/embeddings/yolov8n-seg" in made.stderr
    assert "next: nearsql cluster new.db issues/embeddings/yolov8n-seg" in made.stderr
    again = run("new.db", "old.db", "--part", "embeddings/yolov8n-seg", "--space", "issues")
    assert "run 1 had brought all of embeddings/yolov8n-seg: nothing to do" in again.stderr
    rest = run("new.db", "old.db")
    assert rest.exit_code == 0, rest.output
    assert "run 4: tsne_77" in rest.stderr or "tsne_77" in rest.stderr
    checked = CliRunner().invoke(cli, ["check", "new.db"])
    assert checked.exit_code == 0, checked.output
    itself = run("new.db", "new.db")
    assert isinstance(itself.exception, UserError)
    Path("pixels.csv").write_text("id,a\nnobody,1\n")
    refused = run("none.db", "pixels.csv", "--format", "npy")
    assert isinstance(refused.exception, UserError)
    assert not Path("none.db").exists()
