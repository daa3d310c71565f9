"""nearsql's persistent indexes: built and dropped by its command, and their bytes given to bare faiss."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.data import SPACE, Vectors
from benchmarks.search.measure import seconds
from benchmarks.search.setup import Refused
from nearsql.udfs import dbapi
from nearsql.udfs.search.faiss_calls import faiss_module

COMMAND = "from nearsql.pipeline.cli import main; main()"
FIRST_LIST = 3  # the part that holds the first list of an ivf index, see schema/search.sql

# One query's k nearest places.
Search = Callable[[Vectors], NDArray[np.int64]]


def build(path: Path, engine: str, threads: int) -> float:
    """Seconds of `nearsql index`, from the command to its end."""
    return seconds(lambda: _index(path, "--engine", engine, "--threads", str(threads)))


def drop(path: Path, engine: str) -> None:
    """`nearsql index --drop`"""
    _index(path, "--engine", engine, "--drop")


def _index(path: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "index", str(path), SPACE, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"nearsql index {' '.join(options)}: {done.stderr.strip()}")


@dataclass
class Stored:
    """An index as the file has it."""

    id: int
    engine: str
    bytes: int
    build_s: float
    recall: dict[str, float]
    effort: int  # for 10 neighbours
    candidates: int  # in multiples of k


def stored(db: dbapi.Connection, engine: str) -> Stored:
    """The ready index of that engine."""
    row = db.execute(
        "select id, engine, bytes, build_ms / 1000, recall_json,"
        " parameters_json ->> '$.search.10.effort', parameters_json ->> '$.search.10.candidates'"
        " from vector_indexes where space_id = 1 and is_ready and engine = ?",
        (engine,),
    ).fetchone()
    index_id, name, size, build_s, recall, effort, candidates = row
    return Stored(index_id, name, size, build_s, json.loads(recall), int(effort), int(candidates))


def set_effort(db: dbapi.Connection, index: Stored, effort: int) -> None:
    """Makes searches for 10 neighbours take another effort than the one that was chosen."""
    with db:
        db.execute(
            "update vector_indexes set parameters_json ="
            " json_set(parameters_json, '$.search.10.effort', ?) where id = ?",
            (effort, index.id),
        )


class BareFaiss:
    """faiss alone with the very bytes that the file holds, and distances of float32 rows in numpy."""

    def __init__(self, db: dbapi.Connection, index: Stored, vectors: Vectors, metric: str) -> None:
        self.vectors = vectors
        self.metric = metric
        self.engine = index.engine
        self.candidates = index.candidates
        faiss = faiss_module()
        parts = _parts(db, index.id)
        self.index = faiss.deserialize_index(parts.pop(0))
        if index.engine == "ivf":
            # The head has no vectors yet: the lists are put back, as faiss had them.
            lists = faiss.downcast_InvertedLists(self.index.invlists)
            for part, data in parts.items():
                if part < FIRST_LIST:
                    continue
                size = len(data) // (8 + self.index.code_size)
                # Named, so that both live until faiss has copied them.
                places = data[: 8 * size].view("<i8").copy()
                codes = np.ascontiguousarray(data[8 * size :])
                lists.add_entries(
                    part - FIRST_LIST, size, faiss.swig_ptr(places), faiss.swig_ptr(codes)
                )
            self.index.ntotal = len(vectors)

    def search(self, effort: int, k: int) -> Search:
        """A search for one query, (1, d), with that efSearch or nprobe."""
        faiss = faiss_module()
        if self.engine == "hnsw":
            parameters: Any = faiss.SearchParametersHNSW(efSearch=effort)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=effort)
        asked = self.candidates * k
        width, d = self.index.d, self.vectors.shape[1]
        padded = np.zeros((1, width), np.float32)

        def nearest(query: Vectors) -> NDArray[np.int64]:
            padded[:, :d] = query
            _, places = self.index.search(padded, asked, params=parameters)
            found = places[0][places[0] >= 0]
            rows = self.vectors[found]
            if self.metric == "l2":
                rows -= query
                scores = np.einsum("ij,ij->i", rows, rows)
            else:
                scores = -(rows @ query[0])
            return found[np.argsort(scores)[:k]]

        return nearest


def _parts(db: dbapi.Connection, index_id: int) -> dict[int, NDArray[np.uint8]]:
    """The bytes of each part of an index."""
    chunks: dict[int, list[bytes]] = {}
    for part, data in db.execute(
        "select part, data from vector_index_chunks where index_id = ? order by part, chunk_number",
        (index_id,),
    ):
        chunks.setdefault(part, []).append(data)
    return {part: np.frombuffer(b"".join(data), np.uint8) for part, data in chunks.items()}
