"""`nearsql select`: named sets of items."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.console import UserError, command_line, say, summary
from nearsql.pipeline.output import column_names, write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

_COLUMNS = ("name", "how", "items", "sql", "note", "created_at")
# What makes a selection, and not lists or shows one.
_MAKING = ("sql", "ids", "note", "replace")


@click.command("select")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("name", required=False)
@click.option("--sql", metavar="SELECT", help="The items: those in its first column.")
@click.option(
    "--ids",
    metavar="PATH",
    type=click.File("r", encoding="utf-8"),
    help="The items: their ids in a file, or on standard input (-). Numbers, JSON, JSON lines, or CSV"
    " with a column item_id or id.",
)
@click.option("--note", metavar="TEXT", help="What it is for.")
@click.option("--replace", is_flag=True, help="Make a selection anew that is there already.")
@click.option("--list", "listing", is_flag=True, help="List the selections there are.")
@click.option("--show", metavar="NAME", help="The items of a selection.")
@click.option("--drop", metavar="NAME", help="Remove a selection. Its items stay.")
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
def command(
    file: str,
    name: str | None,
    listing: bool,
    show: str | None,
    drop: str | None,
    format_: str,
    **making: Any,
) -> None:
    """Give a set of items of FILE a NAME, by SQL or by ids.

    The name then says which items wherever they can be limited: as `within` of the SQL functions, and
    for --within of the commands, `nearsql export` among them. Stored are the items, and how they were
    chosen: a selection changes only when it is made anew.

    \b
      nearsql select photos.db "red birds" --sql "select item_id from item_labels where value = 'red'"
      nearsql sql photos.db "select id from items limit 9" --csv | nearsql select photos.db few --ids -
      nearsql select photos.db --list
      nearsql select photos.db --show "red birds" --json
      nearsql select photos.db --drop "red birds"
    """
    asked = [
        flag
        for flag, is_given in (
            ("NAME", name is not None),
            ("--list", listing),
            ("--show", show is not None),
            ("--drop", drop is not None),
        )
        if is_given
    ]
    if len(asked) != 1:
        given = f", not {' and '.join(asked)}" if asked else ""
        raise UserError(f"give one of NAME (to make a selection), --list, --show and --drop{given}")
    useless = [option for option in _MAKING if making[option]]
    if name is None and useless:
        raise UserError(f"--{useless[0]} makes a selection: give its NAME, too")
    with closing(open_database(file, read_only=listing or show is not None)) as db:
        if name is not None:
            _make(db, file, name, **making)
        elif listing:
            _list(db, file, format_)
        elif show is not None:
            _show(db, file, show, format_)
        else:
            assert drop is not None
            _drop(db, drop)


def _make(
    db: dbapi.Connection, file: str, name: str, sql: str | None, ids: Any, **how: Any
) -> None:
    from nearsql.pipeline.select import read_ids, select

    if (sql is None) == (ids is None):
        raise UserError("say which items, by one of --sql and --ids")
    try:
        given = None if ids is None else read_ids(ids.read())
    except UnicodeDecodeError as error:
        raise UserError(f"--ids: {ids.name} is not UTF-8 text (byte {error.start:,})") from None
    made = select(db, name, sql=sql, ids=given, **how)
    facts: dict[str, Any] = {"items": made.items}
    if made.note is not None:
        facts["note"] = made.note
    summary(
        f"selection {made.name!r}",
        facts,
        next_step=command_line("nearsql", "export", file, "--within", name, "--to", "DIR"),
    )


def _list(db: dbapi.Connection, file: str, format_: str) -> None:
    from nearsql.pipeline.select import selections

    found = selections(db)
    write_rows(format_, _COLUMNS, ([getattr(one, column) for column in _COLUMNS] for one in found))
    if not found:
        make = command_line("nearsql", "select", file, "NAME", "--sql", "select id from items")
        say(f"there are no selections yet: `{make}` makes one")


def _show(db: dbapi.Connection, file: str, name: str, format_: str) -> None:
    from nearsql.pipeline.select import find, items_of, runs_over

    found = find(db, name)
    cursor = items_of(db, found)
    write_rows(format_, column_names(cursor), cursor)
    facts: dict[str, Any] = {"items": found.items, "made by": found.sql or found.how}
    if found.note is not None:
        facts["note"] = found.note
    facts["made at"] = found.created_at
    if runs := runs_over(db, name):
        facts["runs over it"] = ", ".join(map(str, runs))
    summary(f"selection {name!r}", facts)


def _drop(db: dbapi.Connection, name: str) -> None:
    from nearsql.pipeline.select import drop, runs_over

    runs = runs_over(db, name)
    dropped = drop(db, name)
    facts: dict[str, Any] = {"items": f"{dropped.items:,}, which stay in the file"}
    if runs:
        facts["runs over it"] = f"{', '.join(map(str, runs))}: they cannot be replayed without it"
    summary(f"dropped selection {name!r}", facts)
