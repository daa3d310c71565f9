"""What all plots share: colours, letters, titles, and files that come out the same each time."""

import math
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

SUFFIXES = (".svg", ".png")
DPI = 150

# Those of the pages (nearsql.css): Okabe and Ito's colours, then Paul Tol's, told apart by every kind of
# sight, in an order that keeps neighbours apart.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999933"),
    *("#aa4499", "#44aa99", "#cc6677", "#332288", "#117733", "#882255", "#ddaa33"),
    *("#6699cc", "#994455", "#997700", "#ee99aa", "#004488", "#225555"),
)
INK, SOFT, LINE, NOISE, WITHOUT = "#1c2024", "#5d6670", "#dfe3e7", "#b3b9c0", "#dde1e5"

# The font that matplotlib brings, so that letters are as wide on every machine.
FONT = "DejaVu Sans"
_LOOK = {
    "font.family": "sans-serif",
    "font.sans-serif": [FONT, "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    # A name may be "cost in $": it is no formula.
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    # Letters stay letters, to be found and copied. Ids are drawn from the salt.
    "svg.fonttype": "none",
    "svg.hashsalt": "nearsql",
}
# Letters of the caption in an inch, and lines of it.
_CAPTION_LETTERS = 14
_CAPTION_LINES = 3
# Larger numbers than this make matplotlib's axes overflow.
_WILD = 1e100


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure, and what it shows in words: facts by name, for a summary."""

    figure: "Figure"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> list[str]:
        """Writes the figure to the path, an SVG or PNG by its name, and gives sentences of warning.

        The file appears when all of it is written. Raises UserError as `refuse_target` does.
        """
        target = Path(path)
        refuse_target(target, replace=replace)
        is_svg = target.suffix.lower() == ".svg"
        # Without the time, and without the version: the same figure, the same bytes.
        metadata = {"Date": None, "Creator": None} if is_svg else {"Software": None}
        part = target.with_name(f".{target.name}.partial-{os.getpid()}")
        try:
            with _look(), warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                self.figure.savefig(
                    part, format=target.suffix.lower()[1:], dpi=DPI, metadata=metadata
                )
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        if not any("missing from" in str(warning.message) for warning in found):
            return []
        if is_svg:
            return [
                f"some letters are not in {FONT}: whoever opens {target.name} needs a font with them"
            ]
        return [
            f"some letters are not in {FONT} and are drawn as boxes: an .svg has them as letters"
        ]


def in_our_look(draw: Callable[Arguments, Plot]) -> Callable[Arguments, Plot]:
    """Decorates a function that makes a plot: whatever the user's matplotlibrc says, it looks the same."""

    @wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Plot:
        with _look():
            return draw(*args, **kwargs)

    return drawn


@contextmanager
def _look() -> Iterator[None]:
    refuse_without_matplotlib()
    import matplotlib.style

    with matplotlib.style.context(["default", _LOOK]):
        yield


def refuse_without_matplotlib() -> None:
    """Raises UserError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError(
            "plots need matplotlib, which is not installed: pip install 'nearsql[plot]'"
        ) from None


def refuse_target(path: Path, *, replace: bool, option: str = "--to") -> None:
    """Raises UserError when a plot could not be written to the path: asked before what takes long."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{option} {path}: the name must end in {' or '.join(SUFFIXES)}")
    if not path.resolve().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.resolve().parent}")
    if path.is_dir():
        raise UserError(f"{option} {path}: that is a folder")
    if path.exists() and not replace:
        raise UserError(f"{path} is there already: --replace writes over it")


def new_figure(width: float, height: float, *, is_laid_out: bool = True) -> "Figure":
    """A figure of so many inches. Not pyplot's, which would look for a screen.

    is_laid_out: its axes find their places by themselves, so that nothing overlaps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if is_laid_out else None)
    FigureCanvasAgg(figure)  # what measures letters
    return figure


def write_heading(figure: "Figure", title: str, caption: str) -> None:
    """The title above all, and the caption, which says what it was made with, small below all."""
    figure.suptitle(plain(title, 90), x=0.01, ha="left", fontsize=13, fontweight="bold")
    width = int(figure.get_figwidth() * _CAPTION_LETTERS)
    lines = textwrap.wrap(plain(caption, 2000), width, max_lines=_CAPTION_LINES, placeholder=" …")
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=SOFT)


def plain(text: object, longest: int = 40) -> str:
    """A text from the database as it may stand in a plot: one line, no control characters, not too long."""
    words = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * longest]).split()
    shown = " ".join(words) or "(empty)"
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def legend_name(text: object) -> str:
    """As `plain`; matplotlib leaves out of a legend what begins with an underscore."""
    shown = plain(text)
    return f" {shown}" if shown.startswith("_") else shown


def natural_order(value: Any) -> tuple[int, float, str]:
    """A key to sort labels by: numbers by their size, then texts."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    return (1, 0.0, str(value)) if math.isnan(number) else (0, number, str(value))


def in_words(parameters: Mapping[str, Any]) -> str:
    """A run's parameters, those that were set: `method pca, n_components 2`."""
    return ", ".join(
        f"{name} {_value_in_words(value)}"
        for name, value in sorted(parameters.items())
        if value is not None and not name.endswith("sha256") and not isinstance(value, dict)
    )


def _value_in_words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def refuse_wild(values: NDArray[np.float64], what: str) -> None:
    """Raises UserError for numbers that no axis can show. what: begins the sentence."""
    wild = values[~(np.abs(values) < _WILD)]
    if len(wild):
        raise UserError(f"{what} {wild[0]:g}, which cannot be drawn")


def spread_colours(
    middles: Sequence[tuple[float, float]], sizes: Sequence[int], colours: int = len(PALETTE)
) -> list[int]:
    """The place in the palette of each group, by its label: one each, as far as the colours go.

    Of more groups, those of one colour lie far apart, as on the page of a map: the largest choose first,
    each the colour whose nearest user is farthest away.
    """
    n = len(middles)
    if n <= colours:
        return list(range(n))
    given = [0] * n
    nearest = np.full((colours, n), np.inf)  # of each group to the users of each colour
    places = np.asarray(middles, float)
    for group in sorted(range(n), key=lambda i: (-sizes[i], i)):
        given[group] = colour = int(np.argmax(nearest[:, group]))
        distances = ((places - places[group]) ** 2).sum(axis=1)
        np.minimum(nearest[colour], distances, out=nearest[colour])
    return given
