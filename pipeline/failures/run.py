"""`nearsql failures`: where a detector fails, as findings that a run stores with their evidence.

    result = failures(db)                       # of the newest detector
    result.mistakes.table                       # by class and size

Everything is computed from what `nearsql detect` has stored, with no transaction open, and written in one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.failures.clusters import (
    cluster_and_name,
    columns_of,
    failure_clusters,
    metric_space,
)
from nearsql.pipeline.failures.compute import (
    Mistakes,
    find_mistakes,
    lonely_failures,
    losses_by_component,
    worst_losses,
)
from nearsql.pipeline.failures.findings import KIND, Finding, rows, write_findings
from nearsql.pipeline.failures.judged import (
    METRICS,
    Detector,
    Judged,
    detector_of_runs,
    find_detector,
    judged_images,
)
from nearsql.pipeline.failures.lonely import Lonely
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import refuse_if_changed, space_read_by
from nearsql.pipeline.runs import RunInput, immediate, run, run_input, space_input
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class FailuresResult:
    """What was found, and the run that stored it.

    space: whose neighbours images were compared with; None when there is no such space, and then lonely is
    None, too. cluster_run: None unless clusters were asked for. counts: judged, left_out (images whose
    annotations have changed since), findings of each kind, decided (findings that a person has decided
    about before).
    """

    run_id: int
    detector: Detector
    findings: list[Finding]
    mistakes: Mistakes
    lonely: Lonely | None
    space: str | None
    cluster_run: int | None
    counts: Mapping[str, int | float] = field(default_factory=dict)

    def of_kind(self, kind: str) -> list[Finding]:
        """The findings of a kind, the worst first."""
        found = [each for each in self.findings if each.kind == kind]
        return sorted(found, key=lambda each: (-each.score, each.item_id))


@dataclass(frozen=True, slots=True)
class _Found:
    findings: list[Finding]
    mistakes: Mistakes
    lonely: Lonely | None


def failures(
    db: dbapi.Connection,
    detector_run: int | None = None,
    *,
    worst: int = 10,
    space: str | None = None,
    metric: str = "mean_iou_gt",
    k: int = 10,
    cluster: bool = False,
    min_cluster_size: int = 4,
    quiet: bool = True,
) -> FailuresResult:
    """Finds and stores where a detector fails, over all images whose ground truth is that it was measured by.

    detector_run: a run of `nearsql detect`, which stands for all of the same model and settings; default, the
    newest with ground truth. worst: how many images of each loss. space: where images are compared with
    their k neighbours by the metric; default, MODEL/gap/p5 where there is one. cluster: cluster the space
    MODEL/metrics, and name its clusters. A person's decisions about earlier findings are carried over.

    Raises LookupError for a run or space that is not there, UserError for what cannot be judged, or when
    annotations or vectors change meanwhile.
    """
    if metric not in METRICS:
        raise UserError(f"--metric must be one of {', '.join(METRICS)}, not {metric!r}")
    if worst < 1 or k < 1:
        raise UserError(f"--worst and -k must be at least 1, not {worst} and {k}")
    detector = find_detector(db, detector_run)
    judged = judged_images(db, detector.runs)
    if not judged.images:
        raise UserError(_nothing_judged(detector, judged))
    source = _space(db, detector, space)
    cluster_run = label_run = None
    if cluster:
        metrics = metric_space(db, detector)
        cluster_run, label_run = cluster_and_name(db, metrics, min_cluster_size, quiet)
    name = source.name if source else None
    parameters: dict[str, Any] = {
        "detector_runs": list(detector.runs),
        "worst": worst,
        "space": name,
        "metric": metric if source else None,
        "k": k if source else None,
        "cluster_run": cluster_run,
        "label_run": label_run,
        "truth_sha256": judged.truth_sha256,
    }
    inputs = [run_input(db, each) for each in (*detector.runs, cluster_run, label_run) if each]
    if source:
        inputs.append(source)
    with run(
        db, KIND, parameters=parameters, model_id=_model(db, detector), inputs=inputs
    ) as current:
        with current.timed("compute"):
            found = _find(db, detector, judged, parameters, name, quiet=quiet)
        stored = rows(found.findings)
        current.result_sha256 = hash_rows([*stored, *_measures(found)])
        current.counts |= {"judged": len(judged.images), "left_out": judged.left_out}
        current.counts |= _counts(found)
        with immediate(db):
            if judged_images(db, detector.runs).truth_sha256 != judged.truth_sha256:
                raise UserError(
                    "annotations changed during this run: nothing was written, run it again"
                )
            if source:
                refuse_if_changed(db, source)
            with current.timed("write"):
                current.counts["decided"] = write_findings(db, current.id, found.findings)
            current.finish()
    return FailuresResult(
        current.id,
        detector,
        found.findings,
        found.mistakes,
        found.lonely,
        name,
        cluster_run,
        dict(current.counts),
    )


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's findings, found anew. Raises CannotReplay when what it looked at is gone or has changed."""
    parameters = recorded.parameters
    try:
        detector = detector_of_runs(db, parameters["detector_runs"])
    except (LookupError, UserError) as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    judged = judged_images(db, detector.runs)
    if judged.truth_sha256 != parameters["truth_sha256"]:
        raise CannotReplay(
            f"run {recorded.id} looked at images that have been deleted or annotated anew since"
        )
    space = None if parameters["space"] is None else space_read_by(db, recorded)
    found = _find(db, detector, judged, parameters, space, quiet=True)
    stored = db.execute(
        "select kind, item_id, score, evidence_json from findings where run_id = ?"
        " order by kind, item_id",
        (recorded.id,),
    )
    columns = ("kind", "item_id", "score", "evidence_json")
    again = _measures(found)
    (counts,) = db.execute("select counts_json from runs where id = ?", (recorded.id,)).fetchone()
    counted = json.loads(counts)
    measured = [(name, counted[name]) for name, _ in again if name in counted]
    return Again(
        [
            ResultTable("findings", columns, 2, stored, rows(found.findings)),
            ResultTable("runs.counts_json", ("name", "value"), 1, measured, again),
        ]
    )


