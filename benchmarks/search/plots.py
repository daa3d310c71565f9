"""The page's two drawings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.drawing import OTHERS, OURS, save, style
from benchmarks.search import exact, floors, indexed
from benchmarks.search.results import Result

ONE_QUERY = "benchmark_one_query.svg"
RECALL = "benchmark_recall.svg"

STYLES = {
    indexed.nearsql_name("hnsw"): ("#1b6ca8", "o", "-"),
    indexed.faiss_name("hnsw"): ("#1b6ca8", "o", ":"),
    indexed.nearsql_name("ivf"): ("#2a9d5c", "s", "-"),
    indexed.faiss_name("ivf"): ("#2a9d5c", "s", ":"),
    indexed.HNSWLIB: ("#c8553d", "^", "-"),
    indexed.USEARCH: ("#8a5fb0", "v", "-"),
}


def draw(results: Sequence[Result], folder: Path) -> list[str]:
    """Writes the drawings for which there are figures; their file names."""
    drawn = []
    with style():
        if queries := [one for one in results if one.section == "one query"]:
            save(_one_query(queries), folder / ONE_QUERY)
            drawn.append(ONE_QUERY)
        if curves := [one for one in results if one.section == "indexed" and one.figures]:
            save(_recall(curves), folder / RECALL)
            drawn.append(RECALL)
    return drawn


def _one_query(results: Sequence[Result]) -> Any:
    """Times as multiples of the floor, on a logarithmic scale."""
    heights = [len(one.figures) for one in results]
    figure, axes = pyplot.subplots(
        len(results),
        1,
        figsize=(8, 0.34 * sum(heights) + 0.9 * len(results)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, one in zip(axes[:, 0], results, strict=True):
        floor = one.value(floors.READ)
        ordered = sorted(one.figures, key=lambda figure: figure.value, reverse=True)
        names = [figure.name for figure in ordered]
        ratios = [figure.value / floor for figure in ordered]
        colours = [
            OURS if name.startswith("nearsql") else "black" if name == floors.READ else OTHERS
            for name in names
        ]
        bars = axis.barh(names, ratios, color=colours, height=0.7, left=0)
        axis.bar_label(bars, [f" {ratio:.2f}" for ratio in ratios], fontsize=9)
        axis.set_xscale("log")
        axis.set_xlim(0.5, max(ratios) * 2)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(
            f"one exact query, k = {exact.K}, {one.case}, {one.threads} threads", size=10
        )
    axes[-1, 0].set_xlabel("time, in readings of the matrix from memory (log scale)")
    return figure


def _recall(results: Sequence[Result]) -> Any:
    """Queries a second against recall@10, one line for each engine."""
    figure, axes = pyplot.subplots(
        1,
        len(results),
        figsize=(max(7.5, 5.4 * len(results)), 5),
        squeeze=False,
        layout="constrained",
    )
    for axis, one in zip(axes[0], results, strict=True):
        for name, (colour, marker, line) in STYLES.items():
            points = [  # in the order of the effort
                (figure.also["recall"], 1 / figure.value)
                for figure in one.figures
                if figure.name.rpartition(", ")[0] == name and figure.name != indexed.as_built(name)
            ]
            if points:
                recalls, rates = zip(*points, strict=True)
                axis.plot(recalls, rates, line, color=colour, marker=marker, ms=4, label=name)
        slow = one.get(indexed.EXACT)
        if slow:
            axis.axhline(1 / slow.value, color="black", linewidth=0.8, label=indexed.EXACT)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_xlabel(f"recall@{indexed.K}")
        axis.set_title(one.case, size=10)
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("queries a second, one after the other (log scale)")
    lines, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure
