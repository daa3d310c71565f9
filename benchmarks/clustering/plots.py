"""The page's two drawings: beside the library, and against the number of points."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from benchmarks.clustering import library, scale
from benchmarks.clustering.page import LIBRARY, SIZES
from benchmarks.drawing import OTHERS, OURS, plain_ticks, save, style
from benchmarks.search.results import Result

# What is drawn of each section: by colour and marker, under this name.
_LINES = {
    scale.EXACT: ("exact", OURS, "o"),
    scale.GRAPH: ("from a graph", "#2a9d5c", "s"),
}


def draw(results: Sequence[Result], folder: Path) -> list[str]:
    """Writes the drawings for which there are figures; their file names."""
    drawn = []
    with style():
        if beside := [one for one in results if one.section == library.SECTION]:
            save(_library(beside), folder / LIBRARY)
            drawn.append(LIBRARY)
        if sizes := [one for one in results if one.section in _LINES]:
            save(_sizes(sizes), folder / SIZES)
            drawn.append(SIZES)
    return drawn


def _library(results: Sequence[Result]) -> Any:
    """Two bars a data set, seconds on a logarithmic scale."""
    ordered = sorted(results, key=lambda one: one.value("times as fast"))
    figure, axes = pyplot.subplots(figsize=(8, 0.62 * len(ordered) + 1), layout="constrained")
    for name, colour, shift in (("hdbscan", OTHERS, 0.19), ("nearsql", OURS, -0.19)):
        seconds = [one.value(name) for one in ordered]
        places = [row + shift for row in range(len(ordered))]
        bars = axes.barh(places, seconds, height=0.36, color=colour, label=name)
        axes.bar_label(bars, [f" {value:.3g} s" for value in seconds], fontsize=9)
    names = [f"{one.case}\n{one.value('times as fast'):.1f} times as fast" for one in ordered]
    axes.set_yticks(range(len(ordered)), names)
    axes.set_xscale("log")
    axes.set_xlim(right=4 * max(one.value("hdbscan") for one in ordered))
    plain_ticks(axes.xaxis)
    axes.set_xlabel("seconds on one thread (log scale), with the same labels")
    axes.legend(loc="lower right", frameon=False)
    return figure


def _sizes(results: Sequence[Result]) -> Any:
    """Seconds against points, a line for each way on the synthetic points; other data sets by a name."""
    figure, axes = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
    for section, (name, colour, marker) in _LINES.items():
        found = sorted((one for one in results if one.section == section), key=lambda one: one.n)
        line = [one for one in found if one.case.startswith(scale.SYNTHETIC)]
        axes.plot(
            *([one.n for one in line], [one.value("total") for one in line]),
            color=colour,
            marker=marker,
            label=f"{name}, {scale.SYNTHETIC} of {scale.DIMENSIONS} dimensions",
        )
        for one in found:
            if one not in line:
                axes.plot(one.n, one.value("total"), marker, color=colour, mfc="white")
                axes.annotate(
                    f"{one.case.split(',')[0]}, {name}",
                    (one.n, one.value("total")),
                    xytext=(8, -14),
                    textcoords="offset points",
                    fontsize=9,
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    axes.set_xlabel("points (log scale)")
    axes.set_ylabel("seconds, all included (log scale)")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure
