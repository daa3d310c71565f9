"""`nearsql export --within`: each format has the items of a selection, and no others."""

import csv
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from exported import json_items, nearsql_export
from gallery import Gallery
from pycocotools.coco import COCO

from nearsql.pipeline.annotations import annotate, yolo_lines
from nearsql.pipeline.annotations.class_names import read
from nearsql.pipeline.export import export
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.select import select
from nearsql.udfs import dbapi

IDS = [2, 3, 5, 8, 13, 21, 34, 55, 89]


@pytest.mark.usefixtures("several_batches")
def test_every_format_has_these_items(opened: dbapi.Connection, tmp_path: Path) -> None:
    select(opened, "fibonacci", ids=IDS)
    everything = {item["id"]: item for item in _exported(opened, tmp_path / "all")}
    whole = _exported(opened, tmp_path / "json", "fibonacci")
    assert whole == [everything[i] for i in IDS]
    index = json.loads((tmp_path / "json" / "index.json").read_text())
    assert (index["within"], index["within_items"], index["items"]) == ("fibonacci", 9, 9)
    export(opened, tmp_path / "lines", format="jsonl", within=json.dumps(IDS))
    lines = (tmp_path / "lines" / "items.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == whole
    clusters = (tmp_path / "lines" / "clusters.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in clusters] == json.loads(
        (tmp_path / "json" / "clusters.json").read_text()
    )
    export(opened, tmp_path / "csv", format="csv", within="fibonacci")
    with (tmp_path / "csv" / "items.csv").open(newline="") as file:
        assert [int(row["id"]) for row in csv.DictReader(file)] == IDS


@pytest.mark.usefixtures("several_batches")
def test_a_selection_and_a_run(painted: Gallery, opened: dbapi.Connection, tmp_path: Path) -> None:
    on_map = {
        item
        for (item,) in opened.execute(
            "select item_id from projection_points where run_id = ?", (painted.projection,)
        )
    }
    done = nearsql_export(
        painted.path,
        "--to",
        tmp_path / "out",
        "--run",
        painted.projection,
        "--within",
        json.dumps(IDS),
    )
    assert done.exit_code == 0, done.output
    assert [item["id"] for item in json_items(tmp_path / "out")] == [i for i in IDS if i in on_map]
    export(opened, tmp_path / "plot", format="datamapplot", within=json.dumps(IDS))
    with (tmp_path / "plot" / "map.csv").open(newline="") as file:
        assert {int(row["item_id"]) for row in csv.DictReader(file)} <= set(IDS) & on_map


def test_json_lines_of_nothing_are_no_lines(db: dbapi.Connection, tmp_path: Path) -> None:
    export(db, tmp_path / "out", format="jsonl")
    assert (tmp_path / "out" / "items.jsonl").read_bytes() == b""


@pytest.mark.assets
def test_real_images_with_people(db: dbapi.Connection, tmp_path: Path) -> None:
    assets = Path(os.environ["NEARSQL_ASSETS"])
    ingest_images(db, assets / "coco128-seg")
    annotate(db, "coco128-seg", "yolo", assets / "coco128-seg", classes=assets / "coco128-seg.yaml")
    people = select(db, "people", sql="select item_id from annotations where class_name = 'person'")
    coco = export(db, tmp_path / "coco", format="coco", within="people")
    assert coco.items == people.items == 61
    with redirect_stdout(io.StringIO()):
        found = COCO(str(tmp_path / "coco" / "instances.json"))
    rows = db.execute(
        "select a.id, area from annotations a join selection_items s on s.item_id = a.item_id"
    ).fetchall()
    assert len(rows) == len(found.anns) == coco.counts["annotations"] == 554
    for row_id, area in rows[::10]:
        assert found.annToMask(found.anns[row_id]).sum() == area
    yolo = export(db, tmp_path / "yolo", format="yolo-seg", within="people")
    assert (yolo.counts["objects"], yolo.counts["links"]) == (554, 61)
    classes = read(tmp_path / "yolo" / "data.yaml").classes
    assert [classes[i].name for i in (0, 79)] == ["person", "toothbrush"]
    n = 0
    for item, uri, width, height in db.execute(
        "select id, uri, width, height from items where id in (select item_id from selection_items)"
    ).fetchall():
        (label,) = (tmp_path / "yolo" / "labels").rglob(f"{Path(uri).stem}.txt")
        truth = yolo_lines.parse(label.read_bytes(), str(label), width, height, classes)
        assert truth.problems == []
        boxes = db.execute(
            "select class_id, x_min, y_min, x_max, y_max from annotations where item_id = ? order by id",
            (item,),
        ).fetchall()
        assert [thing.class_id for thing in truth.objects] == [row[0] for row in boxes]
        for thing, row in zip(truth.objects, boxes, strict=True):
            assert thing.box == pytest.approx(row[1:], abs=1e-4)
        n += len(boxes)
    assert n == 554


def _exported(db: dbapi.Connection, folder: Path, within: str | None = None) -> list[dict]:
    export(db, folder, within=within)
    return json_items(folder)
