"""How the pages of benchmarks are drawn: SVG files, of which the same figures give the same bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, NullFormatter

OURS, OTHERS = "#1b6ca8", "#b0b4b8"


@contextmanager
def style() -> Iterator[None]:
    """The fonts and frames of every drawing; text stays text."""
    settings: Any = {
        "svg.hashsalt": "nearsql",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        yield


def save(figure: Any, path: Path) -> None:
    """Writes it without date and version, and ends it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Creator": None}
    figure.savefig(path, format="svg", metadata=metadata, bbox_inches="tight", facecolor="white")
    pyplot.close(figure)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def plain_ticks(axis: Any) -> None:
    """Of a logarithmic axis: 0.1, 1, 10, 1,000 in place of powers of ten, and no others."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())
