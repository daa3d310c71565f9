"""What the tests of persistent indexes share."""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from nearsql.udfs import dbapi

FAISS_ENGINES = ("hnsw", "ivf")
METRICS = ("cosine", "l2", "ip")


def points(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    """Points around 20 centres."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(20, d))
    return (centres[draw.integers(0, 20, n)] + 0.5 * draw.normal(size=(n, d))).astype(np.float32)


def rows(db: dbapi.Connection) -> list[dict[str, Any]]:
    cursor = db.execute("select * from vector_indexes order by id")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def parts(db: dbapi.Connection, index_id: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for part, data in db.execute(
        "select part, data from vector_index_chunks where index_id = ? order by part, chunk_number",
        (index_id,),
    ):
        found[part] = found.get(part, b"") + data
    return found


def hash_of(found: dict[int, bytes], kept: Callable[[int], bool]) -> str:
    digest = hashlib.sha256()
    for part in sorted(found):
        if kept(part):
            digest.update(struct.pack("<qq", part, len(found[part])) + found[part])
    return digest.hexdigest()


def brute_force(vectors: np.ndarray, item: int, k: int, metric: str) -> set[int]:
    """The k nearest of the items 1 to n."""
    x = vectors.astype(np.float64)
    q = x[item - 1]
    if metric == "l2":
        distances = ((x - q) ** 2).sum(axis=1)
    elif metric == "ip":
        distances = -(x @ q)
    else:
        distances = 1 - (x @ q) / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    distances[item - 1] = np.inf
    return set((np.argsort(distances, kind="stable")[:k] + 1).tolist())


def change(db: dbapi.Connection, item: int = 7, d: int = 8) -> None:
    db.execute(
        "update vectors set vector = ? where item_id = ?", (np.ones(d, "<f4").tobytes(), item)
    )
    db.commit()
