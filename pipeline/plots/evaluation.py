"""The metrics of an evaluation as curves over k: a line for each space and weighting, a panel a metric."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.drawn_run import caption, drawn_run
from nearsql.pipeline.plots.look import (
    PALETTE,
    Plot,
    in_our_look,
    legend_name,
    new_figure,
    plain,
    refuse_wild,
    write_heading,
)
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In this order; those of numbers after those of labels.
METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "top_5_accuracy": "top-5 accuracy",
    "retrieval_map": "retrieval mAP",
    "r2": "R²",
    "mae": "mean absolute error",
    "spearman": "Spearman's rank correlation",
}
# The range of the folds is shown of so many lines; more would cover each other.
MOST_RANGES = 6
MOST_LINES = 60
_STYLES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


class _Value(NamedTuple):
    space: str
    weighting: str
    metric: str
    k: int
    value: float | None
    worst_fold: float | None
    best_fold: float | None
    reason: str | None

    @property
    def line(self) -> tuple[str, str]:
        return self.space, self.weighting


@in_our_look
def evaluation_plot(
    db: dbapi.Connection, run_id: int, *, metrics: Sequence[str] | None = None
) -> Plot:
    """The curves of a run of `evaluate`. metrics: some of METRICS; None: those that it has.

    Where a metric is undefined the line has a gap. Raises LookupError and UserError for a run that is not
    there or has nothing to draw.
    """
    run = drawn_run(db, "evaluation", run_id)
    rows = [
        _Value(*row)
        for row in db.execute(read_sql(__package__, "curves"), {"evaluation": run_id}).fetchall()
    ]
    found = [metric for metric in METRICS if any(row.metric == metric for row in rows)]
    for metric in metrics or ():
        if metric not in found:
            raise UserError(
                f"run {run_id} has no metric {metric!r}: it has {', '.join(found) or 'none'}"
            )
    shown = [metric for metric in found if metrics is None or metric in metrics]
    rows = [row for row in rows if row.metric in shown]
    if all(row.value is None for row in rows):
        why = next((row.reason for row in rows), None) or "its metrics are gone"
        raise UserError(f"run {run_id} has no value to draw: {plain(why, 200)}")
    values = [v for row in rows for v in (row.value, row.worst_fold, row.best_fold)]
    refuse_wild(
        np.array([value for value in values if value is not None]), f"run {run_id} has a metric of"
    )
    lines = list(dict.fromkeys(row.line for row in rows))
    if len(lines) > MOST_LINES:
        raise UserError(
            f"run {run_id} has {len(lines)} spaces and weightings: more than {MOST_LINES} lines"
            " cannot be told apart"
        )
    columns = min(2, len(shown))
    panels = -(-len(shown) // columns)
    figure = new_figure(4.6 * columns + 2.4, 3.2 * panels + 1.1)
    grid = figure.subplots(panels, columns, squeeze=False, sharex=True).ravel()
    for axes, metric in zip(grid, shown, strict=False):
        _draw(axes, lines, [row for row in rows if row.metric == metric])
        axes.set_title(METRICS[metric], loc="left")
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
        # The one above it is then the last of its column.
        grid[len(shown) - columns].tick_params(labelbottom=True)
    for axes in grid[: len(shown)][-columns:]:
        axes.set_xlabel("k, how many neighbours vote")
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside right upper",
        title="weighting" if _one_space(lines) else "space, weighting",
    )
    target = run.parameters.get("label") or run.parameters.get("target")
    of_what = f"of {plain(lines[0][0])} " if _one_space(lines) else ""
    title = f"Evaluation {of_what}for {plain(target)}, {run.parameters.get('folds', '?')} folds"
    bands = "; shaded: from the worst to the best fold" if len(lines) <= MOST_RANGES else ""
    write_heading(figure, title, caption(run) + bands)
    facts: dict[str, Any] = {"metrics": ", ".join(shown), "lines": len(lines)}
    if undefined := sum(row.value is None for row in rows):
        facts["undefined"] = undefined
    return Plot(figure, facts)


def _one_space(lines: Sequence[tuple[str, str]]) -> bool:
    return len({space for space, _ in lines}) == 1


def _draw(axes: "Axes", lines: Sequence[tuple[str, str]], rows: Sequence[_Value]) -> None:
    """One metric's lines, all of them named, so that each panel has the same."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    spaces = list(dict.fromkeys(space for space, _ in lines))
    weightings = sorted({weighting for _, weighting in lines})
    for space, weighting in lines:
        own = [row for row in rows if row.line == (space, weighting)]
        number, turn = spaces.index(space), weightings.index(weighting)
        if len(spaces) == 1:
            colour, name = PALETTE[turn % len(PALETTE)], legend_name(weighting)
        else:
            colour = PALETTE[number % len(PALETTE)]
            name = legend_name(f"{plain(space, 30)}, {plain(weighting, 20)}")
        ks = [row.k for row in own]
        axes.plot(
            ks,
            [np.nan if row.value is None else row.value for row in own],
            color=colour,
            linestyle=_STYLES[turn % len(_STYLES)],
            marker=_MARKERS[turn % len(_MARKERS)],
            markersize=4,
            label=name,
        )
        if len(lines) <= MOST_RANGES:
            low = [np.nan if row.worst_fold is None else row.worst_fold for row in own]
            high = [np.nan if row.best_fold is None else row.best_fold for row in own]
            axes.fill_between(ks, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({row.k for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
