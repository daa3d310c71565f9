"""Predictions of all items of a space, for each k and weighting, by their voters."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.evaluate.settings import Settings, code
from nearsql.pipeline.evaluate.targets import Labels, Target
from nearsql.udfs.evaluation_neighbors import Voters
from nearsql.udfs.evaluation_votes import average_precision, vote_labels, vote_values

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

# A label's place among those predicted, for top_5_accuracy.
TOP = 5


@dataclass(frozen=True, slots=True)
class LabelPredictions:
    """What is said of the labels of n items for q values of k by one weighting, (q, n) each.

    codes: of the predicted labels, -1 for none; shares: of the weight, NaN for none; in_top: whether the
    true one is among the first TOP.
    """

    codes: NDArray[np.int32]
    shares: Numbers
    in_top: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ValuePredictions:
    """The predicted numbers of n items for q values of k by one weighting, (q, n); NaN for none."""

    values: Numbers


Predictions = LabelPredictions | ValuePredictions


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said in one space of n items for q values of k.

    by_weighting: the predictions. precision: how well the neighbours retrieve each item's label, (q, n),
    NaN where it is not defined; of numbers it never is. digests: the SHA-256 of each item's voters, (n, 32).
    """

    by_weighting: dict[str, Predictions]
    precision: Numbers
    digests: NDArray[np.uint8]


class Judge:
    """Takes the voters of the items, in blocks and any order, and fills `judged`."""

    def __init__(
        self,
        target: Target,
        folds: Ids,
        settings: Settings,
        weights: dict[str, Numbers],
    ) -> None:
        """folds: (n,). weights: by weighting, what each item's vote weighs, (n,), NaN for no vote; of the
        weightings that go by distance alone, none."""
        n, q = len(target.items), len(settings.ks)
        self._target, self._settings, self._own = target, settings, weights
        self._ks = np.array(settings.ks, np.int64)
        self.judged = Judged(
            {weighting: _empty(target, q, n) for weighting in settings.weightings},
            np.full((q, n), np.nan),
            np.zeros((n, 32), np.uint8),
        )
        if isinstance(target, Labels):
            counts = np.zeros((folds.max() + 1, len(target.names)), np.int64)
            np.add.at(counts, (folds, target.codes), 1)
            # Of each item, how many of its label are in other folds.
            self._relevant = counts.sum(axis=0)[target.codes] - counts[folds, target.codes]

    def add(self, block: Voters) -> None:
        """Predicts the items of a block."""
        is_voter = block.neighbors >= 0
        self._digest(block, is_voter)
        target, by_weighting = self._target, self.judged.by_weighting
        if isinstance(target, Labels):
            labels = np.where(is_voter, target.codes[block.neighbors], -1)
            truth = target.codes[block.rows]
            self.judged.precision[:, block.rows] = average_precision(
                labels, truth, self._relevant[block.rows], self._ks
            )
            for weighting, found in by_weighting.items():
                assert isinstance(found, LabelPredictions)
                votes = vote_labels(
                    labels,
                    block.distances,
                    truth,
                    self._ks,
                    len(target.names),
                    *self._weights(weighting, block),
                )
                _refuse_overflow(votes.shares[votes.labels >= 0], weighting)
                found.codes[:, block.rows] = votes.labels
                found.shares[:, block.rows] = votes.shares
                place = votes.places_of_truth
                found.in_top[:, block.rows] = (place >= 1) & (place <= TOP)
        else:
            values = np.where(is_voter, target.numbers[block.neighbors], np.nan)
            for weighting, found in by_weighting.items():
                assert isinstance(found, ValuePredictions)
                predicted = vote_values(
                    values, block.distances, self._ks, *self._weights(weighting, block)
                )
                _refuse_overflow(predicted[~np.isnan(predicted)], weighting)
                found.values[:, block.rows] = predicted

    def _weights(self, weighting: str, block: Voters) -> tuple[int, float, Numbers | None]:
        own = self._own.get(weighting)
        weights = None if own is None else own[block.neighbors]
        return code(weighting), self._settings.temperature, weights

    def _digest(self, block: Voters, is_voter: NDArray[np.bool_]) -> None:
        ids = self._target.items[block.neighbors].astype("<i8")
        distances = block.distances.astype("<f8")
        for row, n, its_ids, its_distances in zip(
            block.rows.tolist(), is_voter.sum(axis=1).tolist(), ids, distances, strict=True
        ):
            digest = hashlib.sha256(its_ids[:n].tobytes())
            digest.update(its_distances[:n].tobytes())
            self.judged.digests[row] = np.frombuffer(digest.digest(), np.uint8)


def _refuse_overflow(numbers: Numbers, weighting: str) -> None:
    if not np.isfinite(numbers).all():
        raise UserError(
            f"--weighting {weighting}: some distances are so small, or numbers so large, that their sums"
            " overflow"
        )


def _empty(target: Target, q: int, n: int) -> Predictions:
    if isinstance(target, Labels):
        return LabelPredictions(
            np.full((q, n), -1, np.int32), np.full((q, n), np.nan), np.zeros((q, n), np.bool_)
        )
    return ValuePredictions(np.full((q, n), np.nan))
