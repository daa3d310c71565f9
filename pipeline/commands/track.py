"""`nearsql track`: tells a tracker of runs that are stored."""

import click

from nearsql.pipeline.tracking.option import track_runs
from nearsql.pipeline.tracking.trackers import TRACKERS, tracker


@click.command("track")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("runs", metavar="RUN...", type=click.IntRange(min=1), nargs=-1, required=True)
@click.option(
    "--with",
    "with_",
    type=click.Choice(list(TRACKERS)),
    required=True,
    help="MLflow (MLFLOW_TRACKING_URI says where) or Weights & Biases (WANDB_MODE=offline: in a folder).",
)
def command(file: str, runs: tuple[int, ...], with_: str) -> None:
    """Tell MLflow or Weights & Biases of each RUN of FILE: its parameters, metrics and plots.

    What --track does when a run is made, for one that was made without it or that the tracker failed on. FILE
    is only read. Each time makes a new record there.

    \b
      nearsql track photos.db 12 --with mlflow
      nearsql track photos.db 12 13 --with wandb
    """
    keeper = tracker(with_)
    keeper.refuse_unready()
    track_runs(file, list(dict.fromkeys(runs)), with_, keeper)
