"""What the tests of searching by an index share."""

import json
import sqlite3
from typing import Any

import numpy as np
import pytest

from nearsql.udfs import dbapi

ENGINES = ("hnsw", "ivf", "vec0")
METRICS = ("cosine", "l2", "ip")


def rows(db: dbapi.Connection, sql: str, *parameters: Any) -> list[Any]:
    return [tuple(row) for row in db.execute(sql, parameters).fetchall()]


def knn(db: dbapi.Connection, query: Any, k: int, engine: str, space: str = "s") -> list[Any]:
    sql = "select id, distance, rank from knn(?, ?, ?) where engine = ?"
    return rows(db, sql, space, query, k, engine)


def look_everywhere(db: dbapi.Connection) -> None:
    """Makes every index look at all that it has, so that it must find what the exact search finds."""
    how = {"effort": 2**31 - 1, "candidates": 1000}
    for k in (1, 10, 100):
        db.execute(
            "update vector_indexes set parameters_json = json_set(parameters_json, ?, json(?))",
            (f'$.search."{k}"', json.dumps(how)),
        )
    db.commit()


def facts(db: dbapi.Connection, *arguments: Any, **named: Any) -> dict[str, Any]:
    where = "".join(f" and {name} = ?" for name in named)
    marks = ", ".join("?" * len(arguments))
    sql = f"select fact, value from search_plan({marks}) where 1{where}"
    return dict(rows(db, sql, *arguments, *named.values()))


def refusal(db: dbapi.Connection, sql: str, *parameters: Any) -> str:
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.execute(sql, parameters).fetchall()
    return str(caught.value)


def add(db: dbapi.Connection, item: int, vector: np.ndarray) -> None:
    db.execute(
        "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'tests', ?, 'x', 0)",
        (item, f"{item:064x}"),
    )
    db.execute(
        "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
        (item, vector.astype("<f4").tobytes()),
    )
