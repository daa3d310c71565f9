"""The kinds of findings, how each is found, and what is kept as its evidence."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.find.graph import SharedGraph
from nearsql.udfs import dbapi
from nearsql.udfs.finding_searches import refuse_inner_products, votes_on_label
from nearsql.udfs.findings.duplicates import NEIGHBORS, find_duplicates, near_lists, threshold_of
from nearsql.udfs.findings.leaks import find_leaks
from nearsql.udfs.findings.outliers import find_outliers
from nearsql.udfs.findings.thresholds import OUTLIER_Z, modified_z_scores, outlying_value
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.item_values import Values, collections, label_values, same_content
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.sql_files import read_sql

# Neighbours that an outlier's evidence names, at most.
_SHOWN = 5


class Finding(NamedTuple):
    """One row of `findings`. score: the higher, the surer, among those of its kind."""

    kind: str
    item_id: int
    other_item_id: int | None
    score: float
    evidence_json: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What is looked for, and how: the parameters that a run records, None where no kind needs them."""

    space: str  # as it was called then
    kinds: tuple[str, ...]
    k: int | None
    threshold: float | None  # None: chosen from the data
    label: str | None
    split: str | None  # None: leaks are between collections
    weighting: str | None
    temperature: float | None
    clustering: int | None  # the run whose outlier scores are looked at


@dataclass(slots=True)
class Found:
    """What came out. thresholds: from where on something is a finding, by name, for the record; None
    where it is undefined, and `reasons` says why."""

    findings: list[Finding] = field(default_factory=list)
    thresholds: dict[str, float | None] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def find_all(
    db: dbapi.Connection, matrix: Matrix, settings: Settings, graph: SharedGraph, poll: Poll
) -> Found:
    """The findings of all kinds that the settings name, by kind and then the surest first."""
    if set(settings.kinds) & {"duplicates", "outliers", "leaks"}:
        refuse_inner_products(matrix)
    search = _Search(db, matrix, settings, graph, poll, Found())
    for kind in settings.kinds:
        found = KINDS[kind](search)
        found.sort(key=lambda finding: (-finding.score, finding.item_id))
        search.found.findings.extend(found)
    return search.found


@dataclass(frozen=True, slots=True)
class _Search:
    db: dbapi.Connection
    matrix: Matrix
    settings: Settings
    graph: SharedGraph
    poll: Poll
    found: Found

    def evidence(self, **facts: Any) -> str:
        """What was compared, and what came of it, as it is stored."""
        compared = {"space": self.settings.space, "metric": self.matrix.space.metric}
        return json.dumps(compared | facts, allow_nan=False)

    def near(self) -> float:
        """The threshold of near-duplicates."""
        limit = self.settings.threshold
        if limit is None:
            lists = near_lists(self.matrix, self.graph(self.matrix, NEIGHBORS))
            limit = threshold_of(lists)
        self.found.thresholds["near"] = limit
        return limit

    def labels(self) -> Values | None:
        """The label that was named, to be shown with neighbours."""
        label = self.settings.label
        return None if label is None else label_values(self.db.apsw, self.matrix, label)


def _closeness(distance: float, threshold: float, is_exact: bool) -> float:
    """1 for the same, 0 for what is just within the threshold."""
    return 1.0 if is_exact or not threshold else 1 - distance / threshold


def _duplicates(search: _Search) -> list[Finding]:
    """A finding for each item of a group but its first: beside which one it is one too many."""
    matrix, limit = search.matrix, search.near()
    lists = near_lists(matrix, search.graph(matrix, NEIGHBORS))
    same = same_content(search.db.apsw, matrix)
    found = find_duplicates(matrix, limit, lists, search.poll, same=same)
    sizes = np.bincount(found.groups, minlength=len(found.groups))
    findings = []
    for row in np.flatnonzero(found.groups != np.arange(len(found.groups))).tolist():
        other, group, distance = found.others[row], found.groups[row], float(found.distances[row])
        is_exact = bool(same[row] == same[other])
        evidence = search.evidence(
            distance=distance,
            threshold=limit,
            is_exact=is_exact,
            group=int(matrix.ids[group]),
            group_size=int(sizes[group]),
        )
        score = _closeness(distance, limit, is_exact)
        ids = int(matrix.ids[row]), int(matrix.ids[other])
        findings.append(Finding("duplicate", *ids, score, evidence))
    return findings


def _leaks(search: _Search) -> list[Finding]:
    """A finding for each pair, once."""
    matrix, limit, split = search.matrix, search.near(), search.settings.split
    db = search.db.apsw
    values = collections(db, matrix) if split is None else label_values(db, matrix, split)
    same = same_content(db, matrix)
    graph = search.graph(matrix, NEIGHBORS)
    found = find_leaks(matrix, values.codes, limit, graph, search.poll, same=same)
    findings, pairs = [], set()
    for row, other, distance in zip(
        found.rows.tolist(), found.others.tolist(), found.distances.tolist(), strict=True
    ):
        if (other, row) in pairs:
            continue
        pairs.add((row, other))
        is_exact = bool(same[row] == same[other])
        evidence = search.evidence(
            distance=distance,
            threshold=limit,
            is_exact=is_exact,
            label=split,
            value=values.of(row),
            other_value=values.of(other),
        )
        score = _closeness(distance, limit, is_exact)
        ids = int(matrix.ids[row]), int(matrix.ids[other])
        findings.append(Finding("leak", *ids, score, evidence))
    return findings


