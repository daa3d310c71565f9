"""`nearsql demo FILE`: a database to play with, and what SQL finds in it."""

import time
from pathlib import Path

import click

from nearsql.pipeline import demo
from nearsql.pipeline.console import UserError, command_line, say, summary, table
from nearsql.udfs import connection

SHOWN_ROWS = 5


@click.command("demo")
@click.argument("file", type=click.Path(dir_okay=False), default="digits.db")
def command(file: str) -> None:
    """Build FILE (default digits.db) from 1,797 real images of digits, offline, and look around.

    45 flaws are planted among the digits and written down, so that what is found can be scored.
    """
    if Path(file).exists():
        raise UserError(
            f"{file} exists already: look at it with `{command_line('nearsql', 'serve', file)}`,"
            " or give another name"
        )
    started = time.perf_counter()
    say(f"building {file} from scikit-learn's digits: ingest, embed, cluster, project, judge")
    say("the first time after an installation, compiling takes about a minute of it")
    db = connection.create(file)
    facts = demo.build(db, quiet=False)
    (clusters,) = db.execute("select max(id) from runs where kind = 'cluster'").fetchone()
    facts |= demo.judge(db, clusters)
    for number, finding in enumerate(demo.questions(db), start=1):
        click.echo(f"\n{number}. {finding.title}\n")
        click.echo("\n".join(f"    {line}" for line in finding.sql.splitlines()[1:]) + "\n")
        click.echo(table(finding.headers, finding.rows[:SHOWN_ROWS]))
        if len(finding.rows) > SHOWN_ROWS:
            click.echo(f"... {len(finding.rows) - SHOWN_ROWS} more rows")
        click.echo(f"\n=> {finding.verdict}")
    db.close()
    click.echo()
    facts["seconds"] = round(time.perf_counter() - started, 1)
    summary(f"{file} is ready", facts)
    query = f"select * from knn('{demo.SPACE}', 1, 10)"
    for line in (
        "try next:",
        f"  {command_line('nearsql', 'serve', file)}                    # its pages, in a browser",
        f"  {command_line('nearsql', 'sql', file, query)}",
        f"  {command_line('sqlite-utils', 'query', file, query, '--csv')}",
        f"  {command_line('nearsql', 'share', file, '--to', 'digits.html')}        # the map as one page",
        f"  {command_line('nearsql', 'runs', file)}                     # what made it",
        f"  {command_line('nearsql', 'replay', file, 3)}                 # the same again, bit for bit",
    ):
        say(line)
