"""The space that a run reads: unchanged until its result is written, and found again for a replay."""

from collections.abc import Iterable

from nearsql.pipeline.console import UserError
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.runs import Run, RunInput, add_input, run_input
from nearsql.udfs import dbapi


def refuse_if_changed(db: dbapi.Connection, source: RunInput) -> None:
    """Raises UserError when a space is no longer as it was when the run began.

    Called inside the writing transaction, so that it cannot change afterwards either.
    """
    now = db.execute(
        "select generation, generation_token from spaces where id = ?", (source.space_id,)
    ).fetchone()
    if now != (source.generation, source.generation_token):
        raise UserError(
            f"the vectors of space '{source.name}' changed during this run, so that its result would "
            "not belong to them: nothing was written, run it again"
        )


def space_read_by(db: dbapi.Connection, recorded: RecordedRun) -> str:
    """The present name of the space that a run read: being renamed does not keep it from a replay."""
    row = db.execute(
        "select s.name from run_inputs i join spaces s on s.id = i.space_id"
        " where i.run_id = ? and i.kind = 'space'",
        (recorded.id,),
    ).fetchone()
    if row is None:
        raise CannotReplay(f"the space that run {recorded.id} read is deleted")
    return str(row[0])


def run_read_by(db: dbapi.Connection, recorded: RecordedRun, deleted: str) -> int:
    """The run that a run read. deleted: the sentence, when it is no more."""
    row = db.execute(
        "select input_run_id from run_inputs where run_id = ? and kind = 'run'", (recorded.id,)
    ).fetchone()
    if row is None or row[0] is None:
        raise CannotReplay(deleted)
    return int(row[0])


def refuse_other_result(
    db: dbapi.Connection, recorded: RecordedRun, run_id: int, what: str
) -> None:
    """Raises CannotReplay when the run that a run read is not the one that it has on record.

    The id of a deleted run may be given to another. what: such as 'the map that run 7 added to'.
    """
    (sha256,) = db.execute("select result_sha256 from runs where id = ?", (run_id,)).fetchone()
    then = recorded.parameters
    if (then["run"], then["run_sha256"]) != (run_id, sha256):
        raise CannotReplay(
            f"{what} was run {then['run']} with the result {str(then['run_sha256'])[:12]}...; now it"
            f" is run {run_id} with {str(sha256)[:12]}..."
        )


def add_runs_read(current: Run, run_ids: Iterable[int], kind: str) -> None:
    """Records other runs, of one kind, that this one turned out to read.

    One that is deleted by now stays readable by its name, as it would have been later.
    """
    for run_id in sorted(run_ids):
        try:
            item = run_input(current.db, run_id)
        except LookupError:
            item = RunInput("run", f"{kind} {run_id}")
        add_input(current.db, current.id, item)
