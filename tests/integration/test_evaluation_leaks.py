"""No row that is judged ever votes, nor does any row of its fold or group."""

import json
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import (
    evaluate,
    fill,
    folds_of,
    metrics_of,
    nearest_of_other_folds,
    predictions_of,
    stored_neighbors,
)
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from nearsql.pipeline.neighbors import neighbors
from nearsql.udfs import connection, dbapi
from nearsql.udfs.vote_functions import Vote, VoteShare, VoteValue

KS = (1, 3, 8)
WEIGHTINGS = ("uniform", "distance", "softmax")
OPTIONS = ("-k", "1,3,8", "--weighting", ",".join(WEIGHTINGS), "--folds", "3")


def assert_nobody_leaks(
    db: dbapi.Connection, run_id: int, vectors: np.ndarray, metric: str, labels: list[str | None]
) -> None:
    """Who is judged, who votes for whom, and what that gives, against brute force."""
    folds = folds_of(db, run_id)
    assert list(folds) == [i + 1 for i, label in enumerate(labels) if label is not None]
    items = np.array(list(folds))
    of_row = np.array([fold for fold, _ in folds.values()])
    # A k that some fold has too few others for is left out.
    (text,) = db.execute("select parameters_json from runs where id = ?", (run_id,)).fetchone()
    ks = json.loads(text)["k"]
    assert ks == [k for k in KS if k <= len(items) - max(Counter(of_row.tolist()).values())]
    wanted = nearest_of_other_folds(vectors[items - 1], metric, of_row, max(ks))
    votes = stored_neighbors(db, run_id, "s")
    assert set(votes) <= set(folds)
    for item, places, distances in zip(items.tolist(), *wanted, strict=True):
        voters = votes.get(item, [])
        for voter, _ in voters:
            assert voter != item
            assert labels[voter - 1] is not None
            assert folds[voter][0] != folds[item][0]
            assert folds[item][1] is None or folds[voter][1] != folds[item][1]
        there = places >= 0
        assert [voter for voter, _ in voters] == items[places[there]].tolist()
        assert [distance for _, distance in voters] == distances[there].tolist()
    groups: dict[str, set[int]] = {}
    for fold, group in folds.values():
        if group is not None:
            groups.setdefault(group, set()).add(fold)
    assert all(len(found) == 1 for found in groups.values())
    for k in ks:
        for weighting in WEIGHTINGS:
            for item, true, predicted, score in predictions_of(db, run_id, "s", k, weighting):
                vote, share = Vote(), VoteShare()
                for voter, distance in votes[item][:k]:
                    vote.step(labels[voter - 1], distance, weighting)
                    share.step(labels[voter - 1], distance, weighting)
                assert true == labels[item - 1]
                assert predicted == vote.final()
                assert score == pytest.approx(share.final(), rel=1e-12)


