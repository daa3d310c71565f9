"""kNN evaluation gives what scikit-learn's estimators give, and softmax what DINO's published rule gives.

scikit-learn does not say which of two rows at the same distance is the neighbour, nor which of two
labels with the same weight wins. So it is asked twice: with neighbours in the order of (distance, id),
for every row; and with the vectors alone, for the rows on which nothing is tied.
"""

import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import (
    Nearest,
    as_graph,
    evaluate,
    fill,
    folds_of,
    metrics_of,
    predictions_of,
)
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from nearsql.udfs import connection, dbapi

KS = (1, 3, 5, 10, 20, 100, 200)
WEIGHTINGS = ("uniform", "distance", "softmax")
TEMPERATURE = 0.07
FOLDS = 5
SEED = 3

Labels = NDArray[np.int64]


@dataclass(repr=False)
class Judged:
    """A data set of whole numbers, judged as classes and as numbers, in spaces called by their metric."""

    db: dbapi.Connection
    vectors: NDArray[np.float32]
    labels: Labels
    classes: int  # the run with --label
    numbers: int  # the run with --target
    ks: tuple[int, ...]
    known: dict[int, Nearest] = field(default_factory=dict)

    def folds(self, run_id: int) -> Labels:
        """The fold of each row."""
        found = folds_of(self.db, run_id)
        assert list(found) == list(range(1, len(self.labels) + 1))
        return np.array([fold for fold, _ in found.values()])

    def nearest(self, run_id: int) -> Nearest:
        """The neighbours by Euclidean distance, one more than vote."""
        if run_id not in self.known:
            self.known[run_id] = nearest_whole(self.vectors, self.folds(run_id), max(self.ks) + 1)
        return self.known[run_id]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    vectors, labels = load_digits(return_X_y=True)
    yield from judged(tmp_path_factory.mktemp("digits"), vectors, labels, KS, ("l2", "cosine"))


@pytest.fixture(scope="module")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder = Path(os.environ["NEARSQL_ASSETS"]) / "fashion-mnist"
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    vectors = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
    yield from judged(
        tmp_path_factory.mktemp("clothes"),
        vectors,
        np.frombuffer(labels, np.uint8, offset=8),
        (1, 10, 100),
        ("l2",),
    )


def judged(
    folder: Path,
    vectors: NDArray[Any],
    labels: NDArray[Any],
    ks: tuple[int, ...],
    spaces: tuple[str, ...],
) -> Iterator[Judged]:
    """Both evaluations of a data set, in spaces that are called by their metric."""
    rows = vectors.astype(np.float32)
    path = fill(
        folder / "judged.db",
        {metric: (rows, metric) for metric in spaces},
        {"class": [str(label) for label in labels]},
    )
    options = ("-k", ",".join(map(str, ks)), "--folds", FOLDS, "--seed", SEED)
    weightings = ("--weighting", ",".join(WEIGHTINGS), "--temperature", TEMPERATURE)
    classes = evaluate(path, *spaces, "--label", "class", *options, *weightings)
    weightings = ("--weighting", "uniform,distance")
    numbers = evaluate(path, "l2", "--target", "label:class", *options, *weightings)
    with closing(connection.connect(path, read_only=True)) as db:
        yield Judged(db, rows, labels.astype(np.int64), classes, numbers, ks)


def nearest_whole(vectors: NDArray[np.float32], folds: Labels, k: int) -> Nearest:
    """Each row's k nearest of other folds by Euclidean distance, for rows of whole numbers.

    Squares of distances are whole, too, and float64 has them exactly; so a whole number made of square
    and place is sorted by (distance, place).
    """
    rows = vectors.astype(np.float64)
    squares = (rows * rows).sum(axis=1)
    n = len(rows)
    places = np.empty((n, k), np.int64)
    distances = np.empty((n, k))
    for fold in np.unique(folds):
        others = np.flatnonzero(folds != fold)
        for own in np.array_split(np.flatnonzero(folds == fold), 4):
            products = rows[own] @ rows[others].T
            found = squares[own, None] + squares[others] - 2 * products
            keys = found.astype(np.int64) * n + others
            keys = np.sort(np.partition(keys, k - 1, axis=1)[:, :k], axis=1)
            places[own], distances[own] = keys % n, np.sqrt(keys // n)
    return Nearest(places, distances)


def by_folds(folds: Labels) -> Iterator[tuple[Labels, Labels]]:
    """(rows that are judged, rows that vote)."""
    for fold in np.unique(folds):
        yield np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)


