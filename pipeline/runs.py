"""Runs: every derived row names the run that made it, and a run records what it really did.

    with run(db, "cluster", parameters={...}, seed=0, inputs=[space_input(db, "digits/pixels")]) as r:
        rows = ...                       # compute, with no transaction open
        with immediate(db):
            ...                          # one short write, naming r.id
        r.counts["clusters"] = 12
        r.result_sha256 = hash_rows(rows)

The start is committed before the work, the end after it; a failure is recorded with its error.
"""

import importlib.metadata
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

# What every run's result may depend on; pipelines add the libraries they compute with.
BASE_PACKAGES = ("nearsql", "apsw", "numpy")


def spelled_out(text: str) -> str:
    """The text as SQLite can hold it: what is not valid Unicode, and NUL, spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


@dataclass(frozen=True, slots=True)
class RunInput:
    """Something that a run read: another run, a space, a collection or a file."""

    kind: str
    name: str
    input_run_id: int | None = None
    space_id: int | None = None
    generation: int | None = None
    generation_token: int | None = None
    rows: int | None = None
    sha256: str | None = None


@dataclass
class Run:
    """A run under way: fill counts, timings and the result's hash before it ends."""

    id: int
    db: dbapi.Connection
    counts: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)  # milliseconds, by step
    result_sha256: str | None = None
    is_resumed: bool = False  # it goes on where an earlier process stopped
    earlier_ms: float = 0.0  # that process's wall time, as far as it could tell it
    started: float = field(default_factory=time.perf_counter)
    has_ended: bool = False

    def item_error(
        self,
        stage: str,
        message: str,
        *,
        item_id: int | None = None,
        uri: str | None = None,
        count: str = "errors",
    ) -> None:
        """Records what went wrong with one item or file; the run goes on.

        count: under which of the counts it falls. Belongs to the caller's transaction when one is open.
        """
        self.db.execute(
            "insert into item_errors (run_id, item_id, uri, stage, message) values (?, ?, ?, ?, ?)",
            (
                self.id,
                item_id,
                None if uri is None else spelled_out(uri),
                stage,
                spelled_out(message),
            ),
        )
        self.counts[count] = self.counts.get(count, 0) + 1

    def finish(self) -> None:
        """Ends the run in the caller's transaction, for who writes all results in one.

        The results and the word that they are complete are then there together, or neither is, whenever
        the process is killed. Counts, timings and the result's hash are those filled by now.
        """
        _record_end(self, "finished", None)
        self.has_ended = True

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the block's wall time to `timings[step]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1000
            self.timings[step] = round(self.timings.get(step, 0.0) + elapsed, 3)


@contextmanager
def immediate(db: dbapi.Connection) -> Iterator[None]:
    """One write transaction, from `begin immediate` to commit; rolled back on any exception.

    Immediate, so that two writers wait for each other at the start instead of failing in the middle.
    """
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.rollback()
        raise
    db.commit()


@contextmanager
def run(
    db: dbapi.Connection,
    kind: str,
    *,
    parameters: Mapping[str, Any],
    seed: int | None = None,
    model_id: int | None = None,
    parent_run_id: int | None = None,
    inputs: Sequence[RunInput] = (),
    packages: Sequence[str] = (),
    device: str = "cpu",
    resume: bool = False,
) -> Iterator[Run]:
    """Starts a run, yields it, and records how it ended.

    parameters: the *effective* ones, defaults included, as JSON values. packages: the installed
    distributions whose versions the result may depend on, besides nearsql, apsw and numpy.

    resume: go on with the last run that was the same in all of these and was interrupted or failed,
    under its own id, if there is one; the caller asks the database what is left to do. Raises
    UserError while another process is at that very run.
    """
    mark_interrupted(db)
    identity = {
        **_identity(kind, parameters, seed, model_id, parent_run_id, packages, device),
        "process": this_process(),
    }
    with immediate(db):
        current = _resumed(db, identity) if resume else None
        if current is None:
            run_id = db.execute(
                "insert into runs (kind, model_id, parent_run_id, parameters_json, seed,"
                " versions_json, device, process) values (:kind, :model_id, :parent_run_id,"
                " :parameters_json, :seed, :versions_json, :device, :process)",
                identity,
            ).lastrowid
            assert run_id is not None
            current = Run(run_id, db)
            for item in inputs:
                add_input(db, run_id, item)
    try:
        yield current
    except BaseException as error:
        if db.in_transaction:
            db.rollback()
        status = "failed" if isinstance(error, Exception) else "interrupted"
        message = type(error).__name__ + (f": {spelled_out(str(error))}" if str(error) else "")
        with immediate(db):
            _record_end(current, status, message)
        raise
    if not current.has_ended:
        with immediate(db):
            _record_end(current, "finished", None)


def has_stopped(
    db: dbapi.Connection, kind: str, *, parameters: Mapping[str, Any], packages: Sequence[str] = ()
) -> bool:
    """Whether a run like this one stopped on the way, so that `run` with `resume` goes on with it.

    It may have written all there is to write, and only not have ended.
    """
    mark_interrupted(db)
    identity = _identity(kind, parameters, None, None, None, packages, "cpu")
    row = db.execute(f"select status {_LIKE_THIS}", identity).fetchone()
    return row is not None and row[0] in ("interrupted", "failed")


