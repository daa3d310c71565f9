"""`nearsql replay FILE RUN`: does a recorded run give the same result again?

Each pipeline module that can be replayed has `recompute(db, recorded)`: it computes the run's result
anew from what is recorded, writes nothing, and gives it as an `Again`, whose rows can be compared with
the stored ones; or, of a result without rows, only as its SHA-256.
"""

import importlib
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.result_tables import Again, Comparison, compare
from nearsql.pipeline.runs import immediate, run, run_input, this_process, versions
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError

# Which module recomputes which kind of run.
MODULES = {
    "ingest": "nearsql.pipeline.ingest",
    "annotate": "nearsql.pipeline.annotations",
    "import": "nearsql.pipeline.importing",
    "embed": "nearsql.pipeline.embed",
    "detect": "nearsql.pipeline.detect.replayed",
    "loss-distance": "nearsql.pipeline.loss_distance.run",
    "failures": "nearsql.pipeline.failures",
    "neighbors": "nearsql.pipeline.neighbors",
    "index": "nearsql.pipeline.index.make",
    "cluster": "nearsql.pipeline.cluster",
    "assign": "nearsql.pipeline.cluster.assign",
    "label": "nearsql.pipeline.label",
    "project": "nearsql.pipeline.project",
    "place": "nearsql.pipeline.place",
    "evaluate": "nearsql.pipeline.evaluate",
    "find": "nearsql.pipeline.find",
}


# Differences kept of each table, unless more are asked for.
FIRST = 10


class CannotReplay(Exception):
    """A run cannot be computed again; the sentence says why."""


class Recorded(dict[str, Any]):
    """A run's parameters as they are recorded: one that is needed and not there keeps it from a replay."""

    def __missing__(self, name: str) -> Any:
        raise CannotReplay(
            f"its record does not say {name!r}: an older nearsql, or not it, made it"
        )


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as the database remembers it. device: in words. process: host and process id."""

    id: int
    kind: str
    model_id: int | None
    parameters: dict[str, Any]
    seed: int | None
    versions: dict[str, str]
    status: str
    result_sha256: str | None
    device: str | None = None
    process: str | None = None

    @property
    def device_kind(self) -> str:
        """What the run computed on, as it is asked for: cpu, cuda, cuda:1, mps."""
        return (self.device or "cpu").partition(": ")[0]


@dataclass(frozen=True, slots=True)
class Change:
    """Something besides the parameters that a result may hang on, and that is no longer as it was."""

    what: str
    then: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """How a replay went: the run that records it, and what differs.

    is_same: the result came out as it was recorded. tables: how it stands to the rows that are stored
    now; they may have been changed since the run, whether or not it came out the same. changes: versions,
    machine and device.
    """

    run_id: int
    original_run_id: int
    is_same: bool
    expected_sha256: str
    actual_sha256: str
    changes: Sequence[Change]
    tables: Sequence[Comparison]

    @property
    def different_rows(self) -> int:
        """Rows, of all tables, that are not as they are stored."""
        return sum(table.different for table in self.tables)


def recorded_run(db: dbapi.Connection, run_id: int) -> RecordedRun:
    """Reads one run. Raises LookupError when there is none of that id."""
    row = db.execute(
        "select id, kind, model_id, parameters_json, seed, versions_json, status, result_sha256,"
        " device, process from runs where id = ?",
        (run_id,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run_id} in this database: see `nearsql runs`")
    run_id, kind, model_id, parameters, seed, recorded_versions, *others = row
    return RecordedRun(
        run_id,
        kind,
        model_id,
        Recorded(json.loads(parameters)),
        seed,
        json.loads(recorded_versions),
        *others,
    )


def replay(db: dbapi.Connection, run_id: int, *, first: int = FIRST) -> Replay:
    """Computes a run again and compares the result with the recorded one, and with what is stored.

    The replay is itself a run (kind `replay`, the original its parent). first: so many differences of
    each table are told one by one. Raises CannotReplay with the reason when the original did not finish,
    left no hash, or stands on inputs that have changed.
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
            result, actual, tables = _compared(db, original, first)
            if result.device != "cpu":
                with immediate(db):
                    db.execute(
                        "update runs set device = ? where id = ?", (result.device, current.id)
                    )
        is_same = actual == original.result_sha256
        current.result_sha256 = actual
        current.counts |= {
            "same": int(is_same),
            "rows": sum(table.rows for table in tables),
            "different_rows": sum(table.different for table in tables),
        }
    changes = _changes(original, result)
    return Replay(current.id, run_id, is_same, original.result_sha256, actual, changes, tables)


def _compared(
    db: dbapi.Connection, original: RecordedRun, first: int
) -> tuple[Again, str, list[Comparison]]:
    """The result computed anew, its SHA-256, and how it stands to what is stored. Raises CannotReplay."""
    try:
        result = importlib.import_module(MODULES[original.kind]).recompute(db, original)
        if isinstance(result, str):
            result = Again((), partial(str, result))
        return result, *compare(result, first)
    except ModuleNotFoundError as error:
        raise CannotReplay(
            f"run {original.id} needs {error.name}, which is not installed here"
        ) from error
    except (UserError, SqlFunctionError, dbapi.OperationalError) as error:
        # Through SQL, what a function refuses is an error of the statement.
        refused = error.__cause__ if isinstance(error, dbapi.OperationalError) else error
        if not isinstance(refused, UserError | SqlFunctionError):
            raise
        raise CannotReplay(f"run {original.id} would be refused now: {error}") from error


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
        # Runs that can be gone on with have it among their parameters, too.
        for key, pinned in (("generation", then), ("generation_token", then_token)):
            if original.parameters.get(key, pinned) != pinned:
                raise CannotReplay(
                    f"the record of run {original.id} contradicts itself: it read the space {name!r}"
                    f" at {key.replace('_', ' ')} {pinned}, and says {original.parameters[key]}"
                )


def _changes(original: RecordedRun, result: Again) -> list[Change]:
    """What is not as it was when the original ran: versions, machine, device, how it was computed."""
    then, now = original.versions, _versions_now(original.versions)
    found = [(name, then.get(name), now.get(name)) for name in sorted(then.keys() | now.keys())]
    found.append(("machine", _host(original.process), _host(this_process())))
    found.append(("device", original.device, result.device))
    recorded = original.parameters.get("computation", {})
    for name, value in sorted(result.computation.items()):
        if name != "device":  # said in words above
            found.append((name.replace("_", " "), recorded.get(name), value))
    return [Change(what, before, after) for what, before, after in found if before != after]


def _versions_now(names: Iterable[str]) -> dict[str, str]:
    """Those of the packages that are installed, and of what every run depends on."""
    now = versions()
    for name in names:
        if name not in now:
            with suppress(importlib.metadata.PackageNotFoundError, ValueError):
                now[name] = importlib.metadata.version(name)
    return now


def _host(process: str | None) -> str | None:
    return (process or "").rpartition(" ")[0] or None
