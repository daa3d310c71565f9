"""duplicates, outliers, label_errors and leaks in SQL equal plain loops over all pairs."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest

from nearsql.pipeline.neighbors import neighbors
from nearsql.udfs import dbapi

Rows = list[tuple[Any, ...]]
N = 60


def pairs(db: dbapi.Connection, k: int) -> dict[int, list[tuple[int, float]]]:
    """Each item's k nearest others as (id, distance), by SQL."""
    found: dict[int, list[tuple[int, float]]] = {}
    for item, other, distance in db.execute(
        "select id, neighbor_id, distance from knn_graph('s', ?) order by id, rank", (k,)
    ):
        found.setdefault(item, []).append((other, distance))
    return found


@pytest.fixture
def filled(db: dbapi.Connection, add_space: Callable[..., int]) -> dbapi.Connection:
    """Three heaps of points, some of them copies; labels that follow the heaps but for some, and a split.

    Items 1 to 5 have no label, and items 7 and 9 have the same bytes, in two collections.
    """
    rng = np.random.default_rng(5)
    heaps = rng.integers(0, 3, N)
    vectors = rng.normal(size=(N, 4)) + 4 * np.eye(3, 4)[heaps]
    vectors[10:14] = vectors[20:24]
    vectors[30:42] = vectors[30] + rng.normal(scale=0.001, size=(12, 4))
    add_space("s", vectors)
    labels = (heaps + (rng.random(N) < 0.15)) % 3
    db.executemany(
        "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'test')",
        [(i + 1, "heap", "abc"[labels[i]]) for i in range(5, N)]
        + [(i + 1, "split", "train" if i % 3 else "test") for i in range(N)],
    )
    db.execute("update items set collection = 'others' where id % 4 = 1")
    db.execute("update items set sha256 = (select sha256 from items where id = 7) where id = 9")
    db.commit()
    return db


def test_duplicates_are_all_pairs_within_the_threshold(filled: dbapi.Connection) -> None:
    everything = pairs(filled, N)
    for threshold in (0.0, 0.003, 1.5, None):
        nearest = [others[0][1] for others in everything.values()]
        limit = 0.13 * median(d for d in nearest if d > 0) if threshold is None else threshold
        linked = {(i, j) for i, others in everything.items() for j, d in others if d <= limit}
        groups = {i: i for i in everything}
        for _ in range(N):
            for i, j in linked | {(7, 9)}:
                groups[i] = groups[j] = min(groups[i], groups[j])
        sizes = Counter(groups.values())
        found = filled.execute("select * from duplicates('s', ?)", (threshold,)).fetchall()
        assert {(row[0], row[1], row[5]) for row in found} == {
            (i, group, sizes[group]) for i, group in groups.items() if sizes[group] > 1
        }
        assert found == sorted(found, key=lambda row: (row[1], row[0]))
        distances = {(i, j): d for i, others in everything.items() for j, d in others}
        for item, _, other, distance, is_exact, _ in found:
            assert (item, other) in linked or is_exact
            assert distance == pytest.approx(distances[item, other])
            assert is_exact == ({item, other} == {7, 9})


def test_the_threshold_chosen_is_a_function(filled: dbapi.Connection) -> None:
    (chosen,) = filled.execute("select near_threshold('s')").fetchone()
    nearest = [others[0][1] for others in pairs(filled, 1).values()]
    assert chosen == pytest.approx(0.13 * median(d for d in nearest if d > 0))
    assert (
        filled.execute("select * from duplicates('s')").fetchall()
        == filled.execute("select * from duplicates('s', near_threshold('s'))").fetchall()
    )


def test_outliers_are_ranked_by_the_distance_to_the_kth_neighbour(filled: dbapi.Connection) -> None:
    farthest = {i: others[-1][1] for i, others in pairs(filled, 5).items()}
    found = filled.execute("select * from outliers('s', 5)").fetchall()
    assert [(i, d) for i, d, _ in found] == sorted(
        farthest.items(), key=lambda item: (-item[1], item[0])
    )
    logs = {i: np.log(d) for i, d in farthest.items() if d > 0}
    middle = np.median(list(logs.values()))
    mad = np.median(np.abs(np.array(list(logs.values())) - middle))
    for i, _, score in found:
        expected = 0.6745 * (logs[i] - middle) / mad if i in logs else None
        assert score == (None if expected is None else pytest.approx(expected))


