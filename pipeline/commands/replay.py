"""`nearsql replay FILE RUN`: computes a run again and compares."""

import click

from nearsql.pipeline import replay as replaying
from nearsql.pipeline.console import UserError
from nearsql.udfs.connection import open_database


@click.command("replay")
@click.argument("file", type=click.Path())
@click.argument("run", type=int)
def command(file: str, run: int) -> None:
    """Compute RUN again from what is recorded and compare the results.

    Exit code 0: the same result, bit for bit. 1: a different one, or it cannot be replayed; the reason
    is printed. The database's derived rows are not touched; the replay is recorded as a run.
    """
    db = open_database(file)
    try:
        outcome = replaying.replay(db, run)
    except replaying.CannotReplay as reason:
        raise UserError(f"cannot replay: {reason}") from reason
    click.echo(f"run {run}: {'the same result' if outcome.is_same else 'a DIFFERENT result'}")
    click.echo(f"  recorded  {outcome.expected_sha256}")
    click.echo(f"  replayed  {outcome.actual_sha256}  (run {outcome.run_id})")
    for package, (then, now) in outcome.version_changes.items():
        click.echo(f"  {package}: {then} then, {now} now")
    if not outcome.is_same:
        if not outcome.version_changes:
            click.echo("  no recorded version differs")
        raise SystemExit(1)
