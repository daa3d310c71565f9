"""Which comparison two words ask for: numbers are runs, anything else is the name of a space."""

from collections.abc import Callable

from nearsql.pipeline.console import UserError
from nearsql.pipeline.diff import clusterings, detectors, evaluations, spaces
from nearsql.pipeline.diff.compared import Asked, Diff
from nearsql.pipeline.diff.records import Record, read_record
from nearsql.udfs import dbapi

_COMPARE: dict[str, Callable[[dbapi.Connection, Record, Record, Asked], Diff]] = {
    "cluster": clusterings.compare,
    "evaluate": evaluations.compare,
    "detect": detectors.compare,
}
# How many runs of a kind an error sentence names.
_NEWEST = 5


def diff(
    db: dbapi.Connection, a: str, b: str, asked: Asked | None = None, quiet: bool = True
) -> Diff:
    """Compares two finished runs of one kind, by their numbers, or two spaces, by their names.

    quiet: no forecast and no progress of long work, which only spaces are. Raises LookupError for a run that is not there; UserError for two that cannot be compared with each other,
    and for an option that says nothing of them; SqlFunctionError or sqlite3.OperationalError for a
    space, level, setting or metric that there is not, and when no item is in both.
    """
    asked = asked or Asked()
    are_runs = _is_number(a), _is_number(b)
    if not any(are_runs):
        return spaces.compare(db, a, b, asked, quiet)
    if not all(are_runs):
        run, space = (a, b) if are_runs[0] else (b, a)
        raise UserError(
            f"{run} is the number of a run and {space!r} the name of a space: name two runs or two spaces"
        )
    one, other = read_record(db, int(a)), read_record(db, int(b))
    for record in (one, other):
        if record.kind not in _COMPARE:
            raise UserError(
                f"run {record.id} is of kind {record.kind!r}, which cannot be compared"
                + _comparable_runs(db)
            )
    if one.kind != other.kind:
        raise UserError(
            f"run {one.id} is of kind {one.kind!r} and run {other.id} of kind {other.kind!r}: only runs of"
            f" one kind can be compared{_comparable_runs(db)}"
        )
    return _COMPARE[one.kind](db, one, other, asked)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _comparable_runs(db: dbapi.Connection) -> str:
    """The runs that would work, as the end of a sentence."""
    there = []
    for kind in _COMPARE:
        runs = db.execute(
            "select id from runs where kind = ? and status = 'finished' order by id desc limit ?",
            (kind, _NEWEST),
        ).fetchall()
        if runs:
            there.append(f"{', '.join(str(run) for (run,) in runs)} ({kind})")
    return ", and the newest that can be are " + "; ".join(there) if there else ""
