"""`nearsql detect`: what a YOLO detector sees in every image, and how wrong it is."""

from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.commands.ingest import show_problems
from nearsql.pipeline.console import command_line, sql_text, summary
from nearsql.pipeline.engines.options import add_engine
from nearsql.pipeline.tracking.option import add_track
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

HEAD_INPUTS = "p3,p4,p5"


@click.command("detect")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--weights",
    required=True,
    type=click.Path(),
    help="A YOLO checkpoint (.pt) of v8, 11 or 26, detect or segment. Loaded without running its code.",
)
@click.option("--collection", metavar="NAME", help="Only the images of this one.")
@click.option("--name", help="What to call the model; default: the name of the checkpoint.")
@click.option(
    "--imgsz", default=640, show_default=True, help="Side of the square image, in pixels."
)
@click.option(
    "--conf", default=0.25, show_default=True, help="Predictions less confident are not stored."
)
@click.option(
    "--iou", default=0.7, show_default=True, help="Of non-maximum suppression: overlap that is one."
)
@click.option("--max-det", default=300, show_default=True, help="Predictions an image, at most.")
@click.option(
    "--multi-label", is_flag=True, help="A box may be of several classes, as in ultralytics' val."
)
@click.option(
    "--metrics-conf",
    type=float,
    help="Predictions less confident are no detections to the metrics; 0.25, or --conf if higher.",
)
@click.option("--layers", metavar="N,N", help="Further layers to average into spaces, such as 9.")
@click.option(
    "--feature-maps",
    metavar="LAYERS",
    is_flag=False,
    flag_value=HEAD_INPUTS,
    help=f"Store whole feature maps, as float16: of {HEAD_INPUTS} if no layers are named (1.4 MB an"
    " image), or p5 (0.2 MB).",
)
@click.option(
    "--supercategories",
    type=click.Path(exists=True, dir_okay=False),
    help="A JSON file of {class: supercategory}, for flag_supercat; default: COCO's.",
)
@click.option("--batch", default=8, show_default=True, help="Images in one forward pass.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@add_track
@add_engine()
def command(file: str, weights: str, **options: Any) -> None:
    """Run a YOLO detector over the images of FILE and store all it says of them.

    From one forward pass an image: predictions with masks, the losses and metrics against the image's
    ground truth (see `nearsql ingest --annotations`), and the averaged features of the head's inputs as
    spaces MODEL/gap/p3, p4, p5. MODEL/metrics is the space in which images are near each other on
    which the detector behaves alike. Killed and run again, it goes on where it stopped.

    \b
      nearsql detect photos.db --weights yolov8n-seg.pt --collection street
      nearsql sql photos.db "select * from knn('yolov8n-seg/metrics', 42, 5)"
    """
    from nearsql.pipeline.detect.run import detect

    for name in ("layers", "feature_maps"):
        options[name] = [part for part in (options[name] or "").split(",") if part]
    with closing(open_database(file)) as db:
        result = detect(db, weights, **options, quiet=False)
        counts = {name: n for name, n in result.counts.items() if n}
        if result.run_id is None:
            images = counts["already"]
            summary(
                f"nothing to do: {result.model} has judged all {images:,} images with these settings",
                {},
                next_step=_next_step(db, file, result.model),
            )
            return
        show_problems(db, file, result.run_id)
        facts: dict[str, Any] = {
            name.replace("_", " "): n
            for name, n in counts.items()
            if name in ("images", "annotated", "predictions", "errors", "already")
        }
        if not counts.get("annotated"):
            facts["annotated"] = "none, so no losses and metrics: see nearsql ingest --annotations"
        facts["spaces"] = ", ".join(result.spaces)
        facts["time"] = _share_of_the_model(result.timings)
        summary(
            f"run {result.run_id}: {result.model}",
            facts,
            next_step=_next_step(db, file, result.model),
        )


def _share_of_the_model(timings: dict[str, float]) -> str:
    total = sum(timings.values())
    parts = {
        "model": "the model",
        "measure": "masks, losses and metrics",
        "wait": "waiting for images",
        "write": "writing",
    }
    shares = [f"{100 * timings.get(key, 0) / total:.0f}% {words}" for key, words in parts.items()]
    return f"{total / 1000:,.1f} s: {', '.join(shares)}"


def _next_step(db: dbapi.Connection, file: str, model: str) -> str | None:
    """A question that these rows can answer: the images the detector finds hardest, or what is near."""
    row = db.execute(
        "select s.name, v.item_id from vectors v join spaces s on s.id = v.space_id"
        " where s.name in (?, ?) order by s.kind = 'metric' desc, v.item_id limit 1",
        (f"{model}/metrics", f"{model}/gap/p5"),
    ).fetchone()
    if row is None:
        return None
    sql = f"select * from knn({sql_text(row[0])}, {row[1]}, 5)"
    return command_line("nearsql", "sql", file, sql)
