"""Real files of every kind that is read, small: what the mutations begin with. By target, then by file name."""

import io
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np

Files = dict[str, bytes]

IMAGES = ("images/train/0.png", "images/train/1.png", "images/val/2.png", "3.png")
WIDTH, HEIGHT = 40, 20

_ROWS = [{"id": "0.png", "name": "é", "vector": [1.0, 2.5]}, {"id": "1.png", "vector": [0.0, -3e5]}]
_TEXTS = [
    {"id": 1, "text": "the cat sat", "stars": 5, "more": {"a": [1, None]}},
    {"id": 2, "text": 'a "quoted", line\nand another', "stars": None, "more": "é"},
]
_BOX = {"id": 1, "image_id": 100, "category_id": 18, "bbox": [1, 2, 3.5, 4], "iscrowd": 0}
_RLE = {"size": [HEIGHT, WIDTH], "counts": [100, 4, 16, 4, 676]}
_COCO = {
    "info": {"year": 2017},
    "images": [
        {"id": 100, "file_name": "images/train/0.png", "width": WIDTH, "height": HEIGHT},
        {"id": 101, "file_name": "1.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        _BOX,
        {**_BOX, "id": 2, "segmentation": [[4, 2, 36, 2, 36, 18], [4, 10, 8, 10, 8, 18]]},
        {**_BOX, "id": 3, "image_id": 101, "iscrowd": 1, "segmentation": _RLE},
    ],
    "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
}
_RESULTS = [
    {"image_id": 100, "category_id": 18, "bbox": [1.25, 2, 3.5, 4], "score": 0.75},
    {"image_id": 101, "category_id": 18, "bbox": [0, 0, 9, 9], "score": 1, "segmentation": _RLE},
]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _lines(rows: list[dict[str, object]]) -> bytes:
    return b"\n".join(map(_json, rows)) + b"\n"


def _csv() -> Files:
    return {"m.csv": b'id,note,vector\n0.png,"one, two","[1, 2]"\n1.png,,"[5e-1, -6]"\n'}


def _wide_csv() -> Files:
    return {"m.tsv": b"name\td0\td1\td2\n0.png\t1\t2\t3.5\n1.png\t-4\t5e2\t6\n"}


def _npy() -> Files:
    out = io.BytesIO()
    np.save(out, np.arange(12, dtype=np.float64).reshape(4, 3))
    return {"m.npy": out.getvalue(), "ids.txt": b"0.png\n1.png\n2.png\n3.png\n"}


def _npy_ids() -> Files:
    rows, ids = io.BytesIO(), io.BytesIO()
    np.save(rows, np.ones((2, 2), np.float16, order="F"))
    np.save(ids, np.array([1, 2]))
    return {"m.npy": rows.getvalue(), "ids.npy": ids.getvalue()}


def _parquet() -> Files:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "id": ["0.png", "1.png", None],
            "text": ["a", "b", "c"],
            "vector": pa.array([[1.0, 2.0], [3.0, None], None], pa.list_(pa.float32())),
            "n": pa.array([1, 2, 3], pa.int8()),
        }
    )
    out = io.BytesIO()
    parquet.write_table(table, out)
    return {"m.parquet": out.getvalue()}


def _stored(make: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        make(path)
        return _small(path)


def _small(path: Path) -> bytes:
    """An SQLite file with small pages, so that changes meet something."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.db"
        with closing(sqlite3.connect(path)) as db:
            db.execute("pragma page_size = 1024")
            db.execute("vacuum into ?", (str(small),))
        return small.read_bytes()


def _blob_store() -> Files:
    from tests.stores import blob_store

    return {"s.db": _stored(lambda path: blob_store(path, ["0.png", "1.png"], texts=["a", "b"]))}


def _vec0_store() -> Files:
    from tests.stores import vec0_store

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        vec0_store(path, ["0.png", "1.png"])
        return {"s.db": path.read_bytes()}


def _llm_store() -> Files:
    from tests.stores import llm_store

    return {"s.db": _stored(llm_store)}


def filled_file(folder: Path) -> Path:
    """The file of filled.py in a folder, made if it is not there."""
    path = folder / "filled.db"
    if not path.exists():
        from tests.fuzz import filled  # which takes most of the pipelines with it

        half_made = folder / "half_filled.db"
        filled.build(half_made)
        half_made.rename(path)
    return path


def _image(kind: str, suffix: str) -> Callable[[], Files]:
    def make() -> Files:
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind)
        return {f"a/i.{suffix}": out.getvalue()}

    return make


_YOLO = {
    "labels/train/0.txt": b"0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n",
    "labels/val/2.txt": b"1 0.25 0.25 0.5 0.5\n",
    "data.yaml": b"path: .\ntrain: images/train\nval: [images/val]\nnames:\n  0: cat\n  1: 'dog'\n",
    "train.txt": b"./images/train/0.png\n",
}

_SAMPLES: dict[str, Callable[[], Files]] = {
    "import csv": _csv,
    "import tsv": _wide_csv,
    "import jsonl": lambda: {"m.jsonl": _lines(_ROWS)},
    "import json": lambda: {"m.json": _json(_ROWS)},
    "import npy": _npy,
    "import npy with ids in npy": _npy_ids,
    "import parquet": _parquet,
    "import results": lambda: {"r.json": _json(_RESULTS), "i.json": _json(_COCO)},
    "import blob store": _blob_store,
    "import vec0 store": _vec0_store,
    "import llm store": _llm_store,
    "ingest csv": lambda: {"t.csv": b'id,text,stars\n1,the cat,5\n2,"a ""b""\nc",\n'},
    "ingest tsv": lambda: {"t.tsv": b"id\ttext\tstars\n1\tthe cat\t5\n2\ta dog\t\n"},
    "ingest jsonl": lambda: {"t.jsonl": _lines(_TEXTS)},
    "ingest json": lambda: {"t.json": _json(_TEXTS)},
    "ingest png": _image("PNG", "png"),
    "ingest jpeg": _image("JPEG", "jpg"),
    "ingest gif": _image("GIF", "gif"),
    "ingest webp": _image("WEBP", "webp"),
    "ingest bmp": _image("BMP", "bmp"),
    "ingest tiff": _image("TIFF", "tif"),
    "annotate coco": lambda: {"instances.json": _json(_COCO)},
    "annotate yolo": lambda: dict(_YOLO),
    "annotate yolo names": lambda: {**_YOLO, "classes.txt": b"cat\ndog\n"},
    "ids json": lambda: {"ids": b"[1, 2, 3]"},
    "ids lines": lambda: {"ids": b'{"item_id": 1}\n{"id": 2}\n'},
    "ids csv": lambda: {"ids": b"name,id\na,1\nb,2\n"},
    "ids words": lambda: {"ids": b"1 2,3\n4"},
}
TARGETS = (*_SAMPLES, "database")


@cache
def files_of(target: str, folder: Path) -> Files:
    """The files of a target, made once. folder: with the file of filled.py, or where it may be made."""
    if target == "database":
        return {"n.db": _small(filled_file(folder))}
    return _SAMPLES[target]()