def _identity(
    kind: str,
    parameters: Mapping[str, Any],
    seed: int | None,
    model_id: int | None,
    parent_run_id: int | None,
    packages: Sequence[str],
    device: str,
) -> dict[str, Any]:
    """All that two runs must have in common for the one to go on where the other stopped."""
    return {
        "kind": kind,
        "model_id": model_id,
        "parent_run_id": parent_run_id,
        "parameters_json": json.dumps(parameters, sort_keys=True),
        "seed": seed,
        "versions_json": json.dumps(versions(packages), sort_keys=True),
        "device": device,
    }


# The last run of an identity that has not finished.
_LIKE_THIS = (
    "from runs"
    " where kind = :kind and model_id is :model_id and parent_run_id is :parent_run_id"
    " and parameters_json = :parameters_json and seed is :seed"
    " and versions_json = :versions_json and device = :device and status <> 'finished'"
    " order by id desc limit 1"
)


def _resumed(db: dbapi.Connection, identity: Mapping[str, Any]) -> Run | None:
    """The last run like this one that stopped on the way, running again; None when there is none."""
    row = db.execute(
        f"select id, status, process, counts_json, timings_json, duration_ms {_LIKE_THIS}",
        identity,
    ).fetchone()
    if row is None:
        return None
    run_id, status, process, counts, timings, duration_ms = row
    if status == "running":
        raise UserError(f"run {run_id} is doing this now (process {process}): let it end first")
    db.execute(
        "update runs set status = 'running', process = ?, error = null, finished_at = null,"
        " duration_ms = null where id = ?",
        (identity["process"], run_id),
    )
    return Run(run_id, db, json.loads(counts), json.loads(timings), None, True, duration_ms or 0.0)


def _record_end(current: Run, status: str, error: str | None) -> None:
    """Nothing, if the end is recorded already: by `finish`, before what failed."""
    current.db.execute(
        "update runs set status = ?, error = ?, counts_json = ?, timings_json = ?,"
        " result_sha256 = ?, duration_ms = ?,"
        " finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') where id = ? and status = 'running'",
        (
            status,
            error,
            json.dumps(current.counts),
            json.dumps(current.timings),
            current.result_sha256 if status == "finished" else None,
            round(current.earlier_ms + (time.perf_counter() - current.started) * 1000, 3),
            current.id,
        ),
    )


def add_input(db: dbapi.Connection, run_id: int, item: RunInput) -> None:
    """Records that the run read this. Only while it is running; in a transaction of its own or yours."""
    with nullcontext() if db.in_transaction else immediate(db):
        _insert_input(db, run_id, item)


def _insert_input(db: dbapi.Connection, run_id: int, item: RunInput) -> None:
    db.execute(
        "insert into run_inputs (run_id, kind, name, input_run_id, space_id, generation,"
        " generation_token, rows, sha256) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run_id,
            item.kind,
            item.name,
            item.input_run_id,
            item.space_id,
            item.generation,
            item.generation_token,
            item.rows,
            item.sha256,
        ),
    )


def space_input(db: dbapi.Connection, name: str) -> RunInput:
    """The space as a run's input, pinned by its generation and token."""
    row = db.execute(
        "select id, generation, generation_token,"
        " (select count(*) from vectors where space_id = spaces.id) from spaces where name = ?",
        (name,),
    ).fetchone()
    if row is None:
        raise LookupError(
            f"there is no space {name!r} in this database: see `select * from spaces`"
        )
    space_id, generation, token, count = row
    return RunInput(
        "space",
        name,
        space_id=space_id,
        generation=generation,
        generation_token=token,
        rows=count,
    )


def run_input(db: dbapi.Connection, run_id: int) -> RunInput:
    """Another run as a run's input."""
    row = db.execute("select kind from runs where id = ?", (run_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run_id} in this database: see `nearsql runs`")
    return RunInput("run", f"{row[0]} {run_id}", input_run_id=run_id)


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """The versions of Python, SQLite, the platform and the named installed distributions."""
    found = {
        "python": platform.python_version(),
        "sqlite": dbapi.sqlite_version,
        "platform": f"{sys.platform} {platform.machine()}",
    }
    for package in (*BASE_PACKAGES, *packages):
        found[package] = importlib.metadata.version(package)
    return found


def this_process() -> str:
    """This process, named so that a later one can tell whether it is still alive."""
    return f"{socket.gethostname()} {os.getpid()}"


def mark_interrupted(db: dbapi.Connection) -> int:
    """Marks as interrupted the running runs of this host whose process is gone; gives their number.

    A killed process cannot end its own run; whoever starts the next one does it.
    """
    here = socket.gethostname()
    dead = []
    for run_id, process in db.execute("select id, process from runs where status = 'running'"):
        host, _, pid = (process or "").rpartition(" ")
        if host == here and pid.isdigit() and not _is_alive(int(pid)):
            dead.append((run_id,))
    if dead:
        with immediate(db):
            db.executemany(
                "update runs set status = 'interrupted', error = 'its process ended without a word',"
                " finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
                " where id = ? and status = 'running'",
                dead,
            )
    return len(dead)


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # there, signal 0 is Ctrl-C: asking would kill
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it exists and is somebody else's
    return True
