"""knn_loss: as plain SQL orders the stored distances."""

import itertools
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi
from nearsql.udfs.loss_functions import DIRECTIONS

Distances = dict[tuple[int, int, str], float | None]

INSERT = (
    "insert into loss_distances (run_id, target_item_id, image_item_id, component, distance, reason)"
    " values (?, ?, ?, ?, ?, ?)"
)


def fill(db: dbapi.Connection, distances: Distances) -> int:
    """Writes the distances as a finished run; gives its id."""
    items = {item for target, image, _ in distances for item in (target, image)}
    with immediate(db):
        db.execute("insert or ignore into models (id, name, family) values (1, 'y', 'yolo')")
        for item in items:
            db.execute(
                "insert or ignore into items (id, kind, collection, sha256, width, height,"
                " sequence_number) values (?, 'image', 'tests', ?, 1, 1, ?)",
                (item, f"{item:064x}", item),
            )
    with run(db, "loss-distance", parameters={}, model_id=1) as current, immediate(db):
        for (target, image, component), distance in distances.items():
            reason = "made for a test" if distance is None else None
            db.execute(INSERT, (current.id, target, image, component, distance, reason))
    return current.id


def slow(
    distances: Distances, component: str, item: int, k: int, direction: str
) -> list[tuple[int, float, int]]:
    """The same by definition, in plain Python."""

    def between(other: int) -> float | None:
        fits = distances.get((item, other, component))
        is_fit = distances.get((other, item, component))
        if direction == "image":
            return fits
        if direction == "target":
            return is_fit
        if fits is None or is_fit is None:
            return None
        return {"mean": (fits + is_fit) / 2, "max": max(fits, is_fit), "min": min(fits, is_fit)}[
            direction
        ]

    others = {i for target, image, _ in distances for i in (target, image)} - {item}
    found = sorted((d, other) for other in others if (d := between(other)) is not None)
    return [(other, d, rank) for rank, (d, other) in enumerate(found[:k], start=1)]


def knn_loss(db: dbapi.Connection, *arguments: Any) -> list[tuple[Any, ...]]:
    marks = ", ".join("?" * len(arguments))
    return [tuple(r) for r in db.execute(f"select * from knn_loss({marks})", arguments)]


@pytest.fixture(scope="module")
def shared() -> Iterator[dbapi.Connection]:
    """A database that many examples may add runs to."""
    db = connection.create(":memory:")
    yield db
    db.close()


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    n=st.integers(2, 6),
    # Few values, so that there are ties.
    values=st.sampled_from([[0.0, 0.5, 1.0, None], [0.1, 0.2, 0.30000000000000004, 7.0, 8.25]]),
)
def test_equals_plain_python(
    shared: dbapi.Connection, data: st.DataObject, n: int, values: list[float | None]
) -> None:
    distances: Distances = {}
    for target, image in itertools.product(range(1, n + 1), repeat=2):
        if target == image or data.draw(st.integers(0, 3)):  # a quarter of the pairs is missing
            for component in ("box", "cls"):
                distances[target, image, component] = data.draw(st.sampled_from(values))
    run_id = fill(shared, distances)
    item = data.draw(st.integers(1, n))
    k = data.draw(st.integers(1, n + 1))
    for component, direction in itertools.product(("box", "cls"), DIRECTIONS):
        got = knn_loss(shared, run_id, component, item, k, direction)
        assert got == slow(distances, component, item, k, direction)


def test_equals_plain_sql_and_joins_laterally(db: dbapi.Connection) -> None:
    distances: Distances = {
        (target, image, "cls"): (7 * target + 3 * image) % 11 + 0.5
        for target, image in itertools.product(range(1, 13), repeat=2)
    }
    run_id = fill(db, distances)
    got = db.execute(
        "select i.id, k.id, k.distance, k.rank from items i, knn_loss(?, 'cls', i.id, 3) k",
        (run_id,),
    ).fetchall()
    expected = db.execute(
        "select target_item_id, image_item_id, distance, rank from (select *, row_number() over"
        " (partition by target_item_id order by distance, image_item_id) as rank from loss_distances"
        " where run_id = ? and image_item_id <> target_item_id) where rank <= 3"
        " order by target_item_id, rank",
        (run_id,),
    ).fetchall()
    assert got == expected
    assert len(got) == 36


def test_defaults_and_arguments_by_name(db: dbapi.Connection) -> None:
    distances: Distances = {
        (target, image, "cls"): float(target + 100 * image)
        for target, image in itertools.product(range(1, 14), repeat=2)
    }
    run_id = fill(db, distances)
    ten = knn_loss(db, run_id, "cls", 3)
    assert ten == slow(distances, "cls", 3, 10, "image")
    named = db.execute(
        "select id from knn_loss(?, 'cls', 3) where k = 2 and direction = 'target'", (run_id,)
    ).fetchall()
    assert named == [(1,), (2,)]


def test_an_item_without_any_defined_distance_has_no_neighbours(db: dbapi.Connection) -> None:
    run_id = fill(db, {(1, 1, "box"): None, (1, 2, "box"): None, (2, 1, "box"): 1.0})
    assert knn_loss(db, run_id, "box", 1) == []
    assert knn_loss(db, run_id, "box", 1, 5, "mean") == []
    assert knn_loss(db, run_id, "box", 1, 5, "target") == [(2, 1.0, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("9, 'cls', 1", r"run must be a run of loss distances, not 9 \(there is no such run\): "),
        ("2, 'cls', 1", r"not 2 \(that one is of kind 'detect'\): those are 1"),
        ("'x', 'cls', 1", "run must be a whole number of at least 1, not 'x'"),
        ("1, 'seg', 1", "run 1 has no component 'seg': it has box, cls"),
        ("1, null, 1", "component must be a text, not NULL"),
        ("1, 'cls', 77", "item 77 is not one of the targets of run 1"),
        ("1, 'cls', 77, 5, 'target'", "item 77 is not one of the images of run 1"),
        ("1, 'cls', 3, 5, 'max'", "item 3 is not one of the targets of run 1"),
        ("1, 'cls', 1, 0", "k must be a whole number of at least 1, not 0"),
        ("1, 'cls', 1, 5, 'both'", "direction must be one of image, target, mean, max, min, not "),
        ("3, 'cls', 1", "run 3 is failed, and a part of its distances is missing: "),
    ],
)
def test_refusals(db: dbapi.Connection, arguments: str, message: str) -> None:
    # Two landmarks as targets, three images.
    pairs = itertools.product((1, 2), (1, 2, 3), ("box", "cls"))
    fill(db, {(target, image, component): 1.0 for target, image, component in pairs})
    with run(db, "detect", parameters={}, model_id=1):
        pass
    with (
        pytest.raises(ValueError, match="stop"),
        run(db, "loss-distance", parameters={}, model_id=1),
    ):
        raise ValueError("stop")
    with pytest.raises(sqlite3.OperationalError, match=message):
        db.execute(f"select * from knn_loss({arguments})").fetchall()


def test_reads_by_an_index(db: dbapi.Connection) -> None:
    sql = (files("nearsql.udfs") / "knn_loss.sql").read_text(encoding="utf-8")
    values = {"run": 1, "component": "cls", "item": 1, "k": 5, "direction": "image"}
    plan = [row[3] for row in db.execute(f"explain query plan {sql}", values)]
    searches = [step for step in plan if step.startswith("SEARCH")]
    assert len(searches) == 4
    assert not [step for step in searches if step.endswith("(run_id=?)")], plan
    assert not [step for step in plan if step.startswith("SCAN") and "subquery" not in step], plan
