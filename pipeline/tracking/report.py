"""What a tracker is told of a run: all of it is read from the file, after the run has ended."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.output import column_names
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Kinds of runs whose results are metrics by themselves; of all others the counts are told.
_WITH_METRICS = ("detect", "evaluate", "loss-distance")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a run. step: what it belongs to on a curve, an evaluation's k; None: there is no curve."""

    name: str
    value: float
    step: int | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run as a tracker is told of it.

    title: the file's name, the run's kind and number. project: the file's name without its ending. tags:
    what the run is known by; record: the whole of it, as JSON values. Times are in milliseconds since 1970.
    """

    run_id: int
    kind: str
    title: str
    project: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    record: Mapping[str, Any]
    started_ms: int
    finished_ms: int
    metrics: tuple[Metric, ...] = field(default_factory=tuple)


def read_report(db: dbapi.Connection, file: str, run_id: int) -> RunReport:
    """Reads what is told of a run of this file.

    Of the file only its name is told, not where it lies; paths that the run was given, of weights say, are
    among its parameters. Raises LookupError when the run is not there, UserError when it has not finished or
    its record is damaged.
    """
    cursor = db.execute(read_sql(__package__, "record"), {"run": run_id})
    names = column_names(cursor)
    row = cursor.fetchone()
    if row is None:
        raise LookupError(f"there is no run {run_id} in this database: see `nearsql runs`")
    record = dict(zip(names, row, strict=True))
    if record["status"] != "finished":
        raise UserError(f"run {run_id} is {record['status']}: only a finished run can be tracked")
    try:
        for name in ("parameters", "versions", "counts", "timings"):
            record[name] = _object(record.pop(f"{name}_json"))
        started, finished = (
            _milliseconds(record["started_at"]),
            _milliseconds(record["finished_at"]),
        )
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"the record of run {run_id} cannot be read: it is damaged") from None
    path = Path(file)
    return RunReport(
        run_id,
        record["kind"],
        f"{path.name} {record['kind']} {run_id}",
        path.stem,
        _parameters(record),
        _tags(record, path.name),
        record,
        started,
        finished,
        tuple(_metrics(db, record)),
    )


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError("not an object")
    return found


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


def _parameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own, with its seed and model unless they are among them."""
    own = dict(record["parameters"])
    for name in ("seed", "model"):
        if record[name] is not None:
            own.setdefault(name, record[name])
    return own


def _tags(record: Mapping[str, Any], file: str) -> dict[str, str]:
    """As texts. The identity of the file tells it from others of its name, and from none of its copies."""
    tags = {
        "nearsql.file": file,
        "nearsql.database_id": record["database_id"],
        "nearsql.run": record["id"],
        "nearsql.kind": record["kind"],
        "nearsql.model": record["model"],
        "nearsql.device": record["device"],
        "nearsql.result_sha256": record["result_sha256"],
    }
    tags |= {f"version.{name}": version for name, version in record["versions"].items()}
    return {name: str(value) for name, value in tags.items() if value is not None}


def _metrics(db: dbapi.Connection, record: Mapping[str, Any]) -> list[Metric]:
    found = [Metric("duration_ms", record["duration_ms"])]
    for group in ("counts", "timings"):
        found += [Metric(f"{group}/{name}", value) for name, value in record[group].items()]
    if record["kind"] in _WITH_METRICS:
        question = f"metrics_of_{record['kind'].replace('-', '_')}"
        rows = db.execute(read_sql(__package__, question), {"run": record["id"]})
        found += [Metric(*row) for row in rows]
    # What is undefined is told by no number, and trackers have no place for the reason.
    return [m for m in found if isinstance(m.value, int | float) and math.isfinite(m.value)]