def _find(
    db: dbapi.Connection,
    detector: Detector,
    judged: Judged,
    parameters: Mapping[str, Any],
    space: str | None,
    *,
    quiet: bool,
) -> _Found:
    """All that a run of these parameters finds. space: the present name of parameters["space"]."""
    losses = losses_by_component(db, judged.images)
    findings = worst_losses(judged.images, losses, parameters["worst"])
    mistakes = find_mistakes(db, detector, judged.images, quiet=quiet)
    findings += mistakes.findings
    lonely = None
    if space is not None:
        metric, k, called = (parameters[name] for name in ("metric", "k", "space"))
        lonely, alone = lonely_failures(db, judged.images, space, metric, k, called=called)
        findings += alone
    if parameters["cluster_run"] is not None:
        columns = columns_of(judged.images, losses)
        findings += failure_clusters(
            db, columns, parameters["cluster_run"], parameters["label_run"]
        )
    return _Found(findings, mistakes, lonely)


def _space(db: dbapi.Connection, detector: Detector, name: str | None) -> RunInput | None:
    """The space to look for neighbours in."""
    if name is not None:
        return space_input(db, name)
    usual = f"{detector.model}/gap/p5"
    try:
        return space_input(db, usual)
    except LookupError:
        say(f"images are not compared with their neighbours: there is no space {usual!r}")
        return None


def _model(db: dbapi.Connection, detector: Detector) -> int:
    (model_id,) = db.execute("select id from models where name = ?", (detector.model,)).fetchone()
    return int(model_id)


def _counts(found: _Found) -> dict[str, int | float]:
    counts: dict[str, int | float] = {}
    for each in found.findings:
        kind, _, _ = each.kind.partition(":")
        counts[kind] = counts.get(kind, 0) + 1
    counts["missed_objects"] = sum(found.mistakes.why_missed.values())
    counts["false_alarms"] = sum(found.mistakes.why_false.values())
    return counts | dict(_measures(found))


def _measures(found: _Found) -> list[tuple[str, int | float]]:
    """How all images stand to their neighbours, by name: part of the result, also when none fails alone."""
    if found.lonely is None:
        return []
    values = {
        "compared": len(found.lonely.compared),
        "lonely_high": found.lonely.high,
        "lonely_low": found.lonely.low,
        "neighbor_r2": found.lonely.r2,
    }
    return [(name, round(value, 6)) for name, value in values.items() if value is not None]


def _nothing_judged(detector: Detector, judged: Judged) -> str:
    runs = ", ".join(map(str, detector.runs))
    if judged.left_out:
        return (
            f"the annotations of all {judged.left_out:,} images that run {runs} judged have changed since:"
            " run `nearsql detect` again"
        )
    return (
        f"run {runs} judged no image by its ground truth: give images annotations"
        " (`nearsql ingest --annotations`), then run `nearsql detect` again"
    )