@st.composite
def collections(draw: Any) -> tuple[np.ndarray, str, list[str | None], list[str]]:
    """Few places for many items, so that there are duplicates and ties; labels, some missing; groups."""
    n = draw(st.integers(24, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = rng.integers(0, draw(st.integers(2, 6)), (n, 2)).astype(np.float32)
    labels = [str(label) for label in rng.integers(0, 3, n)]
    # Three of each at least, so that each fold can have one.
    for i in range(9):
        labels[i] = str(i % 3)
    missing = set(rng.choice(np.arange(9, n), draw(st.integers(0, 6)), replace=False).tolist())
    given_labels = [None if i in missing else label for i, label in enumerate(labels)]
    groups = [f"g{group}" for group in rng.integers(0, draw(st.integers(6, n)), n)]
    return vectors, draw(st.sampled_from(["l2", "cosine"])), given_labels, groups


@settings(max_examples=20, deadline=None)
@given(collections(), st.sampled_from(["", "label:camera", "duplicates"]), st.integers(0, 99))
def test_no_row_of_the_same_fold_or_group_votes(
    collection: tuple[np.ndarray, str, list[str | None], list[str]], group_by: str, seed: int
) -> None:
    vectors, metric, labels, groups = collection
    with tempfile.TemporaryDirectory() as folder:
        path = fill(
            Path(folder) / "s.db", {"s": (vectors, metric)}, {"class": labels, "camera": groups}
        )
        grouped = ("--group-by", group_by) if group_by else ()
        try:
            run_id = evaluate(path, "s", "--label", "class", *OPTIONS, "--seed", seed, *grouped)
        except AssertionError as refused:
            if "--folds 3 needs as many groups" not in str(refused):
                raise
            reject()  # two directions
        with closing(connection.connect(path, read_only=True)) as db:
            assert_nobody_leaks(db, run_id, vectors, metric, labels)
            folds = folds_of(db, run_id)
            if group_by == "label:camera":
                assert all(group == groups[item - 1] for item, (_, group) in folds.items())
            if group_by == "duplicates":
                of_place: dict[tuple[float, ...], set[int]] = {}
                for item, (fold, _) in folds.items():
                    if metric == "cosine" and not vectors[item - 1].any():
                        continue  # without a direction, they are as far from each other as from all
                    of_place.setdefault(tuple(vectors[item - 1].tolist()), set()).add(fold)
                assert all(len(found) == 1 for found in of_place.values())


def test_duplicates_give_themselves_away_unless_they_are_grouped(tmp_path: Path) -> None:
    """Pairs of equal rows with labels at random: nothing can be learnt, and only a leak can know."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(300, 4)), 2, axis=0).astype(np.float32)
    labels: list[str | None] = [str(label) for label in np.repeat(rng.integers(0, 2, 300), 2)]
    path = fill(tmp_path / "pairs.db", {"s": (vectors, "l2")}, {"class": labels})
    words = ("s", "--label", "class", "-k", "1", "--weighting", "uniform")
    leaking = evaluate(path, *words)
    grouped = evaluate(path, *words, "--group-by", "duplicates")
    with closing(connection.connect(path, read_only=True)) as db:
        known = metrics_of(db, leaking, "s", 1, "uniform")[None, "accuracy"]
        guessed = metrics_of(db, grouped, "s", 1, "uniform")[None, "accuracy"]
        (largest,) = db.execute(
            "select max(n) from (select count(*) as n from folds where run_id = ? group by group_key)",
            (grouped,),
        ).fetchone()
    assert known is not None
    assert guessed is not None
    assert known > 0.85  # the other of a pair is in another fold four times in five
    assert abs(guessed - 0.5) < 0.1  # 4 standard errors of 300 pairs, and a little more
    assert largest == 2


def test_what_is_judged_has_no_say_in_its_own_judgement(tmp_path: Path) -> None:
    """Its number is changed: what others are told changes, what it and its fold are told does not."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(0, 4, (60, 2)).astype(np.float32)
    values: list[str | None] = [str(value) for value in rng.integers(0, 100, 60)]
    path = fill(tmp_path / "numbers.db", {"s": (vectors, "l2")}, {"size": values})
    words = ("s", "--target", "label:size", *OPTIONS)
    before = evaluate(path, *words)
    with closing(connection.connect(path)) as db:
        db.execute("update item_labels set value = '5000' where item_id = 17 and name = 'size'")
        db.commit()
    after = evaluate(path, *words)
    with closing(connection.connect(path, read_only=True)) as db:
        folds = folds_of(db, before)
        assert folds_of(db, after) == folds
        voters = stored_neighbors(db, before, "s")
        assert stored_neighbors(db, after, "s") == voters
        moved = Counter[bool]()
        for k in KS:
            for weighting in WEIGHTINGS:
                old = predictions_of(db, before, "s", k, weighting)
                new = predictions_of(db, after, "s", k, weighting)
                for (item, _, said, _), (_, _, says, _) in zip(old, new, strict=True):
                    asked = 17 in [voter for voter, _ in voters[item][:k]]
                    assert asked or says == said
                    assert not (asked and folds[item][0] == folds[17][0])
                    moved[says != said] += 1
                    value = VoteValue()
                    for voter, distance in voters[item][:k]:
                        number = 5000 if voter == 17 else int(str(values[voter - 1]))
                        value.step(number, distance, weighting)
                    assert says == pytest.approx(value.final(), rel=1e-9)
        assert moved[True] > 10


def test_a_stored_graph_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    vectors = rng.integers(0, 9, (120, 3)).astype(np.float32)
    labels: list[str | None] = [str(label) for label in rng.integers(0, 3, 120)]
    path = fill(tmp_path / "graph.db", {"s": (vectors, "l2")}, {"class": labels})
    runs = [evaluate(path, "s", "--label", "class", *OPTIONS)]
    for k in (5, 40):
        with closing(connection.connect(path)) as db:
            neighbors(db, ["s"], k)
        runs.append(evaluate(path, "s", "--label", "class", *OPTIONS))
    with closing(connection.connect(path, read_only=True)) as db:
        hashes = {
            db.execute("select result_sha256 from runs where id = ?", (run_id,)).fetchone()
            for run_id in runs
        }
        assert_nobody_leaks(db, runs[-1], vectors, "l2", labels)
    assert len(runs) == 3
    assert len(hashes) == 1
