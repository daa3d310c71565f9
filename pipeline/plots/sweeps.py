"""A sweep of minimum cluster sizes as a plot: clusters above, shares of all items below."""

from collections.abc import Sequence
from itertools import pairwise

from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots.look import (
    PALETTE,
    SOFT,
    Plot,
    in_our_look,
    new_figure,
    write_heading,
)
from nearsql.udfs.clustering.sweep import SweepRow, suggested_size

# More sizes than these are not all written along the axis.
MOST_TICKS = 25
_BLUE, _ORANGE, _RED = PALETTE[0], PALETTE[1], PALETTE[5]


@in_our_look
def sweep_plot(rows: Sequence[SweepRow], space: str, min_samples: int, downsample: int) -> Plot:
    """Draws the rows of a sweep of the space, ascending by size; spans in red are cliffs."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

    if not rows:
        raise UserError("a sweep of no sizes has nothing to draw")
    sizes = [row.min_cluster_size for row in rows]
    figure = new_figure(8, 6.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(sizes, [row.clusters for row in rows], marker="o", color=_BLUE)
    above.set_ylabel("clusters")
    above.set_ylim(bottom=0)
    above.yaxis.set_major_locator(MaxNLocator(integer=True))
    noise = [row.noise_share for row in rows]
    largest = [row.largest_share for row in rows]
    below.plot(sizes, noise, marker="o", color=SOFT, label="noise")
    below.plot(sizes, largest, marker="s", color=_ORANGE, label="largest cluster")
    below.set_ylabel("share of all items")
    below.set_ylim(-0.02, 1.02)
    below.yaxis.set_major_formatter(PercentFormatter(1))
    below.set_xlabel("min_cluster_size")
    below.set_xscale("log")
    if len(sizes) <= MOST_TICKS:
        below.set_xticks(sizes)
        below.xaxis.set_minor_locator(NullLocator())
    below.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    below.tick_params(axis="x", rotation=45)
    label = "cliff"
    for before, row in pairwise(rows):
        if row.is_cliff:
            span = (before.min_cluster_size, row.min_cluster_size)
            above.axvspan(*span, color=_RED, alpha=0.15, linewidth=0)
            below.axvspan(*span, color=_RED, alpha=0.15, linewidth=0, label=label)
            label = ""  # one entry of the legend for all of them
    below.legend(loc="best")
    caption = f"hdbscan, min_samples {min_samples}, downsample {downsample}"
    write_heading(figure, f"{space}: a sweep of min_cluster_size", caption)
    size = suggested_size(rows)
    lasting = "none finds two clusters" if size is None else f"{size}"
    return Plot(figure, {"sizes": len(rows), "lasts longest": lasting})
