"""cluster_diff, cluster_moves and cluster_agreement against the definitions, pair by pair."""

import sqlite3
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from nearsql.udfs import dbapi
from nearsql.udfs.cluster_diff import Clustering, Comparison

Labels = dict[int, int | None]  # item -> label, None for noise
AddRun = Callable[..., int]


@pytest.fixture
def add_run(db: dbapi.Connection) -> AddRun:
    """Gives `db` a finished clustering run of these levels, and the items it lacks."""

    def add(*levels: Labels, kind: str = "cluster", status: str = "finished") -> int:
        run = db.execute("insert into runs (kind) values (?)", (kind,)).lastrowid
        assert run is not None
        for level, labels in enumerate(levels, 1):
            for item in labels:
                db.execute(
                    "insert or ignore into items (id, kind, collection, sha256, content,"
                    " sequence_number) values (?, 'text', 'tests', ?, 't', ?)",
                    (item, f"{item:064x}", item),
                )
            ids: dict[int | None, int | None] = {None: None}
            for label in sorted({label for label in labels.values() if label is not None}):
                size = sum(other == label for other in labels.values())
                ids[label] = db.execute(
                    "insert into clusters (run_id, level, label, size) values (?, ?, ?, ?)",
                    (run, level, label, size),
                ).lastrowid
            db.executemany(
                "insert into memberships (run_id, level, item_id, cluster_id) values (?, ?, ?, ?)",
                [(run, level, item, ids[label]) for item, label in labels.items()],
            )
        if status != "running":
            db.execute(
                "update runs set status = ?, finished_at = 'now', error = 'why' where id = ?",
                (status, run),
            )
        db.commit()
        return run

    return add


def groups(*sizes: int | None, first: int = 1) -> Labels:
    """Items from `first`: sizes[0] of them in cluster 0, and so on; negative sizes are noise."""
    labels: Labels = {}
    for label, size in enumerate(sizes):
        assert size is not None
        for _ in range(abs(size)):
            labels[first + len(labels)] = label if size > 0 else None
    return labels


def diff(db: dbapi.Connection, *arguments: int) -> list[tuple]:
    marks = ", ".join("?" * len(arguments))
    return db.execute(
        f"select change, cluster_a, cluster_b, overlap from cluster_diff({marks})", arguments
    ).fetchall()


