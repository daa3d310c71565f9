"""Files as other programs leave them, for tests of `nearsql import`: older stores of vectors, and llm's."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llm
import numpy as np
import sqlite_vec
from numpy.typing import NDArray
from sqlite_utils import Database

from nearsql.udfs import dbapi

# What older stores write where a loss or a metric has no value.
UNDEFINED = 424242.0
LOSSES = ("box_loss", "cls_loss", "dfl_loss", "seg_loss")
METRICS = ("hit_freq", "mean_iou", "mean_conf", "flag_cat", "flag_supercat")


@dataclass
class Store:
    """A file, and what was put into it. vectors: by table or model, then by id."""

    path: Path
    vectors: dict[str, dict[str, NDArray[np.float32]]] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)


def blob_store(path: Path, ids: list[str], *, texts: list[str] | None = None) -> Store:
    """BLOB tables: `embeddings` of two models, one of them a detector, and two maps of the detector's."""
    draw = np.random.default_rng(3)
    store = Store(path)
    db = dbapi.connect(path)
    extra = ", content text, title text" if texts else ""
    db.execute(
        "create table embeddings (image_id text, model text, embedding blob,"
        + ", ".join(f" {name} real" for name in (*LOSSES, *METRICS[:3]))
        + f", flag_cat integer, flag_supercat integer{extra})"
    )
    for model, dimensions in (("yolov8n-seg", 6), ("clip-vit-b-32", 4)):
        vectors = draw.normal(size=(len(ids), dimensions)).astype(np.float32)
        store.vectors[model] = dict(zip(ids, vectors, strict=True))
        store.rows[model] = []
        for number, (id, vector) in enumerate(zip(ids, vectors, strict=True)):
            row: dict[str, Any] = {"image_id": id, "model": model, "embedding": vector.tobytes()}
            row |= dict.fromkeys((*LOSSES, *METRICS))
            if model.startswith("yolo"):
                row |= dict(zip(LOSSES, draw.random(4).tolist(), strict=True))
                row |= dict(zip(METRICS, [*draw.random(3).tolist(), number % 2, 0], strict=True))
                if number == 1:
                    row |= {"box_loss": UNDEFINED, "seg_loss": None, "mean_iou": UNDEFINED}
            if texts:
                row |= {"content": texts[number], "title": f"Title {number}"}
            store.rows[model].append(row)
            names = ", ".join(row)
            db.execute(
                f"insert into embeddings ({names}) values ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )
    for table, columns in (("umap_1f3a", ("comp_0", "comp_1", "comp_2")), ("tsne_77", ("x", "y"))):
        db.execute(f"create table {table} (image_id text, {' real, '.join(columns)} real)")
        # t-SNE's in float64, as pandas writes them; of a float32 array what it has no more of.
        places = draw.normal(size=(len(ids), len(columns)))
        places = places if table == "tsne_77" else places.astype(np.float32).astype(np.float64)
        store.vectors[table] = dict(zip(ids, places, strict=True))
        db.executemany(
            f"insert into {table} values ({', '.join('?' * (len(columns) + 1))})",
            [(id, *place) for id, place in zip(ids, places.tolist(), strict=True)],
        )
    store.parameters = {
        "1f3a": {"n_neighbors": 15, "min_dist": 0.1, "model": "yolov8n-seg"},
        "77": {"perplexity": 30.5, "metric": "cosine"},
    }
    _write_metadata(db, store.parameters)
    db.commit()
    db.close()
    return store


def vec0_store(path: Path, ids: list[str]) -> Store:
    """sqlite-vec's tables: two runs of projections, one flat and one not, and a run of metrics."""
    draw = np.random.default_rng(4)
    store = Store(path)
    db = dbapi.connect(path)
    db.enable_load_extension(True)
    sqlite_vec.load(db)
    db.execute(
        "create virtual table vec_projections using vec0(image_id text, run_id text, vector float[3])"
    )
    db.execute(
        "create virtual table vec_maps2d_projections using vec0(image_id text, run_id text, vector float[2])"
    )
    db.execute(
        "create virtual table vec_metrics using vec0(image_id text, run_id text, metrics float[5],"
        " +box_loss float, +cls_loss float)"
    )
    for table, run, n in (
        ("vec_projections", "umap-a", 3),
        ("vec_projections", "umap-b", 3),
        ("vec_maps2d_projections", "flat", 2),
        ("vec_metrics", "yolo-1", 5),
    ):
        vectors = draw.normal(size=(len(ids), n)).astype(np.float32)
        store.vectors[f"{table}/{run}"] = dict(zip(ids, vectors, strict=True))
        store.rows[f"{table}/{run}"] = []
        for id, vector in zip(ids, vectors, strict=True):
            losses = draw.random(2).tolist() if table == "vec_metrics" else []
            store.rows[f"{table}/{run}"].append({"image_id": id, "losses": losses})
            marks = ", ".join("?" * (3 + len(losses)))
            names = "image_id, run_id, " + ("metrics" if losses else "vector")
            names += ", box_loss, cls_loss" if losses else ""
            db.execute(
                f"insert into {table} ({names}) values ({marks})",
                (id, run, vector.tobytes(), *losses),
            )
    store.parameters = {
        "umap-a": {"n_components": 3, "seed": 42, "nested": {"a": [1, 2.5, None]}},
        "umap-b": {"n_components": 3, "seed": 43},
        "flat": {"n_components": 2},
        "yolo-1": {"weights": "yolov8n.pt", "conf": 0.25},
    }
    _write_metadata(db, store.parameters)
    db.commit()
    db.close()
    return store


def _write_metadata(db: dbapi.Connection, parameters: dict[str, dict[str, Any]]) -> None:
    db.execute("create table metadata (run_id text primary key, params text, created_at text)")
    db.executemany(
        "insert into metadata values (?, ?, '2024-05-01')",
        [(run, json.dumps(found)) for run, found in parameters.items()],
    )


def llm_store(path: Path) -> Store:
    """Two collections that the llm library itself wrote, of a model that needs no network."""
    store = Store(path)
    db = Database(path)

    class Letters(llm.EmbeddingModel):
        model_id = "letters"

        def embed_batch(self, items: Any) -> Any:
            for item in items:
                text = item if isinstance(item, str) else item.decode()
                yield [text.count(letter) / 3 for letter in "aeinrst"]

    def get(_: str) -> Letters:
        return Letters()

    texts = {
        "readme": "a rather nice text",
        "licence": "its terms and its restrictions",
        "7": "a third one, later",
    }
    for name, is_stored in (("docs", True), ("bare", False)):
        collection = llm.Collection(name, db, model=Letters())
        for id, text in texts.items():
            collection.embed(id, text, metadata={"title": id.upper()}, store=is_stored)
    found: dict[str, dict[str, NDArray[np.float32]]] = {"docs": {}, "bare": {}}
    for name, id, data in db.execute(
        "select c.name, e.id, e.embedding from embeddings e join collections c on c.id = e.collection_id"
    ):
        found[name][id] = np.array(struct.unpack(f"<{len(data) // 4}f", data), np.float32)
    store.vectors = found
    store.rows["docs"] = [{"id": id, "content": text} for id, text in texts.items()]
    db.conn.close()
    return store


def importable(folder: Path) -> dict[str, Path]:
    """A file for each way of being read: two items' vectors, and a detection; by what tests call it."""
    found = {
        name: folder / file
        for name, file in {
            "matrix": "m.csv",
            "copied matrix": "m2.csv",
            "npy": "m.npy",
            "ids": "ids.txt",
            "other ids": "ids2.txt",
            "results": "r.json",
            "instances": "i.json",
            "store": "store.db",
        }.items()
    }
    rows = ["id,other,note,vector,more", '1,2,one,"[1, 2]","[3, 4]"', '2,1,two,"[5, 6]","[7, 8]"']
    for name in ("matrix", "copied matrix"):
        found[name].write_text("\n".join(rows), "utf-8")
    np.save(found["npy"], np.ones((2, 2), np.float32))
    found["ids"].write_text("1\n2\n", "utf-8")
    found["other ids"].write_text("2\n1\n", "utf-8")
    detection = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    found["results"].write_text(json.dumps([detection]), "utf-8")
    instances = {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": [], "annotations": []}
    found["instances"].write_text(json.dumps(instances), "utf-8")
    db = dbapi.connect(found["store"])
    db.execute("create table embeddings (id integer, model text, embedding blob)")
    db.executemany(
        "insert into embeddings values (1, ?, ?)", [(name, bytes(8)) for name in ("a", "b")]
    )
    db.commit()
    db.close()
    return found
