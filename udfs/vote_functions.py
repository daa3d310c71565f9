"""kNN classification and regression in SQL: the aggregates vote, vote_share and vote_value.

select vote(l.value, k.distance) from knn('clip', :vector, 10) k join item_labels l on l.item_id = k.id
"""

import math
from collections.abc import Sequence
from typing import Any

from nearsql.udfs.arguments import number, shown
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.evaluation_metrics import exact_sum

WEIGHTINGS = ("uniform", "distance", "softmax")


class _Votes:
    """The votes of one group: what each neighbour says, its distance, and its own weight if given."""

    def __init__(self) -> None:
        self.votes: list[tuple[Any, float, float]] = []
        self.weighting: str | None = None
        self.temperature = 0.0

    def add(self, vote: Any, distance: Any, weighting: Any, temperature: Any) -> None:
        """One row. A NULL does not vote."""
        if isinstance(weighting, int | float):
            own, weighting = (
                number("weighting, as the row's own weight,", weighting, at_least=0),
                "own",
            )
        elif weighting in WEIGHTINGS:
            own = 1.0
        else:
            raise SqlFunctionError(
                f"weighting must be {', '.join(WEIGHTINGS)} or a number, the row's own weight, "
                f"not {shown(weighting)}"
            )
        heat = number("temperature", temperature)
        if heat <= 0:
            raise SqlFunctionError(f"temperature must be above 0, not {shown(temperature)}")
        if self.weighting is None:
            self.weighting, self.temperature = weighting, heat
        elif (self.weighting, self.temperature) != (weighting, heat):
            raise SqlFunctionError("weighting and temperature must be the same for every row")
        if vote is None:
            return
        far = number("distance", distance)
        if weighting == "distance" and far < 0:
            raise SqlFunctionError(
                f"weighting 'distance' needs distances of at least 0, not {shown(distance)}: "
                "for negative ones (metric ip) use 'softmax'"
            )
        self.votes.append((vote, far, own))

    def weights(self) -> list[float]:
        """The weight of each vote, in order."""
        if self.weighting in WEIGHTINGS and self.weighting != "uniform":
            distances = [distance for _, distance, _ in self.votes]
            return vote_weights(distances, self.weighting, self.temperature)
        return [own for _, _, own in self.votes]


def vote_weights(distances: Sequence[float], weighting: str, temperature: float) -> list[float]:
    """What the votes of neighbours at these distances, in any order, weigh by one of WEIGHTINGS."""
    if weighting == "distance":
        inverse = [1 / distance if distance else math.inf for distance in distances]
        if math.inf in inverse:  # as scikit-learn: an exact match leaves nothing to the others
            return [float(weight == math.inf) for weight in inverse]
        return inverse
    if weighting == "softmax":
        # Relative to the nearest, so that no power of e underflows for all of them.
        nearest = min(distances, default=0.0)
        return [math.exp((nearest - distance) / temperature) for distance in distances]
    return [1.0] * len(distances)


class _Classification(_Votes):
    """Votes for labels."""

    def winner(self) -> tuple[Any, float] | None:
        """(label, its share of all weight); None without a vote of any weight."""
        weights: dict[Any, list[float]] = {}
        nearest: dict[Any, float] = {}
        for (label, distance, _), weight in zip(self.votes, self.weights(), strict=True):
            weights.setdefault(label, []).append(weight)
            nearest[label] = min(distance, nearest.get(label, math.inf))
        # Summed without rounding, so that equal votes are equal in whatever order the rows came.
        sums = {label: exact_sum(w) for label, w in weights.items()}
        total = exact_sum(sums.values())
        if total == 0:
            return None
        label = min(sums, key=lambda one: (-sums[one], nearest[one], _label_order(one)))
        return label, sums[label] / total


def _label_order(label: Any) -> tuple[int, Any]:
    """SQLite's order of values: numbers, then texts, then BLOBs."""
    if isinstance(label, int | float):
        return 0, label
    return (1, label.encode()) if isinstance(label, str) else (2, label)


@sql_function(
    kind="aggregate",
    example=(
        "select vote(column1, column2, 'distance') from (values ('cat', 0.1), ('dog', 0.3), ('dog', 0.4))"
    ),
)
class Vote(_Classification):
    """kNN classification: the label with the most weight among neighbours. NULL labels do not vote.

    weighting: 'uniform'; 'distance' (1 / distance; neighbours at distance 0 take all, as in scikit-learn);
    'softmax' (exp(-distance / temperature), the rule of DINO for cosine distances, temperature 0.07);
    or a number, the row's own weight. A tie goes to the label of the nearest neighbour, then to the label
    that sorts first. NULL without a vote.
    """

    def step(
        self,
        label: str | float | bytes | None,
        distance: float,
        weighting: str | float = "uniform",
        temperature: float = 0.07,
    ) -> None:
        """One neighbour."""
        self.add(label, distance, weighting, temperature)

    def final(self) -> Any:
        """The winning label."""
        winner = self.winner()
        return None if winner is None else winner[0]


@sql_function(
    kind="aggregate",
    example="select vote_share(column1, column2) from (values ('cat', 0.1), ('dog', 0.3), ('dog', 0.4))",
)
class VoteShare(_Classification):
    """How sure `vote` is, from 0 to 1: the winning label's share of the weight. NULL without a vote."""

    def step(
        self,
        label: str | float | bytes | None,
        distance: float,
        weighting: str | float = "uniform",
        temperature: float = 0.07,
    ) -> None:
        """One neighbour."""
        self.add(label, distance, weighting, temperature)

    def final(self) -> float | None:
        """The winner's share."""
        winner = self.winner()
        return None if winner is None else winner[1]


@sql_function(
    kind="aggregate",
    example="select vote_value(column1, column2, 'distance') from (values (10, 0.1), (20, 0.3))",
)
class VoteValue(_Votes):
    """kNN regression: the mean of the neighbours' values, weighted as in `vote`. NULLs do not count."""

    def step(
        self,
        value: float | None,
        distance: float,
        weighting: str | float = "uniform",
        temperature: float = 0.07,
    ) -> None:
        """One neighbour."""
        if value is not None:
            number("value", value)
        self.add(value, distance, weighting, temperature)

    def final(self) -> float | None:
        """The weighted mean."""
        weights = self.weights()
        total = exact_sum(weights)
        if total == 0:
            return None
        values = (weight * vote for (vote, _, _), weight in zip(self.votes, weights, strict=True))
        return exact_sum(values) / total
