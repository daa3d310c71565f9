"""Downsampling by sequence number."""

import sqlite3
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nearsql.udfs import dbapi

Fill = Callable[..., int]


def rows(db: dbapi.Connection, sql: str) -> list[Any]:
    return [tuple(row) for row in db.execute(sql).fetchall()]


@pytest.fixture
def spaces(db: dbapi.Connection, add_space: Fill) -> dbapi.Connection:
    """25 items with sequence numbers 0 to 24; space b has only those from 15 on, space c none."""
    add_space("a", np.ones((25, 2)))
    add_space("b", np.ones((10, 2)), first_item=16)
    add_space("c", np.empty((0, 2)))
    db.execute("insert into models (name, family) values ('pixels 5x5', 'pixels')")
    db.execute("update spaces set model_id = 1 where name = 'a'")
    return db


def test_groups(spaces: dbapi.Connection) -> None:
    assert rows(spaces, "select * from space_groups(10)") == [
        ("a", "pixels 5x5", 25, 3, "ok"),
        ("b", None, 10, 1, "too few"),
        ("c", None, 0, 0, "too few"),
    ]
    everything = rows(spaces, "select space, total, sampled, status from space_groups")
    assert everything == [("a", 25, 25, "ok"), ("b", 10, 10, "ok"), ("c", 0, 0, "too few")]


@pytest.mark.parametrize("factor", [1, 2, 7, 24, 25, 1000])
def test_groups_count_what_is_sampled(spaces: dbapi.Connection, factor: int) -> None:
    for space, sampled in rows(spaces, f"select space, sampled from space_groups({factor})"):
        ids = [i for (i,) in rows(spaces, f"select id from sampled('{space}', {factor})")]
        assert len(ids) == sampled
        first = 1 if space == "a" else 16
        last = 0 if space == "c" else 25
        assert ids == [i for i in range(first, last + 1) if (i - 1) % factor == 0]


def test_the_sample_limits_a_search(spaces: dbapi.Connection) -> None:
    found = rows(spaces, "select id from knn('a', 2, 9, 'select id from sampled(''a'', 10)')")
    assert found == [(1,), (11,), (21,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("space_groups(0)", "space_groups: downsample must be a whole number of at least 1, not 0"),
        ("space_groups('x')", "not 'x'"),
        (
            "sampled('a', null)",
            "sampled: downsample must be a whole number of at least 1, not NULL",
        ),
        ("sampled('d', 1)", "sampled: there is no space 'd': the spaces are a, b, c"),
    ],
)
def test_refusals(spaces: dbapi.Connection, call: str, message: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match=message):
        rows(spaces, f"select * from {call}")
