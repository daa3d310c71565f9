"""A sweep of minimum cluster sizes as a drawing: clusters above, shares of all items below."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nearsql.pipeline.console import UserError
from nearsql.udfs.clustering.sweep import SweepRow

SUFFIXES = (".svg", ".png")
# More sizes than these are not all written along the axis.
MOST_TICKS = 25


def refuse_plot(path: str) -> None:
    """Raises UserError when a plot could not be drawn to the path: asked before what takes long."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f"--plot {path}: the name must end in {' or '.join(SUFFIXES)}")
    if not Path(path).resolve().parent.is_dir():
        raise UserError(f"--plot {path}: there is no folder {Path(path).resolve().parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "--plot needs matplotlib, which is not installed: pip install 'nearsql[plot]'"
        ) from None


def plot_sweep(rows: Sequence[SweepRow], path: str, *, title: str = "") -> None:
    """Draws the rows, ascending by size, into an SVG or PNG file; the same rows, the same SVG."""
    refuse_plot(path)
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

    sizes = [row.min_cluster_size for row in rows]
    # Not pyplot, which looks for a screen. Ids of an SVG are drawn from the salt.
    with matplotlib.rc_context({"svg.hashsalt": "nearsql", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(sizes, [row.clusters for row in rows], marker="o", color="tab:blue")
        above.set_ylabel("clusters")
        above.set_ylim(bottom=0)
        above.yaxis.set_major_locator(MaxNLocator(integer=True))
        shares = {"noise": "noise_share", "largest cluster": "largest_share"}
        for (label, name), color in zip(shares.items(), ("tab:gray", "tab:orange"), strict=True):
            share = [getattr(row, name) for row in rows]
            below.plot(sizes, share, marker="o", color=color, label=label)
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
                above.axvspan(*span, color="tab:red", alpha=0.15, linewidth=0)
                below.axvspan(*span, color="tab:red", alpha=0.15, linewidth=0, label=label)
                label = ""  # one entry of the legend for all of them
        below.legend(loc="best")
        figure.suptitle(title)
        metadata = {"Date": None, "Creator": None} if path.lower().endswith(".svg") else None
        figure.savefig(path, metadata=metadata, dpi=150)