def label_errors_by_hand(db: dbapi.Connection, k: int, weighting: str) -> list[tuple[Any, ...]]:
    """From votes that SQL counts; by loops over items."""
    labels = dict(db.execute("select item_id, value from item_labels where name = 'heap'"))
    shares: dict[int, dict[str, float]] = {}
    winners = {}
    for item in labels:
        rows = db.execute(
            "select l.value, k.distance from knn('s', ?, ?,"
            " 'select item_id from item_labels where name = ''heap''') k"
            " join item_labels l on l.item_id = k.id and l.name = 'heap' order by k.rank",
            (item, k),
        ).fetchall()
        (winners[item],) = db.execute(
            "select vote(r.value ->> 0, r.value ->> 1, ?, 0.5) from json_each(?) r",
            (weighting, str([list(row) for row in rows]).replace("'", '"')),
        ).fetchone()
        weights = [
            {"uniform": 1.0, "softmax": np.exp(-d / 0.5), "distance": 1 / d if d else np.inf}[
                weighting
            ]
            for _, d in rows
        ]
        if np.inf in weights:
            weights = [float(w == np.inf) for w in weights]
        shares[item] = {
            value: sum(w for (v, _), w in zip(rows, weights, strict=True) if v == value)
            / sum(weights)
            for value in "abc"
        }
    usual = {
        value: np.mean([shares[i][value] for i in labels if labels[i] == value]) for value in "abc"
    }
    found = [
        (item, given, winners[item], 1 - shares[item][given])
        for item, given in labels.items()
        if winners[item] != given
    ]
    confident: dict[str, list[bool]] = {}
    for item, given in labels.items():
        sure = [v for v in "abc" if shares[item][v] >= usual[v] and shares[item][v] > 0]
        if sure:
            best = max(sure, key=lambda v: shares[item][v])
            confident.setdefault(given, []).append(best != given)
    estimate = sum(
        np.mean(wrong) * sum(v == given for v in labels.values())
        for given, wrong in confident.items()
    )
    return [*found, round(estimate)]


@pytest.mark.parametrize(("k", "weighting"), [(7, "uniform"), (10, "softmax"), (6, "distance")])
def test_label_errors_are_the_votes_against_an_items_own_label(
    filled: dbapi.Connection, k: int, weighting: str
) -> None:
    *expected, estimate = label_errors_by_hand(filled, k, weighting)
    found = filled.execute(
        "select id, given, suggested, confidence, is_error, distance"
        " from label_errors('s', 'heap', ?, null, ?, 0.5)",
        (k, weighting),
    ).fetchall()
    assert len(found) > 5
    assert estimate > 0
    assert {row[:3] for row in found} == {row[:3] for row in expected}
    confidence = {row[0]: row[3] for row in expected}
    assert [row[3] for row in found] == pytest.approx([confidence[row[0]] for row in found])
    order = [(-row[3], row[5], row[0]) for row in found]
    assert order == sorted(order)
    assert [row[4] for row in found] == [int(i < estimate) for i in range(len(found))]
    for item, _, suggested, *_, distance in found:
        (nearest,) = filled.execute(
            "select min(k.distance) from knn('s', ?, 60) k join item_labels l on l.item_id = k.id"
            " where l.name = 'heap' and l.value = ?",
            (item, suggested),
        ).fetchone()
        assert distance == nearest


@pytest.mark.parametrize("label", ["split", None])
def test_leaks_are_the_nearest_of_another_value(
    filled: dbapi.Connection, label: str | None
) -> None:
    values = dict(
        filled.execute("select item_id, value from item_labels where name = 'split'")
        if label
        else filled.execute("select id, collection from items")
    )
    everything = pairs(filled, N)
    for threshold in (0.0, 0.003, 1.2):
        expected = {}
        for item, others in everything.items():
            elsewhere = [(d, j) for j, d in others if values[j] != values[item] and d <= threshold]
            if elsewhere:
                expected[item] = min(elsewhere)[1]
        if values[7] != values[9]:
            expected |= {7: 9, 9: 7}
        found = filled.execute("select * from leaks('s', ?, ?)", (label, threshold)).fetchall()
        assert {row[0]: row[2] for row in found} == expected
        for item, value, other, other_value, _, is_exact in found:
            assert (value, other_value) == (values[item], values[other])
            assert is_exact == ({item, other} == {7, 9})


