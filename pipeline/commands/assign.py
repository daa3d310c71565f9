"""`nearsql assign`: items that a clustering did not see join its clusters."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.console import command_line, summary
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database


@click.command("assign")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("run", type=click.IntRange(min=1))
def command(file: str, run: int) -> None:
    """Give the items that the clustering RUN did not see to its clusters, or to the noise.

    Those that --downsample left out, and those that came later. Each joins the member of the run that it
    is nearest to by mutual reachability, if that member's cluster reaches so far. They are memberships of
    RUN with is_assigned = 1; clusters keep their sizes. Stopped, it goes on where it was.

    How far that can be trusted is measured: 15% of the members are held out, assigned, and compared with
    clustering them.

    \b
      nearsql cluster photos.db birds/pixels --downsample 10
      nearsql assign photos.db 4
    """
    with closing(open_database(file)) as db:
        assign_and_show(db, file, run)


def assign_and_show(db: dbapi.Connection, file: str, run: int, *, is_last: bool = True) -> None:
    """Assigns, and says how it went."""
    from nearsql.pipeline.cluster.assign import assign

    result = assign(db, run, quiet=False)
    counts = result.counts
    if result.run_id is None:
        summary(f"nothing to assign: run {run} has all items of {result.space}", {})
        return
    facts: dict[str, Any] = {
        "assigned": counts["assigned"],
        "to clusters": counts["joined"],
        "noise": f"{counts['noise']:,}, {100 * counts['noise_share']:.1f}% of what was assigned",
    }
    if "held_out_agreement" in counts:
        facts["agreement"] = (
            f"{100 * counts['held_out_agreement']:.1f}% of {counts['held_out']:,} members held out"
            " were assigned to where clustering puts them"
            f" (of those kept, {100 * counts['kept_agreement']:.1f}% stayed in place)"
        )
    sql = (
        "select c.label, sum(m.is_assigned) as assigned, count(*) as items from memberships m"
        " join clusters c on c.id = m.cluster_id"
        f" where m.run_id = {run} and m.level = 1 group by 1 order by 3 desc"
    )
    next_step = command_line("nearsql", "sql", file, sql) if is_last else None
    summary(f"run {result.run_id}: {result.space} into run {run}", facts, next_step=next_step)
