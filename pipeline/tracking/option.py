"""`--track`: the runs that a command makes are told to a tracker, too, once they are stored."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from nearsql.pipeline.console import command_line, say
from nearsql.pipeline.tracking.trackers import TRACKERS, Tracker, tracker
from nearsql.udfs.connection import open_database

Command = TypeVar("Command", bound=Callable[..., Any])

# The exit code where all is done and stored, and only the tracker has no record of it.
NOT_TRACKED = 3


def add_track(command: Command) -> Command:
    """Decorates a command of runs of its argument FILE with the option --track.

    The command itself is not told of it. The tracker is asked whether it can work before the command begins,
    and given the finished runs when it has ended.
    """

    @wraps(command)
    def tracked(*args: Any, track: str | None, **options: Any) -> Any:
        if track is None:
            return command(*args, **options)
        keeper = tracker(track)
        file = options["file"]
        before = _finished_runs(file)
        keeper.refuse_unready()
        result = command(*args, **options)
        runs = sorted(_finished_runs(file) - before)
        if runs:
            track_runs(file, runs, track, keeper)
        else:
            say(f"no run was made, and {track} was told of none")
        return result

    option = click.option(
        "--track",
        type=click.Choice(list(TRACKERS)),
        help="Tell MLflow or Weights & Biases of the run when it is stored: parameters, metrics, plots. See"
        " docs/trackers.md.",
    )
    return cast(Command, option(tracked))


def track_runs(file: str, runs: Sequence[int], name: str, keeper: Tracker) -> None:
    """Tells the tracker of these runs of the file, and says where its records are.

    When it fails, says which runs it has no record of and how to tell it later, and ends with the exit
    code NOT_TRACKED: the runs are stored, and stay.
    """
    from nearsql.pipeline.plots.look import plain
    from nearsql.pipeline.tracking.figures import draw_figures
    from nearsql.pipeline.tracking.report import read_report

    failed = []
    with closing(open_database(file, read_only=True)) as db:
        for report in [read_report(db, file, run) for run in runs]:
            run = report.run_id
            with tempfile.TemporaryDirectory() as folder:
                figures, problems = draw_figures(db, report, Path(folder))
                for problem in problems:
                    say(problem)
                try:
                    where = keeper.log(report, figures)
                except Exception as error:  # noqa: BLE001 - the library's, the network's, the disk's
                    failed.append(run)
                    why = plain(error, 300) if str(error) else type(error).__name__
                    say(f"nearsql: run {run} is stored, but {name} failed: {why}")
                else:
                    say(f"run {run} in {name}: {where}")
    if failed:
        again = command_line("nearsql", "track", file, *failed, "--with", name)
        say(f"  next: {again}")
        sys.exit(NOT_TRACKED)


def _finished_runs(file: str) -> set[int]:
    """The runs of this process that have finished: it may have made others in the file before."""
    from nearsql.pipeline.runs import this_process

    with closing(open_database(file, read_only=True)) as db:
        rows = db.execute(
            "select id from runs where process = ? and status = 'finished'", (this_process(),)
        ).fetchall()
    return {run for (run,) in rows}
