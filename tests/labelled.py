"""Small folders of images with YOLO or COCO labels, and what annotating made of them, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as reference

from nearsql.udfs import dbapi

YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"

END = "; the image counts as not annotated"  # after the first mistake of each image


def image(path: Path, seed: int, size: tuple[int, int] = (40, 20), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)
    return path


def coco(root: Path, **changes: Any) -> dict[str, Any]:
    """A COCO file for the images of `root`: image 2 is not in it, image 3 is empty."""
    values = np.zeros((20, 40), np.uint8)
    values[5:9, 10:30] = 1
    counts = reference.encode(np.asfortranarray(values))["counts"].decode()
    document = {
        "info": {"year": 2017},
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 18, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 101,
                "category_id": 18,
                "bbox": [4, 2, 32, 16],
                "iscrowd": 0,
                "segmentation": [[4, 2, 36, 2, 36, 18], [4, 10, 8, 10, 8, 18]],
            },
            {
                "id": 3,
                "image_id": 101,
                "category_id": 90,
                "bbox": [10, 5, 20, 4],
                "iscrowd": 1,
                "segmentation": {"size": [20, 40], "counts": counts},
            },
        ],
        "images": [
            {"id": 100, "file_name": "images/train/0.png", "width": 40, "height": 20},
            {"id": 101, "file_name": "1.png", "width": 40, "height": 20},
            {"id": 103, "file_name": "3.png", "width": 40, "height": 20},
            {"id": 104, "file_name": "nowhere.png", "width": 40, "height": 20},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        ],
    }
    document |= changes
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return document


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a folder, times of change included."""
    facts = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else None
        facts[str(path)] = (data, path.lstat().st_mtime_ns, path.lstat().st_mode)
    return facts


def truth(db: dbapi.Connection, columns: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """The annotations of each annotated image, by its name."""
    columns = columns or "class_id, class_name, x_min, y_min, x_max, y_max"
    found: dict[str, list[tuple[Any, ...]]] = {
        Path(uri).stem: []
        for (uri,) in db.execute(
            "select uri from annotated_items t join items i on i.id = t.item_id order by i.id"
        )
    }
    for uri, *row in db.execute(
        f"select uri, {columns} from annotations a join items i on i.id = a.item_id"
        " where item_id in (select item_id from annotated_items) order by a.id"
    ):
        found[Path(uri).stem].append(tuple(row))
    return found


def everything(db: dbapi.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All that annotating leaves, but for ids, runs and times."""
    return {
        "annotations": db.execute(
            "select i.sha256, class_id, class_name, x_min, y_min, x_max, y_max, mask_json, area,"
            " is_crowd, source, polygons_json from annotations a join items i on i.id = a.item_id"
            " order by i.sequence_number, a.id"
        ).fetchall(),
        "annotated": db.execute(
            "select i.sha256, source, truth_sha256 from annotated_items t"
            " join items i on i.id = t.item_id order by i.sequence_number"
        ).fetchall(),
        "labels": db.execute(
            "select i.sha256, name, value, source from item_labels l"
            " join items i on i.id = l.item_id order by i.sequence_number, name"
        ).fetchall(),
        "classes": db.execute("select * from classes order by collection, class_id").fetchall(),
    }


def problems(db: dbapi.Connection, run_id: int) -> list[tuple[str | None, str, str]]:
    """(name of the image, name of the label file, sentence) of each row of item_errors."""
    return [
        (Path(image).name if image else None, Path(uri).name, message)
        for image, uri, message in db.execute(
            "select i.uri, e.uri, message from item_errors e left join items i on i.id = e.item_id"
            " where e.run_id = ? and stage = 'annotation' order by e.id",
            (run_id,),
        )
    ]


def pets(folder: Path) -> Path:
    """Makes the folder: four images in two splits with YOLO labels; train/2 has no label."""
    for number in range(3):
        image(folder / "images" / "train" / f"{number}.png", number)
    image(folder / "images" / "val" / "3.png", 3)
    (folder / "data.yaml").write_text(YAML)
    texts = {
        "train/0": "0 .5 .5 .5 .5\n1 .25 .25 .1 .2\n",
        "train/1": "1 .1 .1 .9 .1 .9 .9\n",
        "val/3": "",
    }
    for name, text in texts.items():
        path = folder / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
