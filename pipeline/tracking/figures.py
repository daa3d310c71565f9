"""The plots that a tracker is given of a run: those that `nearsql plot` draws of its kind."""

from collections.abc import Callable, Iterator
from pathlib import Path

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.look import Plot, refuse_without_matplotlib
from nearsql.pipeline.tracking.report import RunReport
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


def draw_figures(
    db: dbapi.Connection, report: RunReport, folder: Path
) -> tuple[list[Path], list[str]]:
    """Draws the run's plots as PNG files into the folder.

    Gives the files, and a sentence for each plot that could not be drawn; a run that measured nothing has
    nothing to draw.
    """
    files: list[Path] = []
    problems: list[str] = []
    for name, draw in _plots(db, report):
        path = folder / f"{name}.png"
        try:
            refuse_without_matplotlib()
            draw().save(path)
            files.append(path)
        except (UserError, LookupError) as error:
            problems.append(f"no plot of the {name}: {error}")
    return files, problems


def _plots(db: dbapi.Connection, report: RunReport) -> Iterator[tuple[str, Callable[[], Plot]]]:
    run = report.run_id
    if report.kind == "evaluate":
        from nearsql.pipeline.plots.confusion import confusion_plot
        from nearsql.pipeline.plots.evaluation import evaluation_plot

        yield "evaluation", lambda: evaluation_plot(db, run)
        if report.parameters.get("label") is not None:
            yield "confusion", lambda: confusion_plot(db, run)
    elif report.kind == "project":
        from nearsql.pipeline.plots.maps import map_plot

        yield "map", lambda: map_plot(db, run)
    elif report.kind == "cluster":
        from nearsql.pipeline.plots.maps import map_plot

        drawn_on = _map_of(db, run)
        if drawn_on is not None:
            yield "map", lambda: map_plot(db, drawn_on, clustering=run)
    elif report.kind == "detect" and _has_losses(db, run):
        from nearsql.pipeline.plots.losses import losses_plot

        yield "losses", lambda: losses_plot(db, run)


def _map_of(db: dbapi.Connection, clustering: int) -> int | None:
    """The newest map of the space that was clustered; None when there is none."""
    row = db.execute(
        read_sql("nearsql.pipeline.export", "pair"), {"clustering": clustering, "map": None}
    ).fetchone()
    return None if row is None else int(row[1])


def _has_losses(db: dbapi.Connection, run: int) -> bool:
    row = db.execute(
        "select 1 from losses where run_id = ? and value is not null limit 1", (run,)
    ).fetchone()
    return row is not None
