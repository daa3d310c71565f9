"""Images that fail alone: those like them, in a space of the detector's features, do well.

What is expected of an image is the mean of its k nearest neighbours, itself not among them: kNN regression,
left one out. An image fails alone when its value lies in the lowest quarter of all values, and what is
expected of it in the highest quarter of all that are expected. Were the two independent, a sixteenth of the
images would; how many that is stands beside how many do.
"""

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearsql.udfs import dbapi

# Of fewer images quartiles say nothing.
FEWEST_IMAGES = 8


@dataclass(frozen=True, slots=True)
class Compared:
    """An image beside its neighbours. neighbours: (item, distance, value), nearest first."""

    item_id: int
    value: float
    expected: float
    neighbours: list[tuple[int, float, float]]

    @property
    def difference(self) -> float:
        """Below 0 when it is worse than its neighbours."""
        return self.value - self.expected


@dataclass(frozen=True, slots=True)
class Lonely:
    """Every image beside its neighbours.

    low: the first quartile of the values; high: the third quartile of what is expected (both by linear
    interpolation); None of too few images. r2: of the values, as the neighbours foretell them: the share of
    their variance that the features explain. Below 0 the mean of all would foretell better; None where all
    values are the same.
    """

    compared: list[Compared]
    low: float | None
    high: float | None
    r2: float | None

    @property
    def failures(self) -> list[Compared]:
        """The images that fail alone, those furthest below their neighbours first."""
        found = [each for each in self.compared if self._is_low(each) and self._is_high(each)]
        return sorted(found, key=lambda each: (each.difference, each.item_id))

    @property
    def by_chance(self) -> float:
        """How many images would fail alone if neighbours told nothing."""
        low = sum(map(self._is_low, self.compared))
        high = sum(map(self._is_high, self.compared))
        return low * high / len(self.compared) if self.compared else 0.0

    def _is_low(self, each: Compared) -> bool:
        return self.low is not None and each.value < self.low

    def _is_high(self, each: Compared) -> bool:
        return self.high is not None and each.expected > self.high


def compare_with_neighbours(
    db: dbapi.Connection, space: str, values: Mapping[int, float], k: int
) -> Lonely:
    """Each item beside the k nearest in the space among those that have a value, as vote_value would.

    Items without a vector in the space are left out.
    """
    rows = db.execute(
        "select id, neighbor_id, distance from knn_graph(?, ?, ?)",
        (space, k, json.dumps(sorted(values))),
    )
    compared = []
    for item, of_item in itertools.groupby(rows, key=lambda row: row[0]):
        neighbours = [(other, distance, values[other]) for _, other, distance in of_item]
        expected = math.fsum(value for *_, value in neighbours) / len(neighbours)
        compared.append(Compared(item, values[item], expected, neighbours))
    low = high = None
    if len(compared) >= FEWEST_IMAGES:
        low = float(np.quantile([each.value for each in compared], 0.25))
        high = float(np.quantile([each.expected for each in compared], 0.75))
    return Lonely(compared, low, high, _r2(compared))


def _r2(compared: list[Compared]) -> float | None:
    if not compared:
        return None
    mean = math.fsum(each.value for each in compared) / len(compared)
    spread = math.fsum((each.value - mean) ** 2 for each in compared)
    if spread == 0:
        return None
    return 1 - math.fsum(each.difference**2 for each in compared) / spread
