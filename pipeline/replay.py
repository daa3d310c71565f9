"""`nearsql replay FILE RUN`: does a recorded run give the same result again?

Each pipeline module that can be replayed has `recompute(db, recorded) -> str`: it computes the run's
result anew from what is recorded, writes nothing, and gives the result's SHA-256.
"""

import importlib
import json
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.runs import run, run_input, versions
from nearsql.udfs import dbapi

# Which module recomputes which kind of run.
MODULES = {
    "ingest": "nearsql.pipeline.ingest",
    "annotate": "nearsql.pipeline.annotations",
    "embed": "nearsql.pipeline.embed",
    "detect": "nearsql.pipeline.detect.run",
    "loss-distance": "nearsql.pipeline.loss_distance.run",
    "neighbors": "nearsql.pipeline.neighbors",
    "index": "nearsql.pipeline.index.make",
    "cluster": "nearsql.pipeline.cluster",
    "assign": "nearsql.pipeline.cluster.assign",
    "label": "nearsql.pipeline.label",
    "project": "nearsql.pipeline.project",
    "place": "nearsql.pipeline.place",
}


class CannotReplay(Exception):
    """A run cannot be computed again; the sentence says why."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as the database remembers it."""

    id: int
    kind: str
    model_id: int | None
    parameters: dict[str, Any]
    seed: int | None
    versions: dict[str, str]
    status: str
    result_sha256: str | None


@dataclass(frozen=True, slots=True)
class Replay:
    """How a replay went: the run that records it, and what differs."""

    run_id: int
    original_run_id: int
    is_same: bool
    expected_sha256: str
    actual_sha256: str
    version_changes: dict[str, tuple[str | None, str | None]]


def recorded_run(db: dbapi.Connection, run_id: int) -> RecordedRun:
    """Reads one run. Raises LookupError when there is none of that id."""
    row = db.execute(
        "select id, kind, model_id, parameters_json, seed, versions_json, status, result_sha256"
        " from runs where id = ?",
        (run_id,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run_id} in this database: see `nearsql runs`")
    run_id, kind, model_id, parameters, seed, recorded_versions, status, sha = row
    return RecordedRun(
        run_id,
        kind,
        model_id,
        json.loads(parameters),
        seed,
        json.loads(recorded_versions),
        status,
        sha,
    )


def replay(db: dbapi.Connection, run_id: int) -> Replay:
    """Computes a run again and compares the result with the recorded one.

    The replay is itself a run (kind `replay`, the original its parent). Raises CannotReplay with the
    reason when the original did not finish, left no hash, or stands on inputs that have changed.
    """
    original = recorded_run(db, run_id)
    if original.kind not in MODULES:
        raise CannotReplay(
            f"run {run_id} is of kind {original.kind!r}; what can be replayed is "
            + ", ".join(sorted(MODULES))
        )
    if original.status != "finished" or original.result_sha256 is None:
        raise CannotReplay(
            f"run {run_id} is {original.status} and has no complete result to compare with"
        )
    _refuse_changed_inputs(db, original)
    module = importlib.import_module(MODULES[original.kind])
    packages = [p for p in original.versions if p not in ("python", "sqlite", "platform")]
    with run(
        db,
        "replay",
        parameters={"run": run_id},
        seed=original.seed,
        model_id=original.model_id,
        parent_run_id=run_id,
        inputs=[run_input(db, run_id)],
    ) as current:
        with current.timed("recompute"):
            actual = module.recompute(db, original)
        current.result_sha256 = actual
        current.counts["same"] = int(actual == original.result_sha256)
    return Replay(
        current.id,
        run_id,
        actual == original.result_sha256,
        original.result_sha256,
        actual,
        _version_changes(original.versions, versions(packages)),
    )


def _refuse_changed_inputs(db: dbapi.Connection, original: RecordedRun) -> None:
    for name, space_id, then, then_token, now, now_token in db.execute(
        "select i.name, i.space_id, i.generation, i.generation_token,"
        " s.generation, s.generation_token"
        " from run_inputs i left join spaces s on s.id = i.space_id"
        " where i.run_id = ? and i.kind = 'space'",
        (original.id,),
    ):
        if space_id is None:
            raise CannotReplay(f"run {original.id} read the space {name!r}, which is deleted")
        if (then, then_token) != (now, now_token):
            raise CannotReplay(
                f"run {original.id} read the space {name!r} at generation {then}; "
                f"it is now at {now}: its vectors have changed"
            )


def _version_changes(
    then: dict[str, str], now: dict[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    names = sorted(then.keys() | now.keys())
    return {n: (then.get(n), now.get(n)) for n in names if then.get(n) != now.get(n)}
