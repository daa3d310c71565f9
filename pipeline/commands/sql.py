"""`nearsql sql FILE "select ..."`: SQL with all functions, or a shell."""

import re
from typing import Any

import click

from nearsql.pipeline.console import UserError, read_standard_input
from nearsql.pipeline.output import column_names, write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database


@click.command("sql")
@click.argument("file", type=click.Path())
@click.argument("query", required=False)
@click.option(
    "-p",
    "--param",
    "parameters",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="A value for :NAME in the query.",
)
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
@click.option("--write", is_flag=True, help="Allow the query to change the file.")
@click.option("--immutable", is_flag=True, help="Nobody writes to the file: for read-only media.")
def command(
    file: str,
    query: str | None,
    parameters: tuple[tuple[str, str], ...],
    format_: str,
    write: bool,
    immutable: bool,
) -> None:
    """Run QUERY on FILE with every nearsql function; without QUERY, open a shell.

    `-` reads the query from standard input. The file is opened read-only unless --write is given.
    """
    if write and immutable:
        raise UserError("--write and --immutable exclude each other")
    db = open_database(file, read_only=not write, immutable=immutable)
    if query is None:
        _shell(db)
        return
    if query == "-":
        query = read_standard_input()
    cursor = db.execute(query, {name: _value(text) for name, text in parameters})
    if cursor.description:
        write_rows(format_, column_names(cursor), cursor)
    db.commit()
    db.close()


def _value(text: str) -> Any:
    """As on a SQL prompt: 10 and 0.5 are numbers, anything else is text."""
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?", text):
        return float(text)
    return text


def _shell(db: dbapi.Connection) -> None:
    from apsw.shell import Shell

    Shell(db=db.apsw).cmdloop()
