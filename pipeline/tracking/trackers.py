"""The trackers there are, behind one small face."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nearsql.pipeline.tracking.report import RunReport

# name -> where the class is. Its module imports the library when it is asked to, and not before.
TRACKERS = {
    "mlflow": "nearsql.pipeline.tracking.mlflow_runs:Mlflow",
    "wandb": "nearsql.pipeline.tracking.wandb_runs:Wandb",
}


class Tracker(Protocol):
    """Keeps records of runs."""

    def refuse_unready(self) -> None:
        """Raises UserError where it cannot work: not installed, not logged in, out of reach.

        Asked before the run begins.
        """

    def log(self, report: RunReport, figures: Sequence[Path]) -> str:
        """Makes a record of the run, with its plots (PNG files), and says where it is.

        Whatever the library raises comes through; what there is of the record is then marked as failed.
        """


def tracker(name: str) -> Tracker:
    """The tracker of this name, one of TRACKERS."""
    module, _, found = TRACKERS[name].partition(":")
    made: Tracker = getattr(importlib.import_module(module), found)()
    return made
