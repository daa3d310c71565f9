"""Which of their predictions two evaluations are compared by: space, k and weighting of each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import apsw

from nearsql.udfs.arguments import optional_whole_number, shown
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.run_members import finished_run
from nearsql.udfs.sql_files import read_sql

KIND = "evaluate"


class Setting(NamedTuple):
    """What a run predicted by: it predicts every item once by each of its settings."""

    space_id: int
    space: str
    k: int
    weighting: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation. label: what it predicted is the value of that label, or else, when None,
    the number that `target` names. settings: as the run has them, by space, k and weighting."""

    run: int
    label: str | None
    target: str | None
    settings: list[Setting]

    @property
    def predicted(self) -> str:
        """For a sentence: what was predicted."""
        return f"label {self.label!r}" if self.label is not None else f"target {self.target!r}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings that somebody asks for; None is any. Those of run_b are those of run_a unless given."""

    k: int | None = None
    weighting: str | None = None
    space: str | None = None
    k_b: int | None = None
    weighting_b: str | None = None
    space_b: str | None = None

    @classmethod
    def checked(
        cls, k: Any, weighting: Any, space: Any, k_b: Any, weighting_b: Any, space_b: Any
    ) -> "Wanted":
        """As SQL hands them over. Raises SqlFunctionError for a k that is none, and for no text."""
        for name, value in (
            *(("weighting", weighting), ("space", space)),
            *(("weighting_b", weighting_b), ("space_b", space_b)),
        ):
            if value is not None and not isinstance(value, str):
                raise SqlFunctionError(f"{name} must be a text, not {shown(value)}")
        return cls(
            optional_whole_number("k", k, at_least=1),
            weighting,
            space,
            optional_whole_number("k_b", k_b, at_least=1),
            weighting_b,
            space_b,
        )


def read_evaluation(db: apsw.Connection, run: int) -> Evaluation:
    """A finished evaluation. Raises SqlFunctionError for a run that is none, or has no settings left."""
    parameters, _, _ = finished_run(
        db, run, KIND, called="evaluations", lacks="not all of its predictions"
    )
    rows = cast(Any, db.execute(read_sql(__package__, "evaluation_settings"), (run,)).fetchall())
    if not rows:
        raise SqlFunctionError(f"the spaces that run {run} evaluated are deleted")
    return Evaluation(
        run, parameters.get("label"), parameters.get("target"), [Setting(*row) for row in rows]
    )


def compared_settings(
    a: Evaluation, b: Evaluation, wanted: Wanted
) -> list[tuple[Setting, Setting]]:
    """The settings of both that are compared with each other.

    k and weighting are the same in both, unless the wanted ones differ. So are spaces; but where neither
    is asked for and that says nothing, since it is one run or there is no space that both evaluated, each
    space of the first is compared with each other one of the second.

    Raises SqlFunctionError when they predicted different things, and for settings that a run lacks.
    """
    if (a.label, a.target) != (b.label, b.target):
        raise SqlFunctionError(
            f"run {a.run} predicted {a.predicted}, and run {b.run} {b.predicted}: only predictions of"
            " the same can be compared"
        )
    of_a = _chosen(a, wanted.k, wanted.weighting, wanted.space)
    of_b = _chosen(
        b,
        wanted.k if wanted.k_b is None else wanted.k_b,
        wanted.weighting if wanted.weighting_b is None else wanted.weighting_b,
        wanted.space if wanted.space_b is None else wanted.space_b,
    )
    pairs = [
        (one, other)
        for one in of_a
        for other in of_b
        if (wanted.k_b is not None or one.k == other.k)
        and (wanted.weighting_b is not None or one.weighting == other.weighting)
    ]
    if wanted.space_b is None:
        is_one = a.run == b.run
        same = [
            (one, other)
            for one, other in pairs
            if one.space_id == other.space_id and not (is_one and one == other)
        ]
        # Of one run's spaces, each two once.
        pairs = same or [
            (one, other) for one, other in pairs if not is_one or one.space < other.space
        ]
    if not pairs:
        raise SqlFunctionError(_nothing_in_common(a, b))
    return pairs


def only_one(
    a: Evaluation, b: Evaluation, pairs: list[tuple[Setting, Setting]]
) -> tuple[Setting, Setting]:
    """The pair of settings, if it is one. Raises SqlFunctionError, naming what there is to choose from."""
    if len(pairs) == 1:
        return pairs[0]
    choices = [
        f"{name} ({', '.join(map(shown, values))})"
        for name, values in (
            ("k", _distinct(one.k for one, _ in pairs)),
            ("weighting", _distinct(one.weighting for one, _ in pairs)),
            ("space", _distinct(one.space for one, _ in pairs)),
            ("space_b", _distinct(other.space for _, other in pairs)),
        )
        if len(values) > 1
        and (name != "space_b" or any(one[0] != other[0] for one, other in pairs))
    ]
    raise SqlFunctionError(
        f"runs {a.run} and {b.run} can be compared by {len(pairs)} settings: say which "
        + ", ".join(choices)
    )


def _chosen(
    evaluation: Evaluation, k: int | None, weighting: str | None, space: str | None
) -> list[Setting]:
    """Its settings of that k, weighting and space."""
    found = evaluation.settings
    for name, value in (("space", space), ("k", k), ("weighting", weighting)):
        if value is None:
            continue
        there = _distinct(getattr(setting, name) for setting in found)
        found = [setting for setting in found if getattr(setting, name) == value]
        if not found:
            raise SqlFunctionError(
                f"run {evaluation.run} has no predictions by {name} {shown(value)}: it has them by "
                + ", ".join(map(shown, there))
            )
    return found


def _nothing_in_common(a: Evaluation, b: Evaluation) -> str:
    if a.run == b.run:
        return (
            f"run {a.run} has no other predictions to compare these with: name another k, weighting or"
            " space for the second"
        )
    return f"runs {a.run} and {b.run} have no k and weighting in common: name those of each by themselves"


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
