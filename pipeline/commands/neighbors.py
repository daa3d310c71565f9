"""`nearsql neighbors`: the nearest neighbours of every item, stored."""

from contextlib import closing

import click

from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.pipeline.engines import Engine
from nearsql.pipeline.engines.options import add_engine
from nearsql.pipeline.within import add_within
from nearsql.udfs.connection import open_database


@click.command("neighbors")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spaces", metavar="SPACE...", nargs=-1, required=True)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="How many neighbours of each item; all others, where there are fewer.",
)
@add_within
@add_engine(gpus=False)
def command(file: str, spaces: tuple[str, ...], k: int, within: str | None, engine: Engine) -> None:
    """Store the k nearest neighbours of every item of each SPACE of FILE, exactly.

    They are the rows of the SQL function knn_graph, to be read as often as one likes from the table
    neighbors. Every space is a run of its own. While its vectors stay as they are, there is nothing to do
    a second time, nor for a smaller k. Stopped, it goes on where it was.

    `nearsql cluster` and `nearsql project` read them, where there are enough, instead of searching
    again: more than --min-samples, --n-neighbors less 1, or 3 times --perplexity. Their results are the
    same, and come sooner. The neighbours among some items only, by --within, are for yourself to read.

    \b
      nearsql neighbors photos.db birds/pixels
      nearsql neighbors photos.db birds/pixels clip:ViT-B-32 -k 100
    """
    from nearsql.pipeline.neighbors import neighbors

    with closing(open_database(file)) as db:
        results = neighbors(db, spaces, k, within, engine, quiet=False)
        there = [result for result in results if result.run_id is not None]
        if not there:
            raise UserError("no neighbours were stored: see above for the reasons")
        for result in there:
            (item,) = db.execute(
                "select min(item_id) from neighbors where run_id = ?", (result.run_id,)
            ).fetchone()
            query = (
                "select rank, neighbor_id, distance from neighbors"
                f" where run_id = {result.run_id} and item_id = {item} order by rank"
            )
            next_step = command_line("nearsql", "sql", file, query)
            summary(
                f"run {result.run_id}: {result.space}"
                if result.is_new
                else f"nothing to do: run {result.run_id} has these neighbours of {result.space}",
                result.counts,
                next_step=next_step if result is there[-1] else None,
            )
