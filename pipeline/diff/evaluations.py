"""Two evaluations, or two spaces, ks or weightings of one: which predicts better, and which items flipped."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

from nearsql.pipeline.console import command_line
from nearsql.pipeline.diff.compared import Asked, Rows, fetched
from nearsql.pipeline.diff.records import Record, differences
from nearsql.udfs import dbapi
from nearsql.udfs.evaluation_diff import Agreement, agreement
from nearsql.udfs.evaluation_settings import (
    Evaluation,
    Setting,
    Wanted,
    compared_settings,
    only_one,
    read_evaluation,
)
from nearsql.udfs.sql_files import read_sql

_TESTS = {
    "accuracy": "McNemar's, exact",
    "mae": "Wilcoxon's signed-rank, of the absolute errors",
}
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class EvaluationDiff:
    """Two evaluations by pairs of their settings. found: how each pair of them agrees."""

    a: Record
    b: Record
    evaluations: tuple[Evaluation, Evaluation]
    pairs: Sequence[tuple[Setting, Setting]]
    found: Sequence[Agreement]

    dull: ClassVar[Mapping[str, str | None]] = {
        "space_b": "space_a",
        "k_b": "k_a",
        "weighting_b": "weighting_a",
        "reason": None,
        "score_a": None,
        "score_b": None,
        "uri": None,
        "text": None,
    }

    @property
    def title(self) -> str:
        if self.a.id == self.b.id:
            return f"run {self.a.id} and itself"
        return f"run {self.a.id} and run {self.b.id}"

    def rows(self, db: dbapi.Connection) -> Rows:
        """A row for each pair of settings: evaluation_agreement's."""
        return [field.name for field in fields(Agreement)], map(astuple, self.found)

    def items(self, db: dbapi.Connection) -> Rows:
        """A row for each item predicted differently: evaluation_diff's, with what the item is.

        Of labels those that the second lost come first; of numbers those whose error changed most.
        """
        pair = only_one(*self.evaluations, list(self.pairs))
        return fetched(db.execute(read_sql(__package__, "predictions"), self._arguments(pair)))

    def facts(self, db: dbapi.Connection) -> dict[str, Any]:
        ids = (one.space_id for one in self.pairs[0])
        arguments = self._arguments(self.pairs[0])
        arguments |= dict(zip(("space_id_a", "space_id_b"), ids, strict=True))
        n_a, n_b, both, relabelled, folds = db.execute(
            read_sql(__package__, "predicted"), arguments
        ).fetchone()
        facts: dict[str, Any] = {
            "predicted": self.evaluations[0].predicted,
            "items in both": both,
        }
        for n, run in ((n_a, self.a.id), (n_b, self.b.id)):
            if n > both:
                facts[f"only in {run}"] = n - both
        if relabelled:
            facts["relabelled"] = f"{relabelled:,}, which are left out"
        if folds:
            facts["in other folds"] = f"{folds:,}, so that a part of the changes is chance"
        if len(self.found) > 1:
            facts["best"] = f"{self._best('a')} -> {self._best('b')}"
        facts["test"] = f"{_TESTS[self.found[0].metric]}: {self._significant()}"
        return facts | differences(self.a, self.b)

    def next_step(self, file: str, items: bool) -> str | None:
        differing = [one for one in self.found if one.gained or one.lost or one.other]
        if items or not differing:
            return None
        sign = 1 if differing[0].metric == "accuracy" else -1
        one = max(differing, key=lambda one: sign * (one.value_b or 0))
        words: list[object] = ["nearsql", "diff", file, self.a.id, self.b.id, "-k", one.k_a]
        if one.k_b != one.k_a:
            words += ["--k-b", one.k_b]
        words += ["--weighting", one.weighting_a]
        if one.weighting_b != one.weighting_a:
            words += ["--weighting-b", one.weighting_b]
        if one.space_b != one.space_a:
            words += ["--space", one.space_a, "--space-b", one.space_b]
        elif len({other.space_a for other in self.found}) > 1:
            words += ["--space", one.space_a]
        return command_line(*words, "--items")

    def _best(self, side: str) -> str:
        """The best setting of one of the runs, in words."""
        metric = self.found[0].metric
        sign = 1 if metric == "accuracy" else -1
        defined = [one for one in self.found if getattr(one, f"value_{side}") is not None]
        if not defined:
            return "none"
        best = max(defined, key=lambda one: sign * getattr(one, f"value_{side}"))
        space, k, weighting, value = (
            getattr(best, f"{name}_{side}") for name in ("space", "k", "weighting", "value")
        )
        return f"{metric} {value:.4g} ({space}, k = {k}, {weighting})"

    def _significant(self) -> str:
        values = [one.p_value for one in self.found if one.p_value is not None]
        if len(self.found) == 1:
            return f"p = {values[0]:.3g}" if values else f"none, {self.found[0].reason}"
        few = sum(value < _SIGNIFICANT for value in values)
        return f"p < {_SIGNIFICANT} in {few:,} of {len(self.found):,} rows, each by itself"

    def _arguments(self, pair: tuple[Setting, Setting]) -> dict[str, int | str]:
        one, other = pair
        return {
            "run_a": self.a.id,
            "run_b": self.b.id,
            "k": one.k,
            "weighting": one.weighting,
            "space": one.space,
            "other_k": other.k,
            "other_weighting": other.weighting,
            "other_space": other.space,
        }


def compare(db: dbapi.Connection, a: Record, b: Record, asked: Asked) -> EvaluationDiff:
    """Compares the predictions of two evaluations that are asked for: by default those of every space, k
    and weighting that both have."""
    names = ("k", "k_b", "weighting", "weighting_b", "space", "space_b")
    asked.refuse_others("evaluations", names)
    one, other = read_evaluation(db.apsw, a.id), read_evaluation(db.apsw, b.id)
    wanted = Wanted(**{name: getattr(asked, name) for name in names})
    pairs = compared_settings(one, other, wanted)
    found = [agreement(db.apsw, one, other, pair) for pair in pairs]
    return EvaluationDiff(a, b, (one, other), pairs, found)
