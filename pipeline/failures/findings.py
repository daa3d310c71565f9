"""Findings about single images: rows with their evidence, and what a person has said of them before."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

KIND = "failures"  # of the run

WORST_LOSS = "worst_loss:"  # and the component
MISS = "miss"
FALSE_ALARM = "false_alarm"
LONELY = "lonely_failure"
CLUSTER = "failure_cluster"


class Finding(NamedTuple):
    """One row of `findings`. score: the higher, the worse, among those of its kind."""

    kind: str
    item_id: int
    score: float
    evidence: dict[str, Any]

    @property
    def evidence_json(self) -> str:
        """As it is stored, and hashed."""
        return json.dumps(self.evidence, sort_keys=True, allow_nan=False)


def rows(findings: Iterable[Finding]) -> list[tuple[Any, ...]]:
    """As they are stored and hashed, by kind and item. Decisions are a person's, and no part of a result."""
    found = [(e.kind, e.item_id, float(e.score), e.evidence_json) for e in findings]
    return sorted(found, key=lambda row: row[:2])


def write_findings(db: dbapi.Connection, run_id: int, findings: Sequence[Finding]) -> int:
    """Writes a run's findings in the caller's transaction; gives how many bear a decision.

    What a person decided last about the same finding of the same detector is carried over. The mistakes in an
    image must be the same: who dismissed two was not asked about a third.
    """
    decided = {}
    before = db.execute(read_sql(__package__, "decided_before"), {"run": run_id})
    for kind, item, evidence, *decision in before:
        decided[kind, item, _claim(json.loads(evidence))] = decision
    found = [
        (run_id, *row, *decided.get((row[0], row[1], _claim(json.loads(row[3]))), (None, None)))
        for row in rows(findings)
    ]
    db.executemany(
        "insert into findings (run_id, kind, item_id, score, evidence_json, decision, decided_at)"
        " values (?, ?, ?, ?, ?, ?, ?)",
        found,
    )
    return sum(decision is not None for *_, decision, _ in found)


def _claim(evidence: Any) -> str:
    """What a finding says of its item, whichever run has said it: the ids of predictions differ by run."""
    if not isinstance(evidence, dict):
        return ""  # no evidence of ours
    mistakes = {}
    for name in ("misses", "alarms"):
        told = evidence.get(name)
        mistakes[name] = [
            [each.get(key) for key in ("class", "area", "why")]
            for each in (told if isinstance(told, list) else [])
            if isinstance(each, dict)
        ]
    place = {name: evidence.get(name) for name in ("metric", "space", "items")}
    return json.dumps({**mistakes, **place}, sort_keys=True)
