"""Diff: what changed between two runs. Clusterings are the runs that can be compared.

    found = diff_runs(db, 3, 5)
    found.agreement["ari"], found.settings["min_cluster_size"]     # 0.69, (20, 10)
    rows = found.clusters(db)                                       # a cursor, as of `cluster_diff`

The SQL functions cluster_diff, cluster_moves and cluster_agreement compute; nothing is written.
"""

import json
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.output import column_names
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Diff:
    """Two clustering runs, a level of each, compared.

    agreement: the columns of the SQL function cluster_agreement. settings: the parameters in which the
    runs differ, by name, with the value in each (None where a run has no such parameter).
    vectors_changed: whether both clustered one space, and its vectors were changed between the two.
    """

    run_a: int
    run_b: int
    level_a: int
    level_b: int
    agreement: dict[str, Any]
    settings: dict[str, tuple[Any, Any]]
    vectors_changed: bool

    def clusters(self, db: dbapi.Connection) -> dbapi.Cursor:
        """A row a pair of counterparts, or a cluster without one: cluster_diff's, with names."""
        return db.execute(read_sql(__package__, "diff_clusters"), self._arguments())

    def items(self, db: dbapi.Connection) -> dbapi.Cursor:
        """A row an item that left its cluster: cluster_moves', with what the item is."""
        return db.execute(read_sql(__package__, "diff_items"), self._arguments())

    def count_changes(self, db: dbapi.Connection) -> dict[str | None, tuple[int, int, int]]:
        """By change: how many rows `clusters` has of it, and clusters of either run in them."""
        rows = db.execute(
            "select change, count(*), count(distinct cluster_a), count(distinct cluster_b)"
            " from cluster_diff(:run_a, :run_b, :level_a, :level_b) group by change",
            self._arguments(),
        )
        return {change: (pairs, of_a, of_b) for change, pairs, of_a, of_b in rows}

    def _arguments(self) -> dict[str, int]:
        return {
            "run_a": self.run_a,
            "run_b": self.run_b,
            "level_a": self.level_a,
            "level_b": self.level_b,
        }


def diff_runs(
    db: dbapi.Connection, run_a: int, run_b: int, *, level: int = 1, level_b: int | None = None
) -> Diff:
    """Compares two finished clustering runs, at `level` of both unless level_b is another.

    Raises LookupError for a run that is not there, UserError for one that is no finished clustering, and
    sqlite3.OperationalError for a level that it lacks or when no item is in both.
    """
    parameters_a, space_a = _clustering(db, run_a)
    parameters_b, space_b = _clustering(db, run_b)
    cursor = db.execute(
        "select * from cluster_agreement(?, ?, ?, ?)", (run_a, run_b, level, level_b)
    )
    return Diff(
        run_a,
        run_b,
        level,
        level_b or level,
        dict(zip(column_names(cursor), cursor.fetchone(), strict=True)),
        {
            name: (parameters_a.get(name), parameters_b.get(name))
            for name in [*parameters_a, *(parameters_b.keys() - parameters_a.keys())]
            if parameters_a.get(name) != parameters_b.get(name)
        },
        space_a is not None
        and space_b is not None
        and space_a[0] == space_b[0]
        and space_a != space_b,
    )


def _clustering(
    db: dbapi.Connection, run: int
) -> tuple[dict[str, Any], tuple[int, int, int] | None]:
    """A clustering run's parameters, seed included, and (id, generation, token) of the space it read."""
    row = db.execute(
        "select r.kind, r.status, r.parameters_json, r.seed, i.space_id, i.generation,"
        " i.generation_token from runs r"
        " left join run_inputs i on i.run_id = r.id and i.kind = 'space' where r.id = ?",
        (run,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run} in this file: see `nearsql runs`")
    kind, status, parameters_json, seed, *space = row
    if kind != "cluster":
        raise UserError(
            f"run {run} is of kind {kind!r}: only runs of kind 'cluster' can be compared"
            f"{_newest_clusterings(db)}"
        )
    if status != "finished":
        raise UserError(f"run {run} is {status}: only a finished run can be compared")
    parameters = json.loads(parameters_json)
    if seed is not None:
        parameters["seed"] = seed
    return parameters, None if space[0] is None else (space[0], space[1], space[2])


def _newest_clusterings(db: dbapi.Connection) -> str:
    runs = db.execute(
        "select id from runs where kind = 'cluster' and status = 'finished' order by id desc limit 5"
    ).fetchall()
    if not runs:
        return ""
    return ", and the newest of them are " + ", ".join(str(run) for (run,) in runs)
