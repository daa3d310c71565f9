"""What a database says, without what must differ from one run of a command to the next.

Left out, and why:

- columns that end in `_at` or `_ms`, and `timings_json`: when, and how long it took;
- `process`: who it was;
- `generation_token`: drawn at random with each change of a space's vectors, by design;
- ids of runs, each replaced by what the run does (its kind, model, seed and parameters), since whoever goes
  on with a killed run may be a new run of the same kind and parameters, beside the killed one; and ids of
  clusters, replaced by run, level and label;
- runs that did not finish. What rows they left behind is not left out: rows that a resumed run writes again
  are then there twice, and differ;
- a run that had finished when a command of several runs was killed, and that is made once more: there is a
  later one of the same kind and parameters with the same result. Or with nothing left to do: then that;
- an embedding killed when its last vector was written: the next one finds nothing to do, and makes no run. The
  killed one stays marked as interrupted, and the vectors name it;
- the ids of `run_inputs` and `item_errors`, which log what runs did: whoever runs again logs again. What a run
  read that did not finish is left out; what several runs of the same kind and parameters log counts once;
- of a run that found some of its work done already, its counts, and its hash if the rows done earlier are
  another run's: both say what this run did, which is less.
"""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearsql.udfs import connection, dbapi

Row = tuple[Any, ...]

# Columns of an old row that tell of the process, not of the result.
_OF_THE_MOMENT = ("process", "timings_json", "generation_token")
_LOGS = ("run_inputs", "item_errors")


@dataclass(frozen=True, slots=True)
class Contents:
    """A database. tables: the rows of each and how often each is there, without runs.

    runs: the finished ones, each as (what it does, device, versions, hash, counts). divided: what runs do of
    which rows are left that other runs than finished ones wrote. unfinished: how many runs have not finished.
    """

    tables: Mapping[str, Counter[Row]]
    runs: tuple[tuple[str, Row, str | None, str], ...]
    divided: frozenset[str]
    unfinished: int


def read_contents(path: Path) -> Contents:
    """All of it."""
    with closing(connection.connect(path)) as db:
        runs = _Runs(db)
        tables = {table: _rows(db, table, runs) for table in _tables(db)}
        finished = tuple(
            (runs.steps[run_id], tuple(rest), result, counts)
            for run_id, result, counts, *rest in db.execute(
                "select id, result_sha256, counts_json, device, versions_json, error from runs"
                " where status = 'finished' order by id"
            )
            if run_id not in runs.made_again
        )
        return Contents(tables, finished, frozenset(runs.divided), len(runs.unfinished))


def differences(expected: Contents, found: Contents, *, is_interrupted: bool) -> list[str]:
    """What is not the same, a sentence each; none where everything is."""
    wrong = []
    for table in sorted(expected.tables.keys() | found.tables.keys()):
        one, other = expected.tables.get(table, Counter()), found.tables.get(table, Counter())
        missing, more = one - other, other - one
        if missing or more:
            example = next(iter(missing or more))
            wrong.append(
                f"{table}: {missing.total()} of {one.total()} rows are missing and {more.total()} more"
                f" are there, such as {_short(example)} {'missing' if missing else 'more'}"
            )
    divided = expected.divided | found.divided
    one_runs = Counter(_known(run, divided, is_interrupted) for run in expected.runs)
    other_runs = Counter(_known(run, divided, is_interrupted) for run in found.runs)
    steps = {run[0] for run in one_runs} if is_interrupted else set()
    missing_runs = [
        run
        for run in one_runs - other_runs
        if not (is_interrupted and run[0] in found.divided and json.loads(run[0])[0] == "embed")
    ]
    wrong += [f"runs: {_short(run)} is missing" for run in missing_runs]
    # One of several that had finished, and that now finds nothing left to do.
    more_runs = [run for run in other_runs - one_runs if run[0] not in steps]
    return wrong + [f"runs: {_short(run)} is more" for run in more_runs]


def _known(
    run: tuple[str, Row, str | None, str], divided: frozenset[str], is_interrupted: bool
) -> Row:
    step, rest, result, counts = run
    if step in divided:
        result = "of a part"
    if is_interrupted:
        counts = "of what was left to do"
    return (step, *rest, result, counts)


class _Runs:
    """What each run does, by its id; which did not finish; which were made again with the same result.

    clusters: what is said instead of a cluster's id. divided: what unfinished runs do that rows name.
    """

    def __init__(self, db: dbapi.Connection) -> None:
        self.steps: dict[int, str] = {}
        self.unfinished: set[int] = set()
        self.made_again: set[int] = set()
        self.divided: set[str] = set()
        last: dict[tuple[str, str | None], int] = {}
        for run_id, status, result, kind, model, seed, parameters in db.execute(
            "select id, status, result_sha256, kind, model_id, seed, parameters_json from runs order by id"
        ):
            step = json.dumps([kind, model, seed, json.loads(parameters)], sort_keys=True)
            self.steps[run_id] = step
            if status != "finished":
                self.unfinished.add(run_id)
                continue
            if result is not None and (step, result) in last:
                self.made_again.add(last[step, result])
            last[step, result] = run_id
        self.clusters = {
            cluster: (self.steps[run_id], level, label)
            for cluster, run_id, level, label in db.execute(
                "select id, run_id, level, label from clusters"
            )
        }


def _tables(db: dbapi.Connection) -> list[str]:
    """Every table that stores rows of its own, but runs and what SQLite keeps for itself."""
    return [
        name
        for (name,) in db.execute(
            "select name from pragma_table_list where schema = 'main'"
            " and type in ('table', 'shadow') and name not like 'sqlite\\_%' escape '\\'"
            " and name <> 'runs' order by name"
        ).fetchall()
    ]


def _rows(db: dbapi.Connection, table: str, runs: _Runs) -> Counter[Row]:
    quoted = table.replace('"', '""')
    leads_to = {
        column: other
        for _, _, other, column, *_ in db.execute(f'pragma foreign_key_list("{quoted}")')
    }
    if table == "clusters":
        leads_to["id"] = "clusters"
    columns = [
        name
        for _, name, *_ in db.execute(f'pragma table_info("{quoted}")')
        if not name.endswith(("_at", "_ms"))
        and name not in _OF_THE_MOMENT
        and not (name == "id" and table in _LOGS)
    ]
    places = [(place, leads_to.get(name)) for place, name in enumerate(columns)]
    of_runs = [place for place, other in places if other == "runs"]
    of_clusters = [place for place, other in places if other == "clusters"]
    listed = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    found: Counter[Row] = Counter()
    for row in db.execute(f'select {listed} from "{quoted}"'):
        values = [*row]
        named = {values[place] for place in of_runs} - {None}
        if named & runs.made_again or (table == "run_inputs" and named & runs.unfinished):
            continue
        if table not in _LOGS:
            runs.divided |= {runs.steps[run_id] for run_id in named & runs.unfinished}
        for place in of_runs:
            values[place] = runs.steps.get(values[place])
        for place in of_clusters:
            values[place] = runs.clusters.get(values[place])
        found[tuple(values)] += 1
    return Counter(set(found)) if table in _LOGS else found


def _short(row: Row) -> str:
    return "(" + ", ".join(_value(value) for value in row) + ")"


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
