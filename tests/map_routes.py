"""The routes of a map as tests ask them: columns of points and colours, unpacked as the format says."""

import json
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlencode

import numpy as np
from gallery import PER_COLOUR
from served import Site

from nearsql.datasette_plugins.map_colours import NOISE
from nearsql.udfs import dbapi

TYPES = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4", "float32": "<f4", "float64": "<f8"}


@dataclass
class Answer:
    """An answer of the columns or colours route, read as the format says."""

    header: dict[str, Any]
    columns: dict[str, np.ndarray]
    etag: str

    @property
    def ids(self) -> list[int]:
        return [int(i) for i in self.columns["ids"]]

    @property
    def codes(self) -> list[int]:
        return [int(c) for c in self.columns["codes"]]

    @property
    def places(self) -> np.ndarray:
        return np.stack([self.columns["x"], self.columns["y"]], axis=1)


def unpacked(body: bytes, etag: str = "") -> Answer:
    """The header, and its columns as the numbers that they stand for."""
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    start = 4 + length
    assert start % 8 == 0
    columns = {}
    end = start
    for name, described in header["columns"].items():
        at, kind = start + described["at"], np.dtype(TYPES[described["type"]])
        assert at == end, "columns lie one after the other"
        assert at % 8 == 0
        stored = np.frombuffer(body, kind, header["n"], at)
        end = at + stored.nbytes + -stored.nbytes % 8
        if "range" in described:
            low, high = described["range"]
            stored = low + stored / np.iinfo(kind).max * (high - low)
        if "first" in described:
            stored = described["first"] + np.cumsum(stored, dtype=np.int64)
        if "shift" in described:
            stored = stored.astype(np.int64) + described["shift"]
        columns[name] = stored
    assert len(body) == end
    return Answer(header, columns, etag)


class Maps:
    """The map routes of a site."""

    def __init__(self, opened: Site, name: str) -> None:
        self.site = opened
        self.root = f"/-/nearsql/{name}/map"

    def get(self, run_id: int, what: str = "columns", **asked: Any) -> Any:
        return self.site.get(f"{self.root}/{run_id}/{what}?{urlencode(asked)}")

    def columns(self, run_id: int, **asked: Any) -> Answer:
        return self._answer(self.get(run_id, **asked))

    def colours(self, run_id: int, by: str, **asked: Any) -> Answer:
        return self._answer(self.get(run_id, "colours", by=by, **asked))

    def problem(self, run_id: int, what: str = "columns", status: int = 400, **asked: Any) -> str:
        response = self.get(run_id, what, **asked)
        assert response.status_code == status
        assert response.headers["content-type"].startswith("text/html")
        return unescape(response.text)

    @staticmethod
    def _answer(response: Any) -> Answer:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["x-content-type-options"] == "nosniff"
        return unpacked(response.content, response.headers["etag"])


def cluster_of(item: int) -> int:
    """The code of a gallery's item, coloured by cluster."""
    return NOISE if item % 10 == 0 else (item - 1) // PER_COLOUR


def place(db: dbapi.Connection, run_id: int, places: dict[int, tuple[float, float]]) -> None:
    """Places items on a map."""
    db.executemany(
        "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
        [(run_id, i, x, y) for i, (x, y) in places.items()],
    )


def scattered(n: int, first: int = 1) -> dict[int, tuple[float, float]]:
    """Places of so many items, at random."""
    random = np.random.default_rng(n)
    return {first + i: (float(x), float(y)) for i, (x, y) in enumerate(random.normal(size=(n, 2)))}
