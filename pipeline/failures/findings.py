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

    What a person decided about the same finding of the same detector is carried over.
    """
    db.executemany(
        "insert into findings (run_id, kind, item_id, score, evidence_json) values (?, ?, ?, ?, ?)",
        [(run_id, *row) for row in rows(findings)],
    )
    db.execute(read_sql(__package__, "carry_decisions"), {"run": run_id})
    (decided,) = db.execute(
        "select count(*) from findings where run_id = ? and decision is not null", (run_id,)
    ).fetchone()
    return int(decided)
