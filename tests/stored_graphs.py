"""What the tests of stored neighbour graphs share."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nearsql.pipeline import neighbor_rows
from nearsql.pipeline import neighbors as module
from nearsql.udfs import dbapi
from nearsql.udfs.search import exact_search
from nearsql.udfs.search import row_search as search

STORED = "select item_id, neighbor_id, distance, rank from neighbors where run_id = ? order by 1, 4"
GRAPH = "select id, neighbor_id, distance, rank from knn_graph(?, ?) order by 1, 4"


def points(n: int, seed: int = 0, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def stored(db: dbapi.Connection, run_id: int | None) -> list[tuple[Any, ...]]:
    return db.execute(STORED, (run_id,)).fetchall()


def status(db: dbapi.Connection, run_id: int) -> str:
    return str(db.execute("select status from runs where id = ?", (run_id,)).fetchone()[0])


def change(db: dbapi.Connection) -> None:
    """The space is another one after this, of as many vectors."""
    db.execute("update vectors set vector = ? where item_id = 7", (np.ones(3, "<f4").tobytes(),))
    db.commit()


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int, act: Callable[[], None]) -> None:
    """Something happens when so many blocks are written."""
    write, written = module.write_block, []

    def then(*args: Any) -> None:
        write(*args)
        written.append(1)
        if len(written) == blocks:
            act()

    monkeypatch.setattr(module, "write_block", then)


def ctrl_c() -> None:
    raise KeyboardInterrupt


def use_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight items, each written by itself, so that few items are several transactions."""
    for where in (search, exact_search, neighbor_rows):
        monkeypatch.setattr(where, "QUERY_BLOCK", 8)
    monkeypatch.setattr(neighbor_rows, "_ROWS_A_WRITE", 1)
