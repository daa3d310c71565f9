"""Trackers: a finished run's parameters, metrics and plots, told to MLflow or Weights & Biases.

    report = read_report(db, "photos.db", 12)     # what is told of run 12
    where = TRACKERS["mlflow"]().log(report, figures)

The run is stored first, and a tracker that fails takes nothing from it. `report` and `figures` say what
is told, `mlflow_runs` and `wandb_runs` tell it; `option` is `--track`, the same on every command.
"""

from nearsql.pipeline.tracking.report import Metric, RunReport, read_report
from nearsql.pipeline.tracking.trackers import TRACKERS, Tracker, tracker

__all__ = ["TRACKERS", "Metric", "RunReport", "Tracker", "read_report", "tracker"]
