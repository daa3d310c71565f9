"""`nearsql runs FILE`: which runs made what is in the file."""

import json

import click

from nearsql.pipeline.console import command_line, say, table
from nearsql.pipeline.output import FORMATS, column_names, write_rows
from nearsql.udfs.connection import open_database

LIST_SQL = """\
select r.id, r.kind, coalesce(m.name, '') as model,
       coalesce((select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id), '')
           as inputs,
       r.status, r.seed, r.counts_json, round(r.duration_ms / 1000, 2) as seconds, r.started_at
from runs r left join models m on m.id = r.model_id
order by r.id
"""

LINEAGE_SQL = """\
select ancestor_run_id, ancestor_kind, relation, depth
from run_lineage where run_id = ? order by depth, ancestor_run_id
"""


@click.command("runs")
@click.argument("file", type=click.Path())
@click.argument("run", type=int, required=False)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table")
def command(file: str, run: int | None, format_: str) -> None:
    """List the runs of FILE, or show one RUN whole: parameters, versions, inputs, lineage."""
    db = open_database(file, read_only=True)
    if run is None:
        cursor = db.execute(LIST_SQL)
        write_rows(format_, column_names(cursor), cursor)
        return
    cursor = db.execute("select * from runs where id = ?", (run,))
    row = cursor.fetchone()
    if row is None:
        see = command_line("nearsql", "runs", file)
        raise LookupError(f"there is no run {run} in {file}: see `{see}`")
    for name, value in zip(column_names(cursor), row, strict=True):
        if name.endswith("_json"):
            value = json.dumps(json.loads(value), indent=2)
        click.echo(f"{name}: {'' if value is None else value}")
    for title, sql in (
        ("read", "select kind, name, generation, rows from run_inputs where run_id = ?"),
        ("stands on", LINEAGE_SQL),
        ("could not do", "select stage, item_id, uri, message from item_errors where run_id = ?"),
    ):
        cursor = db.execute(sql, (run,))
        rows = cursor.fetchmany(20)
        if rows:
            click.echo(f"\n{title}:")
            click.echo(table(column_names(cursor), rows))
    say(f"next: {command_line('nearsql', 'replay', file, run)}")
