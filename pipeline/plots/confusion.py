"""What an evaluation took for what: a square of labels, each row the items that really have one."""

from collections import Counter
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.drawn_run import caption, drawn_run
from nearsql.pipeline.plots.look import (
    INK,
    PALETTE,
    Plot,
    in_our_look,
    natural_order,
    new_figure,
    plain,
    write_heading,
)
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# More labels than these: the most frequent ones, and one row and column for all others.
MOST_LABELS = 30
NO_VOTE = "no vote"


@in_our_look
def confusion_plot(
    db: dbapi.Connection,
    run_id: int,
    *,
    space: str | None = None,
    k: int | None = None,
    weighting: str | None = None,
) -> Plot:
    """The confusion of one setting of a run of `evaluate` that judged a label.

    Colours are shares of each row, numbers in the cells are items. What is not given is that of the most
    accurate setting. Raises LookupError and UserError for runs and settings that are not there.
    """
    run = drawn_run(db, "confusion", run_id)
    if run.parameters.get("label") is None:
        raise UserError(f"run {run_id} judged a number, not a label: see `plot evaluation`")
    asked = {"space": space, "k": k, "weighting": weighting}
    row = db.execute(
        read_sql(__package__, "best_setting"), {"evaluation": run_id, **asked}
    ).fetchone()
    if row is None:
        told = ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
        raise UserError(f"run {run_id} has no setting with {told or 'an accuracy'}")
    space, k, weighting = row
    cells = db.execute(
        "select c.y_true, c.y_pred, c.n from cv_confusion c join spaces s on s.id = c.space_id"
        " where c.run_id = ? and s.name = ? and c.k = ? and c.weighting = ?",
        (run_id, space, k, weighting),
    ).fetchall()
    if not cells:
        raise UserError(f"run {run_id} has no predictions of that setting to draw")
    names, counts, others = _square(cells)
    right, items = sum(n for true, predicted, n in cells if true == predicted), counts.sum()
    from matplotlib.colors import LinearSegmentedColormap

    side = max(5.0, 2.5 + 0.36 * len(names))
    figure = new_figure(side + 1.6, side + 1.0)
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = LinearSegmentedColormap.from_list("shares", ("white", PALETTE[0], INK))
    image = axes.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="auto")
    axes.grid(False)
    for (i, j), n in np.ndenumerate(counts):
        if n:
            shade = "white" if shares[i, j] > 0.4 else INK
            axes.text(j, i, f"{n:,}", ha="center", va="center", fontsize=7, color=shade)
    shown = [plain(name, 24) for name in names]
    axes.set_xticks(range(counts.shape[1]), shown[: counts.shape[1]], rotation=90)
    axes.set_yticks(range(counts.shape[0]), shown[: counts.shape[0]])
    axes.set_xlabel("predicted by its neighbours")
    axes.set_ylabel(f"true {plain(run.parameters['label'])}")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, label="share of the row's items")
    bar.outline.set_visible(False)
    setting = f"{plain(space)}, k {k}, {plain(weighting, 30)}"
    write_heading(figure, f"{setting}: {right:,} of {int(items):,} right", caption(run))
    facts: dict[str, Any] = {"setting": setting, "items": int(items), "right": int(right)}
    if others:
        facts["labels in one row"] = others
    return Plot(figure, facts)


def _square(cells: list[tuple[Any, Any, int]]) -> tuple[list[Any], np.ndarray, int]:
    """The labels, (true, predicted) counts, and how many labels share the last row and column.

    Labels are in natural order, then those that share a row, then, in columns only, items without a vote.
    """
    times: Counter[Any] = Counter()
    for true, predicted, n in cells:
        times[true] += n
        if predicted is not None:
            times[predicted] += 0
    frequent = sorted(times, key=lambda label: (-times[label], natural_order(label)))
    own = sorted(frequent[:MOST_LABELS], key=natural_order)
    places = {label: i for i, label in enumerate(own)}
    others = len(frequent) - len(own)
    names = [*own, *([f"{others:,} others"] if others else [])]
    n_labels = len(names)
    is_silent = any(predicted is None for _, predicted, _ in cells)
    counts = np.zeros((n_labels, n_labels + is_silent), np.int64)
    for true, predicted, n in cells:
        j = n_labels if predicted is None else places.get(predicted, n_labels - 1)
        counts[places.get(true, n_labels - 1), j] += n
    return [*names, *([NO_VOTE] if is_silent else [])], counts, others
