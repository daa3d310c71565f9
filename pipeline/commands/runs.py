"""`nearsql runs FILE`: which runs made what is in the file."""

import json
from typing import Any

import click

from nearsql.pipeline.console import command_line, say, table
from nearsql.pipeline.output import FORMATS, column_names, write_rows
from nearsql.udfs.connection import open_database
from nearsql.udfs.sql_files import read_sql


@click.command("runs")
@click.argument("file", type=click.Path())
@click.argument("run", type=int, required=False)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table")
def command(file: str, run: int | None, format_: str) -> None:
    """List the runs of FILE, or show one RUN whole: parameters, versions, inputs, lineage."""
    db = open_database(file, read_only=True)
    if run is None:
        cursor = db.execute(read_sql(__package__, "list_of_runs"))
        write_rows(format_, column_names(cursor), cursor)
        return
    cursor = db.execute("select * from runs where id = ?", (run,))
    row = cursor.fetchone()
    if row is None:
        see = command_line("nearsql", "runs", file)
        raise LookupError(f"there is no run {run} in {file}: see `{see}`")
    if format_ != "table":
        _write(format_, dict(zip(column_names(cursor), row, strict=True)))
        return
    for name, value in zip(column_names(cursor), row, strict=True):
        if name.endswith("_json"):
            value = json.dumps(json.loads(value), indent=2)
        click.echo(f"{name}: {'' if value is None else value}")
    for title, sql in (
        ("read", "select kind, name, generation, rows from run_inputs where run_id = ?"),
        ("stands on", read_sql(__package__, "lineage_of_run")),
        ("could not do", "select stage, item_id, uri, message from item_errors where run_id = ?"),
    ):
        cursor = db.execute(sql, (run,))
        rows = cursor.fetchmany(20)
        if rows:
            click.echo(f"\n{title}:")
            click.echo(table(column_names(cursor), rows))
    say(f"next: {command_line('nearsql', 'replay', file, run)}")


def _write(format_: str, facts: dict[str, Any]) -> None:
    """A run as one row; in JSON, its parameters and the like are objects and not texts."""
    if format_ != "csv":
        facts = {
            name.removesuffix("_json"): json.loads(value) if name.endswith("_json") else value
            for name, value in facts.items()
        }
    write_rows(format_, list(facts), [list(facts.values())])