def fitted(model: Any, labels: Labels) -> Any:
    """A model of scikit-learn's that is asked with graphs: of the rows fitted it needs the labels only."""
    n = len(labels)
    graph = csr_matrix((np.zeros(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
    return model.fit(graph, labels)


def class_weights(one: Judged, run_id: int, k: int, weights: Any) -> NDArray[np.float64]:
    """Each row's share of weight for each class, (n, classes), by KNeighborsClassifier."""
    nearest = first(one.nearest(run_id), k)
    found = np.zeros((len(one.labels), one.labels.max() + 1))
    for rows, among in by_folds(one.folds(run_id)):
        model = KNeighborsClassifier(k, weights=weights, metric="precomputed")
        model = fitted(model, one.labels[among])
        found[np.ix_(rows, model.classes_)] = model.predict_proba(as_graph(nearest, rows, among))
    return found


def first(nearest: Nearest, k: int) -> Nearest:
    """The first k of each row."""
    return Nearest(nearest.places[:, :k], nearest.distances[:, :k])


def decided(weights: NDArray[np.float64], nearest: Nearest, labels: Labels) -> Labels:
    """The class of most weight; of several, that of the nearest neighbour, then the lower one."""
    found = weights.argmax(axis=1)
    is_best = weights >= weights.max(axis=1, keepdims=True) - 1e-12
    for i in np.flatnonzero(is_best.sum(axis=1) > 1):
        order = sorted(zip(nearest.distances[i], labels[nearest.places[i]], strict=True))
        found[i] = next(label for _, label in order if is_best[i, label])
    return found


def untied(one: Judged, run_id: int, k: int, weights: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The rows whose neighbours and whose winning class no tie decides."""
    distances = one.nearest(run_id).distances
    top = np.sort(weights, axis=1)
    return (distances[:, k] > distances[:, k - 1]) & (top[:, -1] - top[:, -2] > 1e-9)


def softmax(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp((distances[:, :1] - distances) / TEMPERATURE)


SKLEARN: dict[str, Any] = {"uniform": "uniform", "distance": "distance", "softmax": softmax}


def check_classes(one: Judged, k: int, weighting: str) -> None:
    """Predictions, scores and metrics are those of KNeighborsClassifier."""
    weights = class_weights(one, one.classes, k, SKLEARN[weighting])
    wanted = decided(weights, first(one.nearest(one.classes), k), one.labels)
    stored = predictions_of(one.db, one.classes, "l2", k, weighting)
    items, true, predicted, scores = (list(column) for column in zip(*stored, strict=True))
    assert items == list(range(1, len(one.labels) + 1))
    assert true == [str(label) for label in one.labels]
    assert predicted == [str(label) for label in wanted]
    assert scores == pytest.approx(weights.max(axis=1), rel=1e-9)

    metrics = metrics_of(one.db, one.classes, "l2", k, weighting)
    assert metrics[None, "accuracy"] == accuracy_score(one.labels, wanted)
    macro = f1_score(one.labels, wanted, average="macro")
    assert metrics[None, "macro_f1"] == pytest.approx(macro, rel=1e-12)
    for fold, (rows, _) in enumerate(by_folds(one.folds(one.classes))):
        assert metrics[fold, "accuracy"] == accuracy_score(one.labels[rows], wanted[rows])
        macro = f1_score(one.labels[rows], wanted[rows], average="macro")
        assert metrics[fold, "macro_f1"] == pytest.approx(macro, rel=1e-12)


def check_classes_of_vectors(one: Judged, k: int, weighting: str, least: float) -> None:
    """Where nothing is tied, KNeighborsClassifier says the same of the vectors alone."""
    clear = untied(one, one.classes, k, class_weights(one, one.classes, k, weighting))
    assert clear.mean() > least
    stored = predictions_of(one.db, one.classes, "l2", k, weighting)
    predicted = np.array([int(row[2]) for row in stored])
    for rows, among in by_folds(one.folds(one.classes)):
        model = KNeighborsClassifier(k, weights=weighting, algorithm="brute")
        found = model.fit(one.vectors[among], one.labels[among]).predict(one.vectors[rows])
        assert (found == predicted[rows])[clear[rows]].all()


def check_numbers(one: Judged, k: int, weighting: str) -> None:
    """Values and metrics are those of KNeighborsRegressor."""
    wanted = np.empty(len(one.labels))
    nearest = first(one.nearest(one.numbers), k)
    for rows, among in by_folds(one.folds(one.numbers)):
        model = KNeighborsRegressor(k, weights=weighting, metric="precomputed")
        model = fitted(model, one.labels[among].astype(float))
        wanted[rows] = model.predict(as_graph(nearest, rows, among))
    stored = predictions_of(one.db, one.numbers, "l2", k, weighting)
    assert [true for _, true, _, _ in stored] == one.labels.tolist()
    predicted = np.array([value for _, _, value, _ in stored])
    assert predicted == pytest.approx(wanted, rel=1e-9, abs=1e-12)

    metrics = metrics_of(one.db, one.numbers, "l2", k, weighting)
    parts: list[tuple[int | None, Any]] = [(None, slice(None))]
    parts += [(fold, rows) for fold, (rows, _) in enumerate(by_folds(one.folds(one.numbers)))]
    judges: dict[str, Callable[[Any, Any], float]] = {
        "mae": mean_absolute_error,
        "r2": r2_score,
        "spearman": lambda true, said: float(spearmanr(true, said).statistic),
    }
    for fold, rows in parts:
        for name, judge in judges.items():
            # Of what is stored: a rounding may part two values that are tied, and so move ranks.
            found = judge(one.labels[rows], predicted[rows])
            assert metrics[fold, name] == pytest.approx(found, rel=1e-9), (fold, name)


def check_dino(one: Judged, k: int, least: float) -> None:
    """Softmax is the weighted vote of DINO, on the rows on which nothing is tied."""
    votes, gap = dino_votes(one.vectors, one.labels, one.folds(one.classes), k)
    top = np.sort(votes, axis=1)
    clear = (gap > 1e-9) & (top[:, -1] - top[:, -2] > 1e-9 * top[:, -1])
    assert clear.mean() > least
    stored = predictions_of(one.db, one.classes, "cosine", k, "softmax")
    predicted = np.array([int(row[2]) for row in stored])
    assert (predicted == votes.argmax(axis=1))[clear].all()
    scores = np.array([row[3] for row in stored])
    assert scores[clear] == pytest.approx((top[:, -1] / votes.sum(axis=1))[clear], rel=1e-9)


def dino_votes(
    features: NDArray[np.float32], labels: Labels, folds: Labels, k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(votes for each class (n, classes), similarity lost from the k-th to the next neighbour (n,)).

    The weighted nearest neighbour classifier of M. Caron and others, "Emerging Properties in
    Self-Supervised Vision Transformers" (2021), after Z. Wu and others, "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination" (2018), section 3.4: features of length 1; the k largest
    cosine similarities s; each neighbour adds exp(s / 0.07) to its class.
    """
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    one_hot = np.eye(labels.max() + 1)[labels]
    votes = np.empty((len(labels), one_hot.shape[1]))
    gap = np.empty(len(labels))
    for test, train in by_folds(folds):
        similarity = unit[test] @ unit[train].T
        top = np.argpartition(-similarity, k, axis=1)[:, : k + 1]
        found = np.take_along_axis(similarity, top, axis=1)
        order = np.argsort(-found, axis=1)
        found, top = (np.take_along_axis(a, order, axis=1) for a in (found, top))
        gap[test] = found[:, k - 1] - found[:, k]
        weights = np.exp(found[:, :k] / TEMPERATURE)
        votes[test] = np.einsum("mk,mkc->mc", weights, one_hot[train][top[:, :k]])
    return votes, gap


def test_folds_are_those_of_scikit_learn(digits: Judged) -> None:
    rows = np.zeros(len(digits.labels))
    for run_id, splitter in (
        (digits.classes, StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)),
        (digits.numbers, KFold(FOLDS, shuffle=True, random_state=SEED)),
    ):
        folds = digits.folds(run_id)
        for fold, (_, test) in enumerate(splitter.split(rows, digits.labels)):
            assert np.flatnonzero(folds == fold).tolist() == test.tolist()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("k", KS)
def test_digits_are_classified_as_by_scikit_learn(digits: Judged, k: int, weighting: str) -> None:
    check_classes(digits, k, weighting)


@pytest.mark.parametrize("weighting", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_digits_are_classified_as_by_scikit_learn_alone(
    digits: Judged, k: int, weighting: str
) -> None:
    check_classes_of_vectors(digits, k, weighting, least=0.9)


@pytest.mark.parametrize("weighting", ["uniform", "distance"])
@pytest.mark.parametrize("k", KS)
def test_digits_are_estimated_as_by_scikit_learn(digits: Judged, k: int, weighting: str) -> None:
    check_numbers(digits, k, weighting)


@pytest.mark.parametrize("k", [10, 20, 100, 200])
def test_softmax_is_the_published_rule(digits: Judged, k: int) -> None:
    check_dino(digits, k, least=0.99)


@pytest.mark.assets
def test_clothes_are_judged_as_by_scikit_learn(clothes: Judged) -> None:
    assert len(clothes.labels) == 10_000
    for k in clothes.ks:
        for weighting in ("uniform", "distance"):
            check_classes(clothes, k, weighting)
            check_numbers(clothes, k, weighting)
    check_classes_of_vectors(clothes, 10, "distance", least=0.99)