def _outliers(search: _Search) -> list[Finding]:
    matrix, k = search.matrix, search.settings.k
    assert k is not None
    places, distances = search.graph(matrix, k)
    found = find_outliers(distances)
    search.found.thresholds["outlier"] = found.threshold
    if found.threshold is None:
        search.found.reasons.append(
            f"outliers: half of the items are equally far from neighbour {k}, or there are none, so that "
            "no distance is unusual; another -k may tell"
        )
        return []
    labels = search.labels()
    findings = []
    for row in np.flatnonzero(np.nan_to_num(found.scores, nan=0.0) > OUTLIER_Z).tolist():
        evidence = search.evidence(
            k=distances.shape[1],
            distance=float(found.distances[row]),
            threshold=found.threshold,
            z_score=float(found.scores[row]),
            z_threshold=OUTLIER_Z,
            neighbors=_neighbors(matrix, places[row, :_SHOWN], distances[row, :_SHOWN], labels),
        )
        score = float(found.scores[row])
        findings.append(Finding("outlier", int(matrix.ids[row]), None, score, evidence))
    return findings


def _label_errors(search: _Search) -> list[Finding]:
    settings = search.settings
    label, k, weighting = settings.label, settings.k, settings.weighting
    assert label is not None
    assert k is not None
    assert weighting is not None
    heat = settings.temperature or 1.0  # which only softmax looks at
    votes = votes_on_label(search.db.apsw, search.matrix, label, k, weighting, heat, search.graph)
    errors, names = votes.errors, votes.values.names
    n = errors.count
    search.found.thresholds["label_error"] = float(errors.confidence[n - 1]) if n else None
    if not n:
        search.found.reasons.append(
            "label_errors: confident learning estimates that no label is wrong; "
            "`select * from label_errors(...)` ranks those that neighbours disagree with all the same"
        )
    findings = []
    for i, row in enumerate(errors.rows[:n].tolist()):
        neighbors = _neighbors(votes.matrix, votes.places[row], votes.distances[row], votes.values)
        evidence = search.evidence(
            label=label,
            given=votes.values.of(row),
            suggested=names[errors.suggested[i]],
            confidence=float(errors.confidence[i]),
            usual_share_of_given=float(errors.own_usual[i]),
            usual_share_of_suggested=float(errors.suggested_usual[i]),
            threshold=search.found.thresholds["label_error"],
            k=votes.places.shape[1],
            weighting=weighting,
            neighbors=neighbors,
        )
        item, score = int(votes.matrix.ids[row]), float(errors.confidence[i])
        findings.append(Finding("label_error", item, None, score, evidence))
    return findings


def _cluster_outliers(search: _Search) -> list[Finding]:
    """By HDBSCAN's outlier score, GLOSH: 1 - (the least core distance of the item's cluster / its own).

    So -log(1 - score) is the logarithm of a ratio of distances, and the threshold is chosen as for
    outliers by distance (Campello et al. 2015, "Hierarchical Density Estimates for Data Clustering,
    Visualization, and Outlier Detection").
    """
    run = search.settings.clustering
    rows = search.db.execute(read_sql(__package__, "outlier_scores"), {"run": run}).fetchall()
    there = set(search.matrix.ids.tolist())
    rows = [row for row in rows if row[0] in there]
    scores = np.clip(np.array([score for _, score, _ in rows], np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore"):
        ratios = -np.log1p(-scores)
    limit = outlying_value(ratios)
    threshold = None if limit is None else float(-np.expm1(-limit))
    search.found.thresholds["cluster_outlier"] = threshold
    if threshold is None:
        search.found.reasons.append(
            f"cluster_outliers: half of the outlier scores of run {run} are the same, or it has none, so "
            "that none is unusual"
        )
        return []
    findings = []
    for (item, score, cluster), z_score in zip(
        rows, modified_z_scores(ratios).tolist(), strict=True
    ):
        if z_score > OUTLIER_Z:
            evidence = search.evidence(
                run=run,
                outlier_score=score,
                threshold=threshold,
                z_score=z_score,
                z_threshold=OUTLIER_Z,
                cluster=cluster,
            )
            findings.append(Finding("cluster_outlier", item, None, float(score), evidence))
    return findings


def _neighbors(
    matrix: Matrix, places: Any, distances: Any, labels: Values | None
) -> list[dict[str, Any]]:
    """Neighbours with their distances and, where a label was named, what they have of it."""
    return [
        {"id": int(matrix.ids[place]), "distance": distance}
        | ({} if labels is None else {"label": labels.of(place)})
        for place, distance in zip(places.tolist(), distances.tolist(), strict=True)
    ]


KINDS: dict[str, Callable[[_Search], list[Finding]]] = {
    "duplicates": _duplicates,
    "outliers": _outliers,
    "label_errors": _label_errors,
    "leaks": _leaks,
    "cluster_outliers": _cluster_outliers,
}


def known_kinds(kinds: Sequence[str]) -> None:
    """Raises UserError for one that is none."""
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"there is no kind {kind!r} of findings: they are {', '.join(KINDS)}")
