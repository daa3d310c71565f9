"""`nearsql migrate FILE`: gives a file the tables of this version."""

from pathlib import Path

import click

from nearsql import migrations
from nearsql.pipeline.console import say
from nearsql.udfs import connection


@click.command("migrate")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--list", "list_only", is_flag=True, help="List the steps and change nothing.")
def command(file: str, list_only: bool) -> None:
    """Give FILE the tables of this version, step by step, keeping what is in it.

    A file that does not exist is made. `sqlite-utils migrate FILE migrations/` does the same.
    """
    names = [f.name.removesuffix(".sql") for f in migrations.step_files()]
    applied = applied_steps(file)
    if not list_only:
        connection.create(file).close()
        names = names[applied:]
    for number, name in enumerate(names):
        is_applied = not list_only or number < applied
        click.echo(f"{'applied' if is_applied else 'pending'}  {name}")
    if not list_only:
        version = migrations.latest_version()
        say(f"{file} has schema version {version}" + ("" if names else ", nothing to do"))


def applied_steps(file: str) -> int:
    """How many steps the file has; neither makes nor changes it."""
    if not Path(file).exists():
        return 0
    db = connection.connect_quietly(file, read_only=True)
    try:
        return migrations.file_state(db).version
    finally:
        db.close()