def test_each_change_by_its_name(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run(
        {
            **groups(10, first=1),  # 0 stays
            **{item: 1 for item in range(11, 21)},  # comes apart
            **{item: 2 for item in range(21, 31)},  # joined by 3
            **{item: 3 for item in range(31, 41)},
            **{item: 4 for item in range(41, 51)},  # becomes noise
            **{item: None for item in range(51, 61)},  # becomes a cluster
        }
    )
    b = add_run(
        {
            **{item: 5 for item in range(1, 10)},  # and item 10 is noise now
            10: None,
            **{item: 6 for item in range(11, 16)},
            **{item: 7 for item in range(16, 21)},
            **{item: 8 for item in range(21, 41)},
            **{item: None for item in range(41, 51)},
            **{item: 9 for item in range(51, 61)},
        }
    )
    assert diff(db, a, b) == [
        ("same", 0, 5, 9),
        ("split", 1, 6, 5),
        ("split", 1, 7, 5),
        ("merged", 2, 8, 10),
        ("merged", 3, 8, 10),
        ("gone", 4, None, None),
        ("new", None, 9, None),
    ]
    assert diff(db, b, a) == [
        ("same", 5, 0, 9),
        ("merged", 6, 1, 5),
        ("merged", 7, 1, 5),
        ("split", 8, 2, 10),
        ("split", 8, 3, 10),
        ("gone", 9, None, None),
        ("new", None, 4, None),
    ]
    moves = db.execute(
        "select move, cluster_a, cluster_b, min(id), count(*) from cluster_moves(?, ?)"
        " group by 1, 2, 3 order by 4",
        (a, b),
    ).fetchall()
    assert moves == [
        ("to noise", 0, None, 10, 1),
        ("to noise", 4, None, 41, 10),
        ("from noise", None, 9, 51, 10),
    ]


def test_a_part_of_one_cluster_that_joins_another_is_mixed(
    db: dbapi.Connection, add_run: AddRun
) -> None:
    a = add_run({**{i: 0 for i in range(1, 101)}, **{i: 1 for i in range(101, 301)}})
    b = add_run({**{i: 0 for i in range(1, 41)}, **{i: 1 for i in range(41, 301)}})
    assert diff(db, a, b) == [("mixed", 0, 1, 60), ("split", 0, 0, 40), ("merged", 1, 1, 200)]
    assert db.execute("select * from cluster_moves(?, ?)", (a, b)).fetchall() == []


def test_columns_and_jaccard(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run(groups(10))
    b = add_run({item: 3 if item < 9 else None for item in range(3, 13)})
    cursor = db.execute("select * from cluster_diff(?, ?)", (a, b))
    names = [column[0] for column in cursor.description or ()]
    (row,) = cursor.fetchall()
    assert dict(zip(names, row, strict=True)) == {
        "change": "same",
        "cluster_a": 0,
        "cluster_b": 3,
        "size_a": 10,
        "size_b": 6,
        "compared_a": 8,
        "compared_b": 6,
        "overlap": 6,
        "jaccard": 6 / 8,
    }


def test_a_cluster_of_items_that_the_other_run_lacks_is_not_judged(
    db: dbapi.Connection, add_run: AddRun
) -> None:
    a = add_run({1: 0, 2: 0, 5: 1, 6: 1})
    b = add_run({1: 0, 2: 0, 8: 1, 9: 1})
    assert diff(db, a, b) == [("same", 0, 0, 2), (None, 1, None, None), (None, None, 1, None)]
    sizes = "select size_a, compared_a, size_b, compared_b from cluster_diff(?, ?)"
    assert db.execute(sizes, (a, b)).fetchall()[1:] == [(2, 0, None, None), (None, None, 2, 0)]
    counts = "select items, only_a, only_b, clusters_a, clusters_b from cluster_agreement(?, ?)"
    assert db.execute(counts, (a, b)).fetchall() == [(2, 2, 2, 1, 1)]


def test_a_run_beside_itself(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run(groups(5, 7, -3, 4))
    rows = db.execute(
        "select change, cluster_a = cluster_b, jaccard from cluster_diff(?1, ?1)", (a,)
    )
    assert rows.fetchall() == [("same", 1, 1.0)] * 3
    assert db.execute("select count(*) from cluster_moves(?1, ?1)", (a,)).fetchone() == (0,)
    agreement = (
        "select ari, ami, moved + to_noise + from_noise, noise_a from cluster_agreement(?1, ?1)"
    )
    ari, ami, moved, noise = db.execute(agreement, (a,)).fetchone()
    assert (ari, moved, noise) == (1.0, 0, 3)
    assert ami == pytest.approx(1.0)


def test_levels_of_one_run_or_of_two(db: dbapi.Connection, add_run: AddRun) -> None:
    coarse, fine = groups(20), groups(10, 10)
    a = add_run(coarse, fine)
    b = add_run(fine)
    assert diff(db, a, a, 1, 2) == [("split", 0, 0, 10), ("split", 0, 1, 10)]
    assert diff(db, a, b, 2, 1) == [("same", 0, 0, 10), ("same", 1, 1, 10)]
    assert diff(db, b, a) == [("merged", 0, 0, 10), ("merged", 1, 0, 10)]
    with pytest.raises(sqlite3.OperationalError, match="run_b: run 2 has no level 2: it has 1"):
        diff(db, a, b, 2)


def test_undefined_agreement_is_null(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run({1: 0, 2: None, 3: None})
    row = "select ari, in_clusters, ari_in_clusters, ami_in_clusters from cluster_agreement(?1, ?1)"
    assert db.execute(row, (a,)).fetchone() == (1.0, 1, None, None)


def test_refusals_are_sentences(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run({1: 0, 2: 0})
    other = add_run({5: 0, 6: 0})
    wrong = add_run(kind="project")
    failed = add_run({1: 0}, status="failed")
    running = add_run({1: 0}, status="running")
    empty = add_run()
    for arguments, words in (
        ((a, 99), "run_b: there is no run 99: the newest clusterings are"),
        ((wrong, a), f"run_a: run {wrong} is of kind 'project', and only clusterings"),
        ((a, failed), f"run_b: run {failed} is failed"),
        ((running, a), f"run_a: run {running} is running"),
        ((a, empty), f"run_b: run {empty} has no level 1: it clustered no items"),
        ((a, other), f"runs {a} and {other} hold no item in common"),
        ((0, a), "run_a must be a whole number of at least 1, not 0"),
        ((a, a, 0), "level must be a whole number of at least 1, not 0"),
        ((a, a, 1, -1), "level_b must be a whole number of at least 1, not -1"),
    ):
        for function in ("cluster_diff", "cluster_moves", "cluster_agreement"):
            marks = ", ".join("?" * len(arguments))
            with pytest.raises(sqlite3.OperationalError, match=f"^{function}: {words}"):
                db.execute(f"select * from {function}({marks})", arguments).fetchall()


def test_a_member_of_another_runs_cluster_is_damage_not_noise(
    db: dbapi.Connection, add_run: AddRun
) -> None:
    a, b = add_run(groups(3)), add_run(groups(3))
    db.execute(
        "update memberships set cluster_id = (select id from clusters where run_id = ?)"
        " where run_id = ? and item_id = 2",
        (a, b),
    )
    with pytest.raises(sqlite3.OperationalError, match=f"item 2 of run {b} .* file is damaged"):
        diff(db, a, b)


def test_without_any_clustering_it_says_how_to_make_one(db: dbapi.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="`nearsql cluster` first"):
        diff(db, 1, 2)


def test_it_can_be_interrupted(db: dbapi.Connection, add_run: AddRun) -> None:
    a = add_run(groups(3, 4, 5))
    db.set_progress_handler(lambda: 1, 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        db.execute("select * from cluster_agreement(?1, ?1)", (a,)).fetchall()


# -- the definitions, written out ---------------------------------------------------------------------

clusterings = st.dictionaries(st.integers(1, 40), st.integers(-1, 5), min_size=1)


def clustering(run: int, labels: dict[int, int]) -> Clustering:
    items = sorted(labels)
    return Clustering(
        run, 1, np.array(items, np.int64), np.array([labels[i] for i in items], np.int64)
    )


def members(labels: dict[int, int]) -> dict[int, set[int]]:
    return {
        label: {item for item, other in labels.items() if other == label}
        for label in sorted({*labels.values()} - {-1})
    }


@given(clusterings, clusterings)
def test_changes_and_moves_are_as_defined(a: dict[int, int], b: dict[int, int]) -> None:
    common = a.keys() & b.keys()
    if not common:
        with pytest.raises(ValueError, match="no item in common"):
            Comparison(clustering(1, a), clustering(2, b))
        return
    found = Comparison(clustering(1, a), clustering(2, b))
    in_a, in_b = members(a), members(b)
    links = {
        (x, y)
        for x, y in product(in_a, in_b)
        if 2 * len(in_a[x] & in_b[y]) > min(len(in_a[x] & common), len(in_b[y] & common))
    }
    of_a = {x: [y for other, y in links if other == x] for x in in_a}
    of_b = {y: [x for x, other in links if other == y] for y in in_b}
    expected = set()
    for x, y in links:
        names = {(1, 1): "same", (2, 1): "split", (1, 2): "merged", (2, 2): "mixed"}
        name = names[min(2, len(of_a[x])), min(2, len(of_b[y]))]
        both = in_a[x] & in_b[y]
        jaccard = len(both) / len((in_a[x] | in_b[y]) & common)
        expected.add((name, x, y, len(both), jaccard))
    for x in in_a:
        if not of_a[x]:
            name = "gone" if in_a[x] & common else None
            expected.add((name, x, None, None, None))
    for y in in_b:
        if not of_b[y]:
            name = "new" if in_b[y] & common else None
            expected.add((name, None, y, None, None))
    changes = list(found.changes())
    assert {(c.change, c.cluster_a, c.cluster_b, c.overlap, c.jaccard) for c in changes} == expected
    assert len(changes) == len(expected)
    for change in changes:
        if change.cluster_a is not None:
            assert change.size_a == len(in_a[change.cluster_a])
            assert change.compared_a == len(in_a[change.cluster_a] & common)
        if change.cluster_b is not None:
            assert change.size_b == len(in_b[change.cluster_b])
            assert change.compared_b == len(in_b[change.cluster_b] & common)
    moves = [
        (item, a[item], b[item])
        for item in sorted(common)
        if (a[item], b[item]) not in links and (a[item], b[item]) != (-1, -1)
    ]
    assert [
        (item, -1 if x is None else x, -1 if y is None else y) for item, _, x, y in found.moves()
    ] == moves
    names = [move for _, move, _, _ in found.moves()]
    assert found.count_moves() == {n: names.count(n) for n in ("moved", "to noise", "from noise")}
    for _, move, x, y in found.moves():
        assert move == ("to noise" if y is None else "from noise" if x is None else "moved")


@given(clusterings, clusterings)
def test_agreement_is_the_librarys_over_common_items(a: dict[int, int], b: dict[int, int]) -> None:
    common = sorted(a.keys() & b.keys())
    if not common:
        return
    found = Comparison(clustering(1, a), clustering(2, b)).agreement()
    clustered = [item for item in common if a[item] >= 0 and b[item] >= 0]
    for items, (ari, ami) in ((common, found[:2]), (clustered, found[2:])):
        x, y = [a[item] for item in items], [b[item] for item in items]
        if len(items) < 2:
            assert (ari, ami) == (None, None)
            continue
        assert ari == adjusted_rand_score(x, y)
        if max(len({*x}), len({*y})) < len(items):
            assert ami == pytest.approx(adjusted_mutual_info_score(x, y), abs=1e-9)
