"""Lines over a few steps, laid out for an SVG: where each point lies, and what the axes say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

COLOURS = 20  # in nearsql.css
WIDTH, HEIGHT = 620.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 12.0, 34.0
TICKS = 5
# So far apart, in pixels, are lines at the same step, that each can be told from the others.
_BESIDE = 7.0
_STEPS = (1, 2, 2.5, 5, 10)
_LARGEST = 1e300

# What its points look like, besides their colour: one for each line, and then from the start.
SHAPES = ("circle", "square", "diamond", "triangle", "cross")


@dataclass(frozen=True, slots=True)
class Line:
    """A named line. points: (what it is, its step, its value, the least and the most it may be or None)."""

    name: str
    points: list[tuple[Any, Any, float, float | None, float | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A point of a line on the plot, in pixels; y_low and y_high are the ends of its range."""

    what: Any
    step: Any
    value: float
    low: float | None
    high: float | None
    x: float
    y: float
    y_low: float | None
    y_high: float | None


@dataclass(frozen=True, slots=True)
class DrawnLine:
    """A line on the plot: its colour's number, its shape, its path, and its points."""

    name: str
    colour: int
    shape: str
    path: str
    points: list[Drawn]


@dataclass(frozen=True, slots=True)
class LinePlot:
    """Everything the template draws. ticks: (y, text); steps: (x, text)."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    ticks: list[tuple[float, str]]
    steps: list[tuple[float, str]]
    lines: list[DrawnLine]


def line_plot(lines: Sequence[Line], steps: Sequence[Any]) -> LinePlot | None:
    """The lines over evenly spaced steps; None where there is nothing to draw.

    The axis of values holds all values, and the ranges of the folds as well where the lines are few.
    """
    lines = [line for line in lines if line.points]
    values = [p[2] for line in lines for p in line.points if math.isfinite(p[2])]
    if not values:
        return None
    with_ranges = len(lines) <= 4
    ends = [
        end
        for line in lines
        for p in line.points
        for end in p[3:5]
        if with_ranges and end is not None and math.isfinite(end)
    ]
    ticks = nice_ticks(min(values + ends), max(values + ends))
    low, high = ticks[0], ticks[-1]
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def y_of(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return bottom - (bottom - TOP) * (min(max(value, low), high) - low) / (high - low)

    beside = min(_BESIDE, 28.0 / len(lines))
    gap = (right - LEFT) / len(steps)
    places = {step: LEFT + gap * (i + 0.5) for i, step in enumerate(steps)}
    drawn = []
    for number, line in enumerate(lines):
        shift = beside * (number - (len(lines) - 1) / 2)
        points = []
        for what, step, value, least, most in sorted(line.points, key=lambda p: places[p[1]]):
            y = y_of(value)
            if y is not None:
                x = places[step] + shift
                points.append(Drawn(what, step, value, least, most, x, y, y_of(least), y_of(most)))
        path = " ".join(
            f"{'M' if i == 0 else 'L'}{p.x:.1f} {p.y:.1f}" for i, p in enumerate(points)
        )
        drawn.append(
            DrawnLine(line.name, number % COLOURS, SHAPES[number % len(SHAPES)], path, points)
        )
    return LinePlot(
        WIDTH,
        HEIGHT,
        LEFT,
        right,
        bottom,
        [(y_of(tick) or 0.0, tick_text(tick, ticks)) for tick in ticks],
        [(x, str(step)) for step, x in places.items()],
        drawn,
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers around low and high, about TICKS of them, evenly spaced: at least two."""
    # A file may hold any number: keep clear of what a float cannot hold, and of differences that are none.
    low, high = (min(max(end, -_LARGEST), _LARGEST) for end in (low, high))
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * s for s in _STEPS if power * s >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """The tick with as many digits as tell it from the next."""
    step = ticks[1] - ticks[0]
    if not 1e-6 <= step < 1e9:
        return f"{tick:.3g}"
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, digits) != round(step, digits + 1):
        digits += 1  # a step of 0.25 needs two
    return f"{tick:,.{digits}f}"
