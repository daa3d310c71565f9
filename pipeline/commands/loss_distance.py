"""`nearsql loss-distance`: how well each image fits the detector's predictions in the others."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import command_line, sql_text, summary
from nearsql.pipeline.engines.options import add_engine
from nearsql.pipeline.tracking.option import add_track
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

# The component that ranks best where there are several; it is defined for every pair, too.
_MOST_TELLING = "cls"


@click.command("loss-distance")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("run", type=click.IntRange(min=1))
@click.option(
    "--pairs",
    type=click.Choice(["all", "candidates", "landmarks"]),
    default="all",
    show_default=True,
    help="all: every image against every other and itself. candidates: against its neighbours in a"
    " space, both ways; what they miss is lost (of 127, a shortlist of 32 by features kept half"
    " of the true nearest 5). landmarks: every image against a few targets drawn at random.",
)
@click.option("--components", metavar="NAME,NAME", help="box, cls, ...; default: all there are.")
@click.option("--space", metavar="NAME", help="candidates: the space that they are near in.")
@click.option("-k", type=int, help="candidates: how many neighbours an image has; 32.")
@click.option("--landmarks", metavar="M", type=int, help="landmarks: how many targets to draw.")
@click.option("--seed", type=int, help="landmarks: of the draw; 0.")
@click.option(
    "--weights",
    type=click.Path(),
    help="Where the checkpoint lies now; default: where it lay then.",
)
@click.option(
    "--conf",
    type=float,
    help="Predictions less confident are no targets; 0.25, or the detect run's if higher.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--yes", is_flag=True, help="Also write very many rows.")
@click.option("--quiet", is_flag=True, help="Only the summary.")
@add_track
@add_engine()
def command(file: str, run: int, components: str | None, **options: Any) -> None:
    """Store the loss distances between the images of RUN, a detect run of FILE.

    The distance from a target to an image is the detector's loss on the image when the predictions that
    RUN stored for the target are taken as the truth, component by component (box, cls, dfl, seg, ...).
    It has a direction, is not 0 from an image to itself, and costs one forward pass an image. Without
    any predictions in the target only cls is defined. Killed and run again, it goes on where it stopped.

    \b
      nearsql loss-distance photos.db 3
      nearsql loss-distance photos.db 3 --pairs landmarks --landmarks 100
      nearsql sql photos.db "select * from knn_loss(4, 'cls', 42, 5)"
    """
    from nearsql.pipeline.loss_distance.run import loss_distance

    names = None if components is None else [c.strip() for c in components.split(",") if c.strip()]
    with closing(open_database(file)) as db:
        result = loss_distance(db, run, components=names, **options)
        next_step = _next_step(db, file, result.run_id)
        facts: dict[str, Any] = {"components": ", ".join(result.components)}
        facts |= {
            name.replace("_", " "): result.counts[name]
            for name in ("images", "targets", "pairs", "rows", "undefined", "errors")
            if result.counts.get(name)
        }
        if not result.is_new:
            title = f"nothing to do: run {result.run_id} has all of these distances"
            summary(title, facts, next_step=next_step)
            return
        show_problems(db, file, result.run_id)
        facts["time"] = _parts(result.timings)
        summary(f"run {result.run_id}: {result.model}", facts, next_step=next_step)


def _parts(timings: dict[str, float]) -> str:
    total = sum(timings.values())
    words = {"forward": "forward passes", "pairs": "pairs", "wait": "waiting for images"}
    if "model" in timings:  # by others
        words = {"model": "waiting for the workers"}
    words["write"] = "writing"
    shares = [f"{100 * timings.get(key, 0) / total:.0f}% {what}" for key, what in words.items()]
    return f"{total / 1000:,.1f} s: {', '.join(shares)}"


def _next_step(db: dbapi.Connection, file: str, run_id: int) -> str | None:
    """The images that fit a target's predictions best."""
    row = db.execute(
        "select component, target_item_id from loss_distances"
        " where run_id = ? and distance is not null and image_item_id <> target_item_id"
        " order by target_item_id, component = ? desc limit 1",
        (run_id, _MOST_TELLING),
    ).fetchone()
    if row is None:
        return None
    sql = f"select * from knn_loss({run_id}, {sql_text(row[0])}, {row[1]}, 5)"
    return command_line("nearsql", "sql", file, sql)
