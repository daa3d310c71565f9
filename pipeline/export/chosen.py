"""Which runs an export takes: maps and clusterings, by default the newest of each kind and space."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.within import Within
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a clustering: how many clusters, and items in it, noise and assigned ones among them."""

    level: int
    clusters: int
    items: int
    noise: int
    assigned: int


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """A finished run whose result goes out. levels: of a clustering, coarsest first; points: of a map, and
    how many of them were placed on it later.
    """

    id: int
    space: str | None
    parameters: dict[str, Any]
    seed: int | None
    finished_at: str
    levels: tuple[Level, ...] = ()
    points: int = 0
    placed: int = 0

    @property
    def method(self) -> str:
        """As the run was told."""
        return str(self.parameters.get("method", "unknown method"))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runs of an export, each list by id; whether only the items that they hold go out; and the items
    that it is limited to, if it is.
    """

    clusterings: tuple[ExportedRun, ...]
    maps: tuple[ExportedRun, ...]
    only_their_items: bool
    within: Within | None = None

    @property
    def run_ids(self) -> list[int]:
        """Of all of them."""
        return [run.id for run in (*self.clusterings, *self.maps)]


def choose(db: dbapi.Connection, runs: Sequence[int] | None = None) -> Chosen:
    """The named runs and the items that they hold; or the newest runs there are, and every item.

    Raises LookupError for a run that is not there, UserError for one that is neither map nor clustering,
    or did not finish.
    """
    if runs is None:
        found = db.execute(
            "select distinct kind, run_id from current_runs where kind in ('cluster', 'project')"
            " order by run_id"
        ).fetchall()
    else:
        found = [(_kind(db, run), run) for run in sorted(set(runs))]
    return Chosen(
        tuple(_clustering(db, run) for kind, run in found if kind == "cluster"),
        tuple(_map(db, run) for kind, run in found if kind == "project"),
        only_their_items=runs is not None,
    )


def choose_pair(db: dbapi.Connection, runs: Sequence[int] | None = None) -> Chosen:
    """One map and one clustering, to be drawn over each other, and the items that they hold.

    What is not named is the newest of the same space; if neither is, the newest clustering of a space
    that has a map. Raises what `choose` does, and UserError when there is no such pair, or more than one
    is named.
    """
    named = choose(db, runs or ())
    if len(named.clusterings) > 1 or len(named.maps) > 1:
        raise UserError(
            "one clustering is drawn on one map: name one run of each with --run, not"
            f" {_listed(named.run_ids)}"
        )
    row = db.execute(
        read_sql(__package__, "pair"),
        {
            "clustering": named.clusterings[0].id if named.clusterings else None,
            "map": named.maps[0].id if named.maps else None,
        },
    ).fetchone()
    if row is None:
        raise UserError(_no_pair(named))
    clustering, map_run = row
    return Chosen((_clustering(db, clustering),), (_map(db, map_run),), only_their_items=True)


def choose_map(db: dbapi.Connection, runs: Sequence[int] | None = None) -> Chosen:
    """One map, with a clustering of the same space where there is one, and the items of both.

    As `choose_pair`, but that the newest map goes out alone where nothing was clustered.
    """
    try:
        return choose_pair(db, runs)
    except UserError:
        named = choose(db, runs or ())
        maps = named.maps or choose(db).maps
        if named.clusterings or len(named.maps) > 1:
            raise
        if not maps:
            raise UserError("there is no map in this file: `nearsql project` makes one") from None
        return Chosen((), maps[-1:], only_their_items=True)


def _no_pair(named: Chosen) -> str:
    if named.clusterings:
        run = named.clusterings[0]
        return (
            f"there is no map of space {run.space!r}, which run {run.id} clustered: `nearsql project`"
            " makes one, or name another map with --run"
        )
    if named.maps:
        run = named.maps[0]
        return (
            f"there is no clustering of space {run.space!r}, of which run {run.id} is a map: `nearsql"
            " cluster` makes one, or name another clustering with --run"
        )
    return (
        "there is no space with both a map and a clustering: `nearsql cluster` and `nearsql project`"
        " make them, or name two runs with --run"
    )


def _kind(db: dbapi.Connection, run: int) -> str:
    row = db.execute("select kind, status from runs where id = ?", (run,)).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run} in this file: see `nearsql runs`")
    kind, status = row
    if kind not in ("cluster", "project"):
        raise UserError(
            f"run {run} is of kind {kind!r}: only maps ('project') and clusterings ('cluster') can be"
            " exported"
        )
    if status != "finished":
        raise UserError(f"run {run} is {status}: only a finished run can be exported")
    return str(kind)


def _clustering(db: dbapi.Connection, run: int) -> ExportedRun:
    levels = db.execute(
        "select level, count(distinct cluster_id), count(*), count(*) - count(cluster_id),"
        " sum(is_assigned) from memberships where run_id = ? group by level order by level",
        (run,),
    ).fetchall()
    return ExportedRun(*_facts(db, run), levels=tuple(Level(*level) for level in levels))


def _map(db: dbapi.Connection, run: int) -> ExportedRun:
    points, placed = db.execute(
        "select count(*), count(placed_by_run_id) from projection_points where run_id = ?", (run,)
    ).fetchone()
    return ExportedRun(*_facts(db, run), points=points, placed=placed)


def _facts(
    db: dbapi.Connection, run: int
) -> tuple[int, str | None, dict[str, Any], int | None, str]:
    space, parameters_json, seed, finished_at = db.execute(
        "select (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),"
        " r.parameters_json, r.seed, r.finished_at from runs r where r.id = ?",
        (run,),
    ).fetchone()
    try:
        parameters = json.loads(parameters_json)
    except RecursionError:
        raise UserError(f"the parameters of run {run} are nested too deeply to be read") from None
    return run, space, parameters, seed, finished_at


def _listed(runs: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(runs)))
