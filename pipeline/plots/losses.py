"""The losses of a detector's run as histograms, a panel a component."""

from collections import Counter

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.drawn_run import caption, drawn_run
from nearsql.pipeline.plots.look import (
    INK,
    PALETTE,
    Plot,
    in_our_look,
    new_figure,
    plain,
    refuse_wild,
    write_heading,
)
from nearsql.udfs import dbapi

# Panels in one plot.
MOST_COMPONENTS = 24
_MOST_BINS = 60


@in_our_look
def losses_plot(db: dbapi.Connection, run_id: int) -> Plot:
    """How the losses of each component are spread over the images that a run of `detect` measured.

    The line is the median. Images without a loss are counted, with the reason. Raises LookupError and
    UserError for a run that is not there or measured no loss.
    """
    run = drawn_run(db, "losses", run_id)
    values: dict[str, list[float]] = {}
    without: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for component, value, reason in db.execute(
        "select component, value, reason from losses where run_id = ? order by component, item_id",
        (run_id,),
    ):
        own = values.setdefault(component, [])
        if value is None:
            without[component] += 1
            reasons.setdefault(component, reason)
        else:
            own.append(value)
    if not any(values.values()):
        why = f": {plain(next(iter(reasons.values())), 200)}" if reasons else ""
        raise UserError(f"run {run_id} measured no losses{why}")
    if len(values) > MOST_COMPONENTS:
        raise UserError(
            f"run {run_id} has {len(values)} components of loss: more than {MOST_COMPONENTS} are too"
            " many for one plot"
        )
    columns = min(2, len(values))
    rows = -(-len(values) // columns)
    figure = new_figure(4.6 * columns + 0.4, 2.8 * rows + 1.1)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (axes, component) in enumerate(zip(grid, values, strict=False)):
        found = np.array(values[component])
        refuse_wild(found, f"run {run_id} has a loss of")
        lacking = f", {without[component]:,} without" if without[component] else ""
        if not len(found):
            axes.set_title(f"{plain(component)}: none{lacking}", loc="left")
            axes.text(
                0.5, 0.5, plain(reasons[component], 60), ha="center", transform=axes.transAxes
            )
            axes.set(xticks=[], yticks=[])
            continue
        bins = min(_MOST_BINS, max(5, round(2 * len(found) ** 0.5)))
        axes.hist(found, bins=bins, color=PALETTE[number % len(PALETTE)])
        median = float(np.median(found))
        axes.axvline(median, color=INK, linestyle="--", linewidth=1)
        axes.set_title(
            f"{plain(component)}: {len(found):,} images, median {median:.4g}{lacking}", loc="left"
        )
        axes.set_xlabel("loss")
        axes.set_ylabel("images")
    for axes in grid[len(values) :]:
        axes.set_visible(False)
    (model,) = db.execute(
        "select (select name from models where id = model_id) from runs where id = ?", (run_id,)
    ).fetchone()
    images = max(len(own) for own in values.values())
    title = f"Losses of {plain(model or 'a detector')}: {images:,} images"
    write_heading(figure, title, caption(run))
    facts = {"components": ", ".join(map(plain, values)), "images": images}
    if without:
        facts["without"] = ", ".join(
            f"{plain(name)} {n:,} ({plain(reasons[name], 80)})" for name, n in without.items()
        )
    return Plot(figure, facts)
