"""`--within`: the items that a command is limited to, pinned for its run and recorded with it.

    found = within_ids(db, "red cars")            # a selection's name, a SELECT, or a JSON array
    parameters |= within_parameters(found)        # what a run records
    db.execute("select * from knn('s', 42, 10, ?)", (argument_of(found),))

A run is given the ids and not the text, so that whoever changes the selection meanwhile does not change
what the run reads. The text is recorded with the number of the ids and their SHA-256. A replay asks the
text again, and goes on only when it still names those items: see `recorded_within`.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError, read_standard_input
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.runs import RunInput
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.within import is_json, is_question, item_ids

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """The items that a text names. ids: (n,), n >= 1, ascending, each once."""

    text: str
    ids: NDArray[np.int64]

    @property
    def sha256(self) -> str:
        """Of the ids in ascending order, in decimal, each with a newline: `sqlite3 ... | sha256sum`."""
        return hashlib.sha256("".join(f"{i}\n" for i in self.ids.tolist()).encode()).hexdigest()


def add_within(command: Command) -> Command:
    """Decorates a command with the option --within; its function gets `within`, the text or None.

    Of `-` it gets the ids on standard input, as a JSON array: so they are recorded, and can be replayed.
    """
    return click.option(
        "--within",
        metavar="ITEMS",
        callback=_given,
        help="Only these items: the name of a selection (`nearsql select`), a SELECT of item ids, a"
        " JSON array of them, or - for ids on standard input, as `nearsql select --ids` takes them.",
    )(command)


def _given(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """The text of --within; for `-` what standard input holds."""
    if text != "-":
        return text
    from nearsql.pipeline.select import read_ids

    return json.dumps(read_ids(read_standard_input(), option="--within"))


def within_ids(db: dbapi.Connection, text: str | None) -> Within | None:
    """The items that the text names; None for None, which is no limit.

    Raises SqlFunctionError for a text that names none as it should, and UserError when they are none.
    """
    ids = item_ids(db.apsw, text)
    if text is None or ids is None:
        return None
    if not len(ids):
        raise UserError(f"--within {text!r:.200} names no items, and there is nothing to do")
    return Within(text, np.unique(ids))


def items_in_space(db: dbapi.Connection, space: RunInput, within: Within | None) -> int:
    """How many items of the space that a run reads are among them: all, where there is no limit."""
    if within is None:
        return space.rows or 0
    (n,) = db.execute(
        "select count(*) from json_each(?) w"
        " join vectors v on v.space_id = ? and v.item_id = w.value",
        (argument_of(within), space.space_id),
    ).fetchone()
    return int(n)


def argument_of(within: Within | None) -> str | None:
    """These very items, as the `within` argument of an SQL function: NULL for no limit."""
    return None if within is None else json.dumps(within.ids.tolist())


def within_parameters(within: Within | None) -> dict[str, Any]:
    """What a run records of the items it was limited to: `within` NULL when to none."""
    if within is None:
        return {"within": None}
    return {
        "within": within.text,
        "within_items": len(within.ids),
        "within_sha256": within.sha256,
    }


def recorded_within(db: dbapi.Connection, recorded: RecordedRun) -> Within | None:
    """The items that a run was limited to; None when to none.

    Raises CannotReplay, naming the selection, when its text names other items by now, or none at all.
    """
    text = recorded.parameters.get("within")
    if text is None:
        return None
    if not isinstance(text, str):
        raise CannotReplay(f"run {recorded.id} records a `within` that is no text: {text!r:.60}")
    what = f"the selection {text!r}" if is_name(text) else "its `within`"
    try:
        found = within_ids(db, text)
    except (SqlFunctionError, UserError) as error:
        # Of a selection the error would say only that there is none.
        is_dropped = is_name(text) and isinstance(error, SqlFunctionError)
        why = "" if is_dropped else f": {error}"
        raise CannotReplay(f"run {recorded.id} was over {what}, which is no more{why}") from None
    assert found is not None
    then = recorded.parameters.get("within_items")
    now = len(found.ids)
    if (then, recorded.parameters.get("within_sha256")) != (now, found.sha256):
        counts = f"{then} then, {now} now" if then != now else f"{now}, and not the same"
        raise CannotReplay(
            f"run {recorded.id} was over {what}, which has changed since: its items are {counts}"
        )
    return found


def recorded_argument(db: dbapi.Connection, recorded: RecordedRun) -> str | None:
    """As `recorded_within`, as the `within` argument of an SQL function."""
    return argument_of(recorded_within(db, recorded))


def is_name(text: str) -> bool:
    """Whether `within` takes the text for the name of a selection, and not for SQL or JSON."""
    return not is_json(text) and not is_question(text)
