"""The fast parts of an evaluation equal slow, obvious ones: who votes, the votes, retrieval."""

import itertools
import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs import connection, dbapi, evaluation_neighbors
from nearsql.udfs.evaluation_neighbors import voters
from nearsql.udfs.evaluation_votes import (
    DISTANCE,
    OWN,
    SOFTMAX,
    UNIFORM,
    average_precision,
    vote_labels,
    vote_values,
)
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.spaces import find_space
from nearsql.udfs.vote_functions import Vote, VoteShare, VoteValue

CODES = {"uniform": UNIFORM, "distance": DISTANCE, "softmax": SOFTMAX, "own": OWN}
KS = np.array([1, 2, 3, 5, 9, 40])
TEMPERATURE = 0.3
NAMES = itertools.count()


def distance(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    """One distance, as a textbook has it."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    if metric == "l2":
        return float(np.sqrt(((x - y) * (x - y)).sum()))
    if metric == "ip":
        return float(-(x * y).sum()) + 0.0
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float(np.clip(1 - (x * y).sum() / size, 0, 2)) if size > 0 else 1.0


@pytest.fixture(scope="module")
def db() -> Iterator[dbapi.Connection]:
    with closing(connection.create(":memory:")) as opened:
        opened.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?1, 'text', 'tests', printf('%064x', ?1), 'text', ?1)",
            ((item,) for item in range(1, 400)),
        )
        yield opened


def add_space(db: dbapi.Connection, ids: np.ndarray, vectors: np.ndarray, metric: str) -> str:
    name = f"space {next(NAMES)}"
    space_id = db.execute(
        "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)",
        (name, vectors.shape[1], metric),
    ).lastrowid
    db.executemany(
        "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
        [(space_id, int(i), v.astype("<f4").tobytes()) for i, v in zip(ids, vectors, strict=True)],
    )
    db.commit()
    return name


def use(way: str, patch: pytest.MonkeyPatch) -> None:
    """Takes one of the ways to the neighbours, which otherwise the size of the space would decide."""

    def too_large(*_: Any) -> None:
        raise TooLarge("for a test")

    if way == "graph":
        patch.setattr(evaluation_neighbors, "is_worthwhile", lambda *_: True)
    elif way == "fold by fold":
        patch.setattr(evaluation_neighbors, "is_worthwhile", lambda *_: False)
    elif way == "from the file":
        patch.setattr(evaluation_neighbors, "load_matrix", too_large)
    patch.setattr(evaluation_neighbors, "_ROWS", 16)


@settings(max_examples=80, deadline=None)
@given(
    way=st.sampled_from(["graph", "fold by fold", "from the file"]),
    n=st.integers(2, 90),
    some=st.booleans(),
    n_folds=st.integers(2, 6),
    is_skewed=st.booleans(),
    metric=st.sampled_from(["l2", "cosine", "ip"]),
    k=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_voters_are_those_of_brute_force(
    db: dbapi.Connection,
    way: str,
    n: int,
    some: bool,
    n_folds: int,
    is_skewed: bool,
    metric: str,
    k: int,
    seed: int,
) -> None:
    """Whole numbers, so that there are ties and duplicates; of all items of a space, or of some."""
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(np.arange(1, 400), n, replace=False))
    vectors = rng.integers(-2, 3, (n, 2)).astype(np.float32)
    space = find_space(db.apsw, add_space(db, ids, vectors, metric))
    places = np.arange(n)
    if some:
        places = np.sort(rng.choice(n, max(2, n // 2), replace=False))
    folds = rng.integers(0, n_folds, len(places))
    if is_skewed:  # nearly all in one fold: for most items few are left
        folds[rng.random(len(places)) < 0.9] = 0
    folds[:2] = 0, 1
    with pytest.MonkeyPatch.context() as patch:
        use(way, patch)
        found = list(voters(db.apsw, space, ids[places], folds, k))
    rows = np.concatenate([block.rows for block in found])
    assert sorted(rows.tolist()) == list(range(len(places)))  # each item once
    for block in found:
        for row, neighbors, distances in zip(*block, strict=True):
            others = [i for i in range(len(places)) if folds[i] != folds[row]]
            own = vectors[places[row]]
            wanted = sorted((distance(own, vectors[places[i]], metric), i) for i in others)[:k]
            lacking = k - len(wanted)
            assert neighbors.tolist() == [i for _, i in wanted] + [-1] * lacking
            assert distances.tolist() == [d for d, _ in wanted] + [math.inf] * lacking


def blocks_of_neighbors(
    rng: np.random.Generator, m: int, width: int, n_labels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, distances, weights of their own) of m items' neighbours, some lacking, ties among them."""
    labels = rng.integers(0, n_labels, (m, width))
    steps = rng.choice([0.0, 0.0, 0.25, 0.5, rng.random()], (m, width))
    distances = np.cumsum(steps, axis=1)
    if rng.random() < 0.5:
        distances += 0.25
    own = rng.choice([0.0, 1.0, 2.5, math.nan, rng.random()], (m, width))
    there = np.arange(width) < rng.integers(0, width + 1, m)[:, None]
    return np.where(there, labels, -1), np.where(there, distances, math.inf), own


def weighting_of(name: str, own: float) -> str | float:
    return own if name == "own" else name


@settings(max_examples=150, deadline=None)
@given(
    weighting=st.sampled_from(list(CODES)),
    width=st.integers(1, 12),
    n_labels=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_labels_are_voted_for_as_by_vote(
    weighting: str, width: int, n_labels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels, distances, own = blocks_of_neighbors(rng, 6, width, n_labels)
    truth = rng.integers(0, n_labels, 6)
    found = vote_labels(labels, distances, truth, KS, n_labels, CODES[weighting], TEMPERATURE, own)
    for (q, k), i in itertools.product(enumerate(KS), range(6)):
        vote, share = Vote(), VoteShare()
        for label, far, weight in list(zip(labels[i], distances[i], own[i], strict=True))[:k]:
            if label >= 0 and not (weighting == "own" and math.isnan(weight)):
                row = (int(label), float(far), weighting_of(weighting, float(weight)), TEMPERATURE)
                vote.step(*row)
                share.step(*row)
        assert found.labels[q, i] == (-1 if vote.final() is None else vote.final())
        if share.final() is None:
            assert math.isnan(found.shares[q, i])
        else:
            assert found.shares[q, i] == pytest.approx(share.final(), rel=1e-14)
        assert found.places_of_truth[q, i] == place_of_truth(vote, int(truth[i]))


def place_of_truth(vote: Vote, truth: int) -> int:
    """The labels that win, taken out one after another until it is the true one."""
    for place in itertools.count(1):
        winner = vote.final()
        if winner is None:
            return 0
        if winner == truth:
            return place
        # Its voters stay, so that weights relative to the nearest are the same; they say nothing now.
        weights = vote.weights()
        kept = [
            (label, far, weight)
            for (label, far, _), weight in zip(vote.votes, weights, strict=True)
            if label != winner
        ]
        vote = Vote()
        vote.weighting, vote.votes = "own", kept
    raise AssertionError


@settings(max_examples=100, deadline=None)
@given(
    weighting=st.sampled_from(list(CODES)),
    width=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_are_voted_for_as_by_vote_value(weighting: str, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, distances, own = blocks_of_neighbors(rng, 6, width, 9)
    values = np.where(labels >= 0, labels * rng.normal(), math.nan)
    found = vote_values(values, distances, KS, CODES[weighting], TEMPERATURE, own)
    for (q, k), i in itertools.product(enumerate(KS), range(6)):
        vote = VoteValue()
        for value, far, weight in list(zip(values[i], distances[i], own[i], strict=True))[:k]:
            if not math.isnan(value) and not (weighting == "own" and math.isnan(weight)):
                vote.step(
                    float(value), float(far), weighting_of(weighting, float(weight)), TEMPERATURE
                )
        if vote.final() is None:
            assert math.isnan(found[q, i])
        else:
            assert found[q, i] == pytest.approx(vote.final(), rel=1e-13, abs=1e-300)


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 12), n_labels=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_average_precision_is_its_definition(width: int, n_labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, _, _ = blocks_of_neighbors(rng, 6, width, n_labels)
    truth = rng.integers(0, n_labels, 6)
    there = (labels == truth[:, None]).sum(axis=1) + rng.integers(0, 4, 6)
    found = average_precision(labels, truth, there, KS)
    for (q, k), i in itertools.product(enumerate(KS), range(6)):
        hits = [label == truth[i] for label in labels[i, :k]]
        precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        if there[i] == 0:
            assert math.isnan(found[q, i])
        else:
            assert found[q, i] == pytest.approx(sum(precisions) / min(there[i], k), rel=1e-14)
