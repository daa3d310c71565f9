"""What runs wrote, against the rows it was made from: sizes, parents, places, neighbours, votes.

Each check in SQL is a file of its own, `results_*.sql`: its first line is the name of the check, its rows
are the faults in words, each with the run. What SQL cannot read, packed neighbours, is read here.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from nearsql.pipeline.check.finding import Finding, finding
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql

# Items of a stored graph whose neighbours are searched for again.
_SAMPLE = 64
# What float64 sums in another order may differ by.
_ALLOWED = 1e-9
_DISTRUST = "the run is not to be trusted: make another, and delete it"


def check_results(db: dbapi.Connection) -> list[Finding]:
    """A finding for each check in SQL, and those of runs, stored graphs and votes."""
    return [
        _runs(db),
        *(_in_sql(db, name) for name in _names()),
        *_graphs(db),
        *_votes(db),
    ]


@cache
def _names() -> tuple[str, ...]:
    folder = files(f"{__package__}.sql")
    found = (entry.name.removesuffix(".sql") for entry in folder.iterdir())
    return tuple(sorted(name for name in found if name.startswith("results_")))


def _in_sql(db: dbapi.Connection, name: str) -> Finding:
    text = read_sql(__package__, f"sql/{name}")
    title = text.partition("\n")[0].removeprefix("-- ")
    rows = db.execute(text).fetchall()
    runs = {run for _, run in rows}
    return finding(
        title,
        _rows_of(db, text),
        [fault for fault, _ in rows],
        run_id=runs.pop() if len(runs) == 1 else None,
        cure=_DISTRUST,
    )


def _rows_of(db: dbapi.Connection, text: str) -> int:
    """How many rows there are to be checked, from the second line of the file: `-- of TABLE`."""
    table = text.splitlines()[1].removeprefix("-- of ")
    (count,) = db.execute(f'select count(*) from "{table}"').fetchone()
    return int(count)


def _runs(db: dbapi.Connection) -> Finding:
    """Whether each run says with what parameters, as an object, and an ended one how long it took."""
    faults, checked = [], 0
    for run, kind, status, parameters in db.execute(
        "select id, kind, status, parameters_json from runs"
    ):
        checked += 1
        if not isinstance(json.loads(parameters), dict):
            faults.append(f"run {run} ({kind}, {status}) has parameters that are no object")
    return finding("parameters of runs", checked, faults, cure=None)


def _graphs(db: dbapi.Connection) -> list[Finding]:
    """A sample of each stored graph of a whole space as it is now, searched for again."""
    findings = []
    for run, space, k in db.execute(read_sql(__package__, "sql/graphs")).fetchall():
        try:
            checked, faults = _searched_again(db, run, space, k)
        except SqlFunctionError as error:  # the space itself is damaged
            checked, faults = 0, [str(error)]
        findings.append(
            finding(f"stored neighbours of {space}", checked, faults, run_id=run, cure=_DISTRUST)
        )
    return findings


def _searched_again(db: dbapi.Connection, run: int, space: str, k: int) -> tuple[int, list[str]]:
    matrix = load_matrix(db.apsw, find_space(db.apsw, space))
    rng = np.random.default_rng(run)
    rows = np.sort(rng.choice(len(matrix.ids), min(_SAMPLE, len(matrix.ids)), replace=False))
    ids = matrix.ids[rows]
    found, distances = nearest(matrix, matrix.vectors[rows], k, exclude=ids, poll=Poll(db.apsw))
    faults = []
    for item, truth, apart in zip(ids.tolist(), found, distances, strict=True):
        stored = db.execute(
            "select neighbor_id, distance from neighbors where run_id = ? and item_id = ?"
            " and rank <= ? order by rank",
            (run, item, len(truth)),
        ).fetchall()
        if [neighbor for neighbor, _ in stored] != truth.tolist():
            faults.append(f"item {item} has other neighbours than are nearest to it")
        elif max(abs(d - a) for (_, d), a in zip(stored, apart, strict=True)) > _ALLOWED:
            faults.append(f"item {item} has other distances than its neighbours have")
    return len(ids), faults


def _votes(db: dbapi.Connection) -> list[Finding]:
    """That nobody votes for an item of its own fold: then its score would be a lie."""
    findings = []
    for (run,) in db.execute("select distinct run_id from cv_neighbors order by run_id").fetchall():
        folds = dict(db.execute("select item_id, fold from folds where run_id = ?", (run,)))
        faults, checked = [], 0
        for item, neighbors in db.execute(
            "select item_id, neighbor_ids from cv_neighbors where run_id = ? order by item_id",
            (run,),
        ):
            checked += 1
            if fault := _fault_of_votes(item, np.frombuffer(neighbors, "<i8"), folds):
                faults.append(fault)
        findings.append(
            finding("votes from other folds", checked, faults, run_id=run, cure=_DISTRUST)
        )
    return findings


def _fault_of_votes(item: int, neighbors: Any, folds: dict[int, int]) -> str | None:
    if item not in folds:
        return f"item {item} is in no fold"
    for neighbor in neighbors.tolist():
        if folds.get(neighbor, folds[item]) == folds[item]:
            return f"item {neighbor} votes for item {item}, and is in its fold or in none"
    return None
