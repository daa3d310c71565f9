"""True numbers against predicted ones, laid out for an SVG with the same scale on both axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.datasette_plugins.line_plots import nice_ticks, tick_text
from nearsql.datasette_plugins.pages import Row

SIZE = 380.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 10.0, 10.0, 40.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One item on the plot, in pixels."""

    item: int
    truth: float
    estimate: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class ScatterPlot:
    """Everything the template draws. across and up: (place, text) of the ticks."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    dots: list[Dot]


def scatter_plot(rows: Sequence[Row]) -> ScatterPlot | None:
    """The plot of rows with item_id, truth and estimate; None where there is nothing to draw."""
    rows = [r for r in rows if math.isfinite(r["truth"]) and math.isfinite(r["estimate"])]
    if not rows:
        return None
    numbers = [float(r[name]) for r in rows for name in ("truth", "estimate")]
    ticks = nice_ticks(min(numbers), max(numbers))
    low, span = ticks[0], ticks[-1] - ticks[0]
    right, bottom = LEFT + SIZE, TOP + SIZE

    def share(value: float) -> float:
        return min(max((value - low) / span, 0.0), 1.0)

    return ScatterPlot(
        right + RIGHT,
        bottom + BOTTOM,
        LEFT,
        right,
        TOP,
        bottom,
        [(LEFT + SIZE * share(tick), tick_text(tick, ticks)) for tick in ticks],
        [(bottom - SIZE * share(tick), tick_text(tick, ticks)) for tick in ticks],
        [
            Dot(
                r["item_id"],
                r["truth"],
                r["estimate"],
                LEFT + SIZE * share(r["truth"]),
                bottom - SIZE * share(r["estimate"]),
            )
            for r in rows
        ],
    )
