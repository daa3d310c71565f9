"""`nearsql export` for other viewers: Embedding Atlas and FiftyOne, by what they say that they read."""

import base64
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import full_gallery, memberships, nearsql_export, points
from gallery import IMAGES, Gallery, build
from labelled import coco
from PIL import Image
from pyarrow import parquet
from pycocotools import mask as reference

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.neighbors import neighbors
from nearsql.udfs import connection, dbapi


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """With two levels of clusters, and the five nearest of each image stored. Nobody writes to it."""
    made = full_gallery(tmp_path_factory.mktemp("gallery") / "gallery.db")
    with closing(connection.connect(made.path)) as db:
        neighbors(db, ["paint/space"], k=5)
    return made


@pytest.fixture
def opened(gallery: Gallery) -> Iterator[dbapi.Connection]:
    with closing(connection.connect(gallery.path)) as db:
        yield db


def atlas(folder: Path, name: str = "items") -> list[dict[str, Any]]:
    return parquet.read_table(folder / f"{name}.parquet").to_pylist()


def test_atlas_has_places_names_neighbours_and_pictures(
    opened: dbapi.Connection, gallery: Gallery, tmp_path: Path
) -> None:
    result = export(opened, tmp_path / "out", format="atlas")
    rows = atlas(tmp_path / "out")
    assert {row["id"]: (row["x"], row["y"]) for row in rows} == points(opened, gallery.projection)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert result.items == len(rows) == IMAGES
    # What the columns of the other tables are, is here too.
    runs = [gallery.projection, gallery.clusters]
    plain = export(opened, tmp_path / "plain", format="parquet", runs=runs)
    for own in parquet.read_table(plain.folder / "items.parquet").to_pylist()[:IMAGES]:
        assert {name: rows[own["id"] - 1][name] for name in own} == own
    for row in rows:
        for level, name in ((1, "category"), (2, "category_2")):
            place = memberships(opened, gallery.clusters).get(row["id"], {}).get(level)
            if place is None:
                assert row[name] is None
            else:
                label, given, *_ = place
                called = given or f"Cluster {label}"
                assert row[name] == ("noise" if label is None else called)
    # A neighbour is named by the place of its row, the nearest first.
    found = opened.execute(
        "select item_id, neighbor_id, distance from neighbors order by item_id, rank"
    ).fetchall()
    assert [
        (row["id"], rows[place]["id"], distance)
        for row in rows
        for place, distance in zip(*row["neighbors"].values(), strict=True)
    ] == found
    assert result.counts == {"neighbours of each": 5, "pictures": IMAGES, "cluster names": 5}
    for item, colour in ((1, (100, 20, 20)), (90, None)):  # 90 lies in a file beside the database
        picture = Image.open(io.BytesIO(rows[item - 1]["image"]["bytes"]))
        assert picture.format == "JPEG"
        if colour:
            middle = picture.getpixel((picture.width // 2, picture.height // 2))
            assert np.abs(np.subtract(middle, colour)).max() <= 4
    labels = atlas(tmp_path / "out", "labels")
    places = points(opened, gallery.projection)
    for row in labels:
        inside = [
            places[item]
            for item, of_level in memberships(opened, gallery.clusters).items()
            if row["level"] + 1 in of_level
            and (of_level[row["level"] + 1][1] or f"Cluster {of_level[row['level'] + 1][0]}")
            == row["text"].removesuffix(" (0)")
            and item in places
        ]
        assert (row["x"], row["y"]) == pytest.approx(tuple(np.mean(inside, axis=0)))
    assert {row["level"] for row in labels} == {0, 1}


def test_atlas_of_some_items_keeps_the_neighbours_among_them(
    opened: dbapi.Connection, tmp_path: Path
) -> None:
    some = [*range(1, 31), 91]  # the reds, and a text that is not on the map
    export(opened, tmp_path / "out", format="atlas", within=json.dumps(some), images="none")
    rows = atlas(tmp_path / "out")
    assert [row["id"] for row in rows] == some[:-1]
    assert "image" not in rows[0]
    widths = {len(row["neighbors"]["ids"]) for row in rows}
    assert len(widths) == 1  # Embedding Atlas stacks them
    stored: dict[int, list[int]] = {}
    for item, neighbor in opened.execute(
        "select item_id, neighbor_id from neighbors order by item_id, rank"
    ):
        if neighbor in some:
            stored.setdefault(item, []).append(neighbor)
    assert widths == {min(len(stored[item]) for item in some[:-1])}
    for row in rows:
        own = [rows[place]["id"] for place in row["neighbors"]["ids"]]
        assert own == stored[row["id"]][: len(own)]


def test_atlas_without_neighbours_or_clusters_is_a_map(tmp_path: Path) -> None:
    made = build(tmp_path / "plain.db")
    with closing(connection.connect(made.path)) as db:
        db.execute("delete from runs where id = ?", (made.clusters,))
        db.commit()
        result = export(db, tmp_path / "out", format="atlas")
        row = atlas(tmp_path / "out")[0]
        assert not {"neighbors", "category"} & set(row)
        assert not (tmp_path / "out" / "labels.parquet").exists()
        assert result.items == IMAGES
        with pytest.raises(UserError, match="none of the items is on the map of run"):
            export(db, tmp_path / "no", format="atlas", within="[91]")
        db.execute("update projection_points set x = 9e999 where item_id = 5")
        db.commit()
        with pytest.raises(UserError, match="item 5 lies at inf"):
            export(db, tmp_path / "no", format="atlas")
        db.execute("delete from runs where id = ?", (made.projection,))
        db.commit()
        with pytest.raises(UserError, match="there is no map in this file"):
            export(db, tmp_path / "no", format="atlas")
    assert not (tmp_path / "no").exists()


def samples(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "samples.json").read_text("utf-8"))["samples"]


def array(value: dict[str, Any]) -> np.ndarray:
    """As FiftyOne's own deserialize_numpy_array."""
    packed = base64.b64decode(value["$binary"]["base64"])
    return np.load(io.BytesIO(zlib.decompress(packed)), allow_pickle=False)


def test_fiftyone_has_all_of_each_image(
    opened: dbapi.Connection, gallery: Gallery, tmp_path: Path
) -> None:
    result = export(opened, tmp_path / "out", format="fiftyone", spaces=["paint/space"])
    found = samples(tmp_path / "out")
    assert result.counts["texts left out"] == 6
    assert len(found) == result.items == IMAGES
    vectors = dict(
        opened.execute(
            "select item_id, vector from vectors v join spaces s on s.id = v.space_id"
            " where s.name = 'paint/space'"
        ).fetchall()
    )
    colours = dict(opened.execute("select item_id, value from item_labels where name = 'colour'"))
    clusters, places = memberships(opened, gallery.clusters), points(opened, gallery.projection)
    for sample in found:
        item = sample["item_id"]
        with Image.open(tmp_path / "out" / sample["filepath"]) as picture:
            assert picture.size == (24, 24)
        assert (sample["metadata"]["width"], sample["metadata"]["height"]) == (24, 24)
        assert sample["label_colour"] == {"_cls": "Classification", "label": colours[item]}
        assert tuple(sample[f"map_{gallery.projection}"]) == places[item]
        vector = array(sample["paint_space"])
        assert (vector.dtype, vector.tobytes()) == (np.dtype("float32"), vectors[item])
        for level, (label, name, probability, *_) in clusters[item].items():
            shown = sample[f"cluster_{gallery.clusters}_{level}"]
            assert shown["label"] == ("noise" if label is None else name or f"Cluster {label}")
            assert (shown["cluster"], shown["confidence"]) == (label, probability)
        assert "ground_truth" not in sample
    assert (tmp_path / "out/images").is_dir()
    assert any(path.is_symlink() for path in (tmp_path / "out/images").iterdir())
    # The same database, the same bytes; and a folder that can be moved.
    export(opened, tmp_path / "two", format="fiftyone", spaces=["paint/space"], images="copy")
    two = (tmp_path / "two/samples.json").read_bytes()
    assert two == (tmp_path / "out/samples.json").read_bytes()
    assert not any(path.is_symlink() for path in (tmp_path / "two/images").iterdir())


def test_fiftyone_has_boxes_and_masks(db: dbapi.Connection, root: Path, tmp_path: Path) -> None:
    document = coco(root)
    ingest_images(db, root)
    annotate(db, "pets", "coco", root)
    db.execute("insert into models (name, family) values ('yolo-test', 'yolo')")
    (run,) = db.execute(
        "insert into runs (kind, model_id) values ('detect', 1) returning id"
    ).fetchone()
    (item,) = db.execute("select id from items where uri like '%1.png'").fetchone()
    whole = np.zeros((20, 40), np.uint8)
    whole[3:9, 5:20] = 1
    whole[3, 5] = 0
    rle = reference.encode(np.asfortranarray(whole))
    mask = json.dumps({"size": [20, 40], "counts": rle["counts"].decode()})
    db.execute(
        "insert into predictions (run_id, item_id, class_id, confidence, x_min, y_min, x_max, y_max,"
        " mask_json) values (?, ?, 3, 0.75, 5, 3, 20, 9, ?)",
        (run, item, mask),
    )
    db.execute("insert into image_metrics (run_id, item_id, n_pred) values (?, ?, 1)", (run, item))
    db.execute("update runs set status = 'finished', finished_at = 'now' where id = ?", (run,))
    db.commit()
    export(db, tmp_path / "out", format="fiftyone", predictions=run)
    found = {Path(sample["uri"]).stem: sample for sample in samples(tmp_path / "out")}
    assert set(found) == {"0", "1", "2", "3"}
    # Nothing to be seen is not the same as not looked at.
    assert found["3"]["ground_truth"]["detections"] == []
    assert "ground_truth" not in found["2"]
    assert [name for name, sample in found.items() if "predictions" in sample] == ["1"]
    (box,) = found["0"]["ground_truth"]["detections"]
    assert box["bounding_box"] == pytest.approx([1 / 40, 2 / 20, 3.5 / 40, 4 / 20])
    assert (box["label"], box["iscrowd"], "mask" in box) == ("dog", False, False)
    dog, crowd = found["1"]["ground_truth"]["detections"]
    assert (crowd["label"], crowd["iscrowd"]) == ("toothbrush", True)
    polygons = document["annotations"][1]["segmentation"]
    drawn = reference.decode([reference.merge(reference.frPyObjects(polygons, 20, 40))])[..., 0]
    assert np.array_equal(array(dog["mask"]), drawn[2:18, 4:36].astype(bool))
    assert np.array_equal(array(crowd["mask"]), np.ones((4, 20), bool))
    (seen,) = found["1"]["predictions"]["detections"]
    assert (seen["label"], seen["confidence"]) == ("class 3", 0.75)
    assert seen["bounding_box"] == pytest.approx([5 / 40, 3 / 20, 15 / 40, 6 / 20])
    assert np.array_equal(array(seen["mask"]), whole[3:9, 5:20].astype(bool))
    db.execute("update predictions set mask_json = replace(mask_json, '[20, 40]', '[40, 20]')")
    db.commit()
    with pytest.raises(UserError, match="is not of the image's size"):
        export(db, tmp_path / "no", format="fiftyone", predictions=run)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--space", "paint/space"], "--space goes with --format fiftyone, not json"),
        (["--format", "fiftyone", "--images", "none"], "--images none does not go with"),
        (["--format", "atlas", "--images", "copy"], "--images copy does not go with"),
        (["--format", "atlas", "--predictions", 1], "--predictions goes with --format coco, yolo"),
        (["--format", "fiftyone", "--space", "nothing"], "there is no space 'nothing'"),
        (["--format", "fiftyone", "--predictions", 1], "only a 'detect' run has predictions"),
        (["--format", "fiftyone", "--within", "[91]"], "none of the 1 items is an image"),
    ],
)
def test_what_does_not_go_is_refused_in_a_sentence(
    words: list[object], sentence: str, gallery: Gallery, tmp_path: Path
) -> None:
    done = nearsql_export(gallery.path, "--to", tmp_path / "out", *words)
    assert done.exit_code == 1
    assert sentence in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_to_open_them(gallery: Gallery, tmp_path: Path) -> None:
    done = nearsql_export(gallery.path, "--to", tmp_path / "at", "--format", "atlas")
    assert done.exit_code == 0, done.exception
    assert (
        f"next: embedding-atlas {tmp_path}/at/items.parquet --x x --y y --image image"
        in done.output
    )
    assert f"--neighbors neighbors --labels {tmp_path}/at/labels.parquet" in done.output
    words = ("--format", "fiftyone", "--space", "paint/space")
    done = nearsql_export(gallery.path, "--to", tmp_path / "fo", *words)
    assert "fo.types.LegacyFiftyOneDataset" in done.output