def test_no_leak_is_missed_among_many_copies_on_ones_own_side(
    db: dbapi.Connection, add_space: Callable[..., int]
) -> None:
    """Fifty near copies in the one split, one in the other, a little farther from all of them."""
    rng = np.random.default_rng(0)
    heap = rng.normal(scale=1e-4, size=(50, 3))
    add_space("s", np.concatenate([heap, [[0.01, 0, 0]], rng.normal(size=(20, 3)) + 5]))
    db.executemany(
        "insert into item_labels (item_id, name, value, source) values (?, 'split', ?, 'test')",
        [(i, "train" if i != 51 else "test") for i in range(1, 72)],
    )
    found = db.execute("select id, neighbor_id from leaks('s', 'split', 0.05)").fetchall()
    assert [i for i, _ in found] == list(range(1, 52))
    assert {j for i, j in found if i != 51} == {51}


def test_within_limits_what_is_compared(filled: dbapi.Connection) -> None:
    whole = filled.execute("select id from duplicates('s', 0)").fetchall()
    assert {(11,), (21,)} <= set(whole)
    some = "select id from items where id <> 21"
    found = filled.execute("select id from duplicates('s', 0, ?)", (some,)).fetchall()
    assert set(found) == set(whole) - {(11,), (21,)}
    for call in (
        "select count(*) from outliers('s', 3, :w)",
        "select count(*) from leaks('s', null, 9, :w) where id = 21",
        "select count(*) from label_errors('s', 'heap', 3, :w) where id = 21",
    ):
        (n,) = filled.execute(call, {"w": some}).fetchone()
        assert n == (N - 1 if "outliers" in call else 0)
    assert filled.execute("select near_threshold('s', '[1]')").fetchone() == (0.0,)
    for name in ("duplicates('s', 1, '[]')", "outliers('s', 1, '[]')", "leaks('s', null, 1, '[]')"):
        assert filled.execute(f"select * from {name}").fetchall() == []


def test_a_stored_graph_changes_nothing(filled: dbapi.Connection) -> None:
    questions = (
        "select * from duplicates('s')",
        "select * from outliers('s', 10)",
        "select * from label_errors('s', 'split', 10)",
        "select * from leaks('s', 'split', 2)",
        "select near_threshold('s')",
    )
    searched = [filled.execute(sql).fetchall() for sql in questions]
    neighbors(filled, ["s"], k=12)
    assert [filled.execute(sql).fetchall() for sql in questions] == searched


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ("duplicates('s', -1)", "duplicates: threshold must be at least 0, not -1"),
        ("duplicates('t')", "duplicates: there is no space 't': the spaces are s"),
        ("outliers('s', 0)", "outliers: k must be a whole number of at least 1, not 0"),
        (
            "label_errors('s', 'kind')",
            "label_errors: no item of space 's' has a label 'kind': the labels are heap, split",
        ),
        ("label_errors('s', null)", "label_errors: label must be a text, not NULL"),
        (
            "label_errors('s', 'heap', 5, null, 'rank')",
            "label_errors: weighting must be one of uniform, distance, softmax, not 'rank'",
        ),
        (
            "label_errors('s', 'heap', 5, null, 'softmax', 0)",
            "label_errors: temperature must be above 0, not 0",
        ),
        (
            "leaks('s', 'kind')",
            "leaks: no item of space 's' has a label 'kind': the labels are heap, split",
        ),
        ("leaks('s', null, 'far')", "leaks: threshold must be a finite number, not 'far'"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(
    filled: dbapi.Connection, call: str, sentence: str
) -> None:
    with pytest.raises(sqlite3.OperationalError) as raised:
        filled.execute(f"select * from {call}").fetchall()
    assert str(raised.value) == sentence


@pytest.mark.parametrize("name", ["duplicates('p')", "outliers('p')", "leaks('p')"])
def test_inner_products_are_not_distances(
    db: dbapi.Connection, add_space: Callable[..., int], name: str
) -> None:
    add_space("p", np.eye(4), "ip")
    with pytest.raises(sqlite3.OperationalError, match="inner products are not distances"):
        db.execute(f"select * from {name}").fetchall()
