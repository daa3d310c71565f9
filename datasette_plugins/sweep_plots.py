"""A sweep of minimum cluster sizes laid out for an SVG: clusters above, shares of all items below."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nearsql.datasette_plugins.pages import Row

WIDTH, PANEL, GAP = 720.0, 190.0, 30.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 26.0, 30.0
# Sizes along the axis are so far apart, in pixels, that their numbers do not touch.
_TICK_APART = 26.0
_STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Point:
    """One size on a line, in pixels, and what it says when pointed at."""

    x: float
    y: float
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the plot: its name, its style's name, its path, and its points."""

    name: str
    style: str
    path: str
    points: list[Point]


@dataclass(frozen=True, slots=True)
class SweepPlot:
    """Everything the template draws. ticks: (place, text); cliffs: (x, width, words); panels: top edges."""

    width: float
    height: float
    left: float
    right: float
    panels: tuple[float, float]
    panel: float
    lines: list[Line]
    cliffs: list[tuple[float, float, str]]
    sizes: list[tuple[float, str]]
    counts: list[tuple[float, str]]
    shares: list[tuple[float, str]]
    chosen: float | None


def plot_sweep(rows: list[Row], chosen: int | None) -> SweepPlot:
    """The plot of the rows of cluster_sweep.sql, ascending by size; chosen: the size to mark, if any."""
    across = _across([row["min_cluster_size"] for row in rows], chosen)
    tops = (TOP, TOP + PANEL + GAP)
    most = _step_above(max(row["clusters"] for row in rows))

    def count_at(n: float) -> float:
        return tops[0] + PANEL * (1 - n / (most * 5))

    def share_at(share: float) -> float:
        return tops[1] + PANEL * (1 - share)

    def line(name: str, style: str, place: Callable[[Row], float], words: str) -> Line:
        points = [
            Point(across(row["min_cluster_size"]), place(row), words.format(**row)) for row in rows
        ]
        path = "M" + " L".join(f"{p.x:.1f},{p.y:.1f}" for p in points)
        return Line(name, style, path, points)

    at = "at least {min_cluster_size:,}: "
    return SweepPlot(
        width=WIDTH,
        height=tops[1] + PANEL + BOTTOM,
        left=LEFT,
        right=WIDTH - RIGHT,
        panels=tops,
        panel=PANEL,
        lines=[
            line(
                "clusters",
                "clusters",
                lambda r: count_at(r["clusters"]),
                at + "{clusters:,} clusters",
            ),
            line(
                "noise",
                "noise",
                lambda r: share_at(r["noise_share"]),
                at + "{noise_share:.1%} noise",
            ),
            line(
                "largest cluster",
                "largest",
                lambda r: share_at(r["largest_share"]),
                at + "{largest_share:.1%} in the largest cluster",
            ),
        ],
        cliffs=[_cliff(across, before, row) for before, row in pairwise(rows) if row["is_cliff"]],
        sizes=_ticks([(across(row["min_cluster_size"]), row["min_cluster_size"]) for row in rows]),
        counts=[(count_at(i * most), f"{i * most:,}") for i in range(6)],
        shares=[(share_at(i / 4), f"{25 * i}%") for i in range(5)],
        chosen=None if chosen is None else across(chosen),
    )


def _across(sizes: list[int], chosen: int | None) -> Callable[[int], float]:
    """Where a size lies, in pixels: by its logarithm."""
    shown = sizes if chosen is None else [*sizes, chosen]
    first, last = math.log(min(shown)), math.log(max(shown))
    inside = WIDTH - LEFT - RIGHT - 24  # so that points do not lie on the edges

    def place(size: int) -> float:
        share = (math.log(size) - first) / (last - first) if last > first else 0.5
        return LEFT + 12 + inside * share

    return place


def _cliff(across: Callable[[int], float], before: Row, row: Row) -> tuple[float, float, str]:
    start, end = across(before["min_cluster_size"]), across(row["min_cluster_size"])
    words = (
        f"a cliff between {before['min_cluster_size']:,} and {row['min_cluster_size']:,}:"
        f" from {before['clusters']:,} clusters and {before['noise_share']:.1%} noise"
        f" to {row['clusters']:,} and {row['noise_share']:.1%}"
    )
    return start, end - start, words


def _ticks(places: list[tuple[float, Any]]) -> list[tuple[float, str]]:
    """Those that fit beside each other, from the left."""
    ticks: list[tuple[float, str]] = []
    for x, value in places:
        text = f"{value:,}"
        if not ticks or x - ticks[-1][0] >= max(_TICK_APART, 6.5 * len(text) + 8):
            ticks.append((x, text))
    return ticks


def _step_above(most: int) -> int:
    """The smallest round step of which five reach `most`."""
    power = 1
    while True:
        for step in _STEPS:
            if 5 * step * power >= most:
                return step * power
        power *= 10
