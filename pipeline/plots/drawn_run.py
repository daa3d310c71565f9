"""The run that a plot is of: there, finished, and of a kind that can be drawn so."""

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.look import in_words
from nearsql.pipeline.replay import RecordedRun, recorded_run
from nearsql.udfs import dbapi

# What each plot is of, in words.
OF_KIND = {
    "map": ("project", "a map, by `nearsql project`"),
    "evaluation": ("evaluate", "an evaluation, by `nearsql evaluate`"),
    "confusion": ("evaluate", "an evaluation, by `nearsql evaluate`"),
    "losses": ("detect", "a detector's run, by `nearsql detect`"),
}


def drawn_run(db: dbapi.Connection, what: str, run_id: int) -> RecordedRun:
    """The run. Raises LookupError when it is not there, UserError when it is not what `what` draws."""
    run = read_run(db, run_id)
    kind, in_words_ = OF_KIND[what]
    if run.kind != kind:
        raise UserError(f"run {run_id} is of kind {run.kind!r}: `plot {what}` draws {in_words_}")
    if run.status != "finished":
        raise UserError(f"run {run_id} is {run.status}: only a finished run can be drawn")
    return run


def read_run(db: dbapi.Connection, run_id: int) -> RecordedRun:
    """Any run. Raises LookupError when it is not there, UserError when its record makes no sense."""
    try:
        return recorded_run(db, run_id)
    except (TypeError, ValueError, RecursionError):
        raise UserError(f"the record of run {run_id} cannot be read: it is damaged") from None


def caption(run: RecordedRun) -> str:
    """What the run was made with, in one line."""
    seed = "" if run.seed is None else f", seed {run.seed}"
    return f"run {run.id}: {in_words(run.parameters)}{seed}"
