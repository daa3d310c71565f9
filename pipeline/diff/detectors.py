"""Two detector runs: which metrics and losses got better, and which images regressed."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

from nearsql.pipeline.console import command_line
from nearsql.pipeline.diff.compared import Asked, Rows, fetched
from nearsql.pipeline.diff.records import Record, differences
from nearsql.udfs import dbapi
from nearsql.udfs.detector_diff import (
    LOSS,
    TOLERANCE,
    MetricAgreement,
    better,
    check_metric,
    check_runs,
    metric_agreement,
    metrics_of,
)
from nearsql.udfs.sql_files import read_sql

# What counts both the objects that are missed and how well the others are met.
_METRIC = "mean_iou_gt"
_WEIGHTS = "settings.checkpoint_sha256"


@dataclass(frozen=True, slots=True)
class DetectorDiff:
    """Two detector runs by their metrics and losses. metric: the one whose images are listed."""

    a: Record
    b: Record
    asked: Asked
    metric: str
    tolerance: float
    found: Sequence[MetricAgreement]

    dull: ClassVar[Mapping[str, str | None]] = {"reason": None, "uri": None}

    @property
    def title(self) -> str:
        return f"run {self.a.id} and run {self.b.id}"

    def rows(self, db: dbapi.Connection) -> Rows:
        """A row for each metric and component of the loss: detector_agreement's."""
        return [field.name for field in fields(MetricAgreement)], map(astuple, self.found)

    def items(self, db: dbapi.Connection) -> Rows:
        """A row for each image that changed by the metric, those that regressed most first."""
        arguments = {
            "run_a": self.a.id,
            "run_b": self.b.id,
            "metric": self.metric,
            "tolerance": self.tolerance,
            "better": better(self.metric),
        }
        return fetched(db.execute(read_sql(__package__, "images"), arguments))

    def facts(self, db: dbapi.Connection) -> dict[str, Any]:
        n_a, n_b, both, truth_changed = db.execute(
            read_sql(__package__, "judged"), {"run_a": self.a.id, "run_b": self.b.id}
        ).fetchone()
        facts: dict[str, Any] = {"images in both": both}
        for n, run in ((n_a, self.a.id), (n_b, self.b.id)):
            if n > both:
                facts[f"only in {run}"] = n - both
        if truth_changed:
            facts["ground truth"] = f"changed for {truth_changed:,}, which are left out"
        facts[self.metric] = self._change()
        facts["test"] = "Wilcoxon's signed-rank, of each metric by itself"
        changed = differences(self.a, self.b)
        # By its weights, where these are on record: a name may stand for other settings of the same.
        known = _WEIGHTS if _WEIGHTS in self.a.parameters else "model"
        if known in changed and any(one.metric.startswith(LOSS) for one in self.found):
            facts["losses"] = "of two models, which may not be on one scale"
        return facts | changed

    def next_step(self, file: str, items: bool) -> str | None:
        differing = [one for one in self.found if one.same < one.images]
        if items or not differing:
            return None
        names = [one.metric for one in differing]
        metric = self.metric if self.metric in names else names[0]
        words: list[object] = ["nearsql", "diff", file, self.a.id, self.b.id, "--metric", metric]
        if self.asked.tolerance is not None:
            words += ["--tolerance", self.asked.tolerance]
        return command_line(*words, "--items")

    def _change(self) -> str:
        """What became of the metric, in words."""
        for one in self.found:
            if one.metric == self.metric and one.images:
                said = f"{one.mean_a:.4g} -> {one.mean_b:.4g} over {one.images:,} images"
                if one.improved is not None:
                    said += f", {one.improved:,} improved, {one.regressed:,} regressed"
                return said if one.p_value is None else f"{said}, p = {one.p_value:.3g}"
        return "no image has a value in both runs from the same truth"


def compare(db: dbapi.Connection, a: Record, b: Record, asked: Asked) -> DetectorDiff:
    """Compares two detector runs by every metric that they have, or by the one that is asked for."""
    asked.refuse_others("detector runs", ("metric", "tolerance"))
    runs = a.id, b.id
    check_runs(db.apsw, *runs)
    tolerance = TOLERANCE if asked.tolerance is None else asked.tolerance
    if asked.metric is None:
        names = metrics_of(db.apsw, *runs)
    else:
        names = [check_metric(db.apsw, *runs, asked.metric)]
    found = [metric_agreement(db.apsw, *runs, name, tolerance) for name in names]
    return DetectorDiff(
        a,
        b,
        asked,
        asked.metric or _METRIC,
        tolerance,
        [one for one in found if one is not None],
    )
