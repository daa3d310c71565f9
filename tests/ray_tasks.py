"""Small tasks for the workers of a Ray cluster, and how tables are compared. They travel by value: the
workers cannot import the tests."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.engines import Facts
from nearsql.udfs import connection

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

# What differs between two runs of the same, whoever computes.
VOLATILE = {
    *("created_at", "started_at", "finished_at", "duration_ms", "timings_json", "process"),
    "generation_token",
}


@dataclass(frozen=True)
class Squares:
    """Squares of numbers. fatal: a number that kills its worker. bad: one that raises. log: a folder
    where each process leaves a file. wrong: what loading raises."""

    device: str = "cpu"
    fatal: int | None = None
    bad: int | None = None
    seconds: float = 0.0
    log: str | None = None
    wrong: Exception | None = None

    def load(self) -> "SquaresWork":
        if self.wrong is not None:
            raise self.wrong
        return SquaresWork(self)


class SquaresWork:
    def __init__(self, task: Squares) -> None:
        self._task = task
        self.timings: dict[str, float] = {}

    @property
    def facts(self) -> Facts:
        threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        return Facts("cpu: of a test", {"threads": threads})

    def prepare(self, value: int) -> int:
        return value

    def __call__(self, batch: Sequence[int], besides: Any) -> list[tuple[int, Any]]:
        task = self._task
        if task.log is not None:
            Path(task.log, str(os.getpid())).touch()
        time.sleep(task.seconds)
        if task.fatal in batch:
            os._exit(1)
        if task.bad in batch:
            raise UserError(f"{task.bad} is no number")
        return [(value * value, besides) for value in batch]


def contents(path: str | Path) -> dict[str, list[Any]]:
    """All rows of all tables, without VOLATILE columns, and without what says that Ray was there."""
    db = connection.connect(path)
    found = {}
    tables = "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
    for (table,) in db.execute(tables).fetchall():
        columns = [row[1] for row in db.execute(f'pragma table_info("{table}")')]
        kept = [column for column in columns if column not in VOLATILE]
        rows = db.execute(f'select {", ".join(kept)} from "{table}"')  # in the order of their keys
        found[table] = [
            tuple(_plain(column, value) for column, value in zip(kept, row, strict=True))
            for row in rows
        ]
    db.close()
    return found


def _plain(column: str, value: Any) -> Any:
    if column not in ("versions_json", "counts_json"):
        return value
    return {
        k: v for k, v in json.loads(value).items() if k not in ("ray", "workers", "workers_lost")
    }
