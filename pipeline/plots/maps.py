"""A map as a plot: clusters with their names, by DataMapPlot; or a label's values with a legend."""

import textwrap
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.chosen import Chosen, ExportedRun, choose, choose_pair
from nearsql.pipeline.export.rows import clusters
from nearsql.pipeline.plots.drawn_run import caption, drawn_run, read_run
from nearsql.pipeline.plots.look import (
    FONT,
    INK,
    NOISE,
    PALETTE,
    WITHOUT,
    Plot,
    in_our_look,
    in_words,
    legend_name,
    natural_order,
    new_figure,
    plain,
    refuse_wild,
    spread_colours,
    write_heading,
)
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More names than these would leave no room for the map: the largest clusters have them.
MOST_NAMES = 40
# Values of a label with a colour of their own.
MOST_VALUES = len(PALETTE) - 1
# More points than these are drawn as an image, in an SVG too, which would be slow to open otherwise.
MOST_SHAPES = 20_000
_SIDE = 10.0  # inches


@in_our_look
def map_plot(
    db: dbapi.Connection,
    run_id: int,
    *,
    clustering: int | None = None,
    level: int = 1,
    label: str | None = None,
) -> Plot:
    """The map of a run of `project`, coloured by clusters, or by the values of a label.

    clustering: a run of `cluster`; None: the newest of the space that the map is of, and no colours where
    there is none. level: of it, 1 the coarsest. Raises LookupError and UserError for runs, levels and
    labels that are not there, or that cannot be drawn.
    """
    run = drawn_run(db, "map", run_id)
    if label is not None:
        if clustering is not None:
            raise UserError("a map is coloured by --clusters or by --label, not by both")
        return _by_label(db, run_id, caption(run), label)
    if clustering is None:
        clustering = _newest_clustering(db, run_id)
    if clustering is None:
        return _by_label(db, run_id, caption(run), None)
    kind = read_run(db, clustering).kind
    if kind != "cluster":
        raise UserError(
            f"run {clustering} is of kind {kind!r}, not a clustering: see `nearsql runs`"
        )
    return _by_clusters(db, choose_pair(db, [run_id, clustering]), caption(run), level)


def _newest_clustering(db: dbapi.Connection, map_run: int) -> int | None:
    """The newest clustering of the space that the map is of; None when there is none."""
    row = db.execute(
        read_sql("nearsql.pipeline.export", "pair"), {"clustering": None, "map": map_run}
    ).fetchone()
    return None if row is None else int(row[0])


def _by_clusters(db: dbapi.Connection, chosen: Chosen, made_with: str, level: int) -> Plot:
    (drawn,), (clustering,) = chosen.maps, chosen.clusterings
    levels = [found.level for found in clustering.levels]
    if level not in levels:
        raise UserError(
            f"run {clustering.id} has no level {level}: its levels are {', '.join(map(str, levels))}"
        )
    rows = db.execute(
        read_sql(__package__, "map_points"),
        {"map": drawn.id, "clustering": clustering.id, "level": level},
    ).fetchall()
    points = _points(drawn.id, rows)
    is_member = np.array([row[3] for row in rows], bool)
    names = {c.cluster: c.name for c in clusters(db, chosen) if c.level == level}
    # Of clusters whose items are all elsewhere there is nothing to draw.
    places = {label: i for i, label in enumerate(sorted({row[2] for row in rows} - {None}))}
    codes = np.array([-1 if row[2] is None else places[row[2]] for row in rows], np.int64)
    sizes = np.bincount(codes[codes >= 0], minlength=len(places))
    middles = [_middle(points[codes == code]) for code in range(len(places))]
    colours = np.array(
        [PALETTE[i] for i in spread_colours(middles, sizes.tolist())] + [WITHOUT, NOISE]
    )
    colour_of = colours[np.where(codes >= 0, codes, np.where(is_member, -1, -2))]
    named = sorted(range(len(places)), key=lambda code: (-sizes[code], code))[:MOST_NAMES]
    texts = [
        plain(names.get(label) or f"Cluster {label}", 60)
        for label, code in places.items()
        if code in set(named)
    ]
    figure, axes = _canvas()
    order = np.argsort(codes >= 0, kind="stable")  # noise lies below
    _draw_named(
        axes,
        points[order],
        colour_of[order].tolist(),
        texts=texts,
        middles=[middles[code] for code in sorted(named)],
        sizes=[int(sizes[code]) for code in sorted(named)],
        colours=[str(colours[code]) for code in sorted(named)],
    )
    noise = int((is_member & (codes < 0)).sum())
    counts = {"points": len(points), "clusters": len(places), "noise": noise}
    if others := int((~is_member).sum()):
        counts["not clustered"] = others
    if len(places) > len(named):
        counts["named"] = len(named)
    _write_heading(
        figure, drawn, counts, f"{made_with}; clusters of {_clusters(clustering, level)}"
    )
    return Plot(figure, {"clusters of run": str(clustering.id), **counts})


def _clusters(clustering: ExportedRun, level: int) -> str:
    which = f" level {level}" if len(clustering.levels) > 1 else ""
    seed = "" if clustering.seed is None else f", seed {clustering.seed}"
    return f"run {clustering.id}{which}: {in_words(clustering.parameters)}{seed}"


def _by_label(db: dbapi.Connection, run_id: int, made_with: str, name: str | None) -> Plot:
    """Colours and a legend of the most frequent values; without a label, all points in one colour."""
    from matplotlib.lines import Line2D

    rows = db.execute(
        read_sql(__package__, "labelled_points"), {"map": run_id, "name": name}
    ).fetchall()
    points = _points(run_id, rows)
    (drawn,) = choose(db, [run_id]).maps
    figure, axes = _canvas(legend=name is not None)
    counts: dict[str, int] = {"points": len(points)}
    if name is None:
        colour_of = np.full(len(points), PALETTE[0])
    else:
        times = Counter(row[2] for row in rows if row[2] is not None)
        if not times:
            raise UserError(f"no item of the map of run {run_id} has a label {name!r}")
        frequent = [value for value, _ in sorted(times.items(), key=lambda t: (-t[1], t[0]))]
        colour = dict(zip(sorted(frequent[:MOST_VALUES], key=natural_order), PALETTE, strict=False))
        entries = [(legend_name(value), shade) for value, shade in colour.items()]
        if rest := frequent[MOST_VALUES:]:
            entries.append((f"{len(rest):,} other values", PALETTE[-1]))
        if len(rows) > times.total():
            entries.append((f"without ({len(rows) - times.total():,})", WITHOUT))
            counts["without the label"] = len(rows) - times.total()
        colour_of = np.array(
            [WITHOUT if row[2] is None else colour.get(row[2], PALETTE[-1]) for row in rows]
        )
        handles = [Line2D([], [], marker="o", ls="", color=shade) for _, shade in entries]
        figure.legend(
            *(handles, [entry for entry, _ in entries]),
            title=plain(name),
            loc="upper left",
            bbox_to_anchor=(0.82, 0.92),
        )
        counts["values"] = len(times)
    order = np.argsort(colour_of != WITHOUT, kind="stable")
    size, alpha = _dots(len(points))
    axes.scatter(
        points[order, 0],
        points[order, 1],
        c=colour_of[order].tolist(),
        s=size,
        alpha=alpha,
        linewidths=0,
        rasterized=len(points) > MOST_SHAPES,
    )
    axes.set(xticks=[], yticks=[])
    _write_heading(figure, drawn, counts, made_with)
    return Plot(figure, counts if name is None else {"label": name, **counts})


def _points(run_id: int, rows: list[Any]) -> NDArray[np.float64]:
    """(n, 2), n >= 1."""
    if not rows:
        raise UserError(f"run {run_id} has no points to draw")
    points = np.array([row[:2] for row in rows], float)
    refuse_wild(points.ravel(), f"on the map of run {run_id} an item lies at")
    return points


def _middle(points: NDArray[np.float64]) -> tuple[float, float]:
    x, y = np.median(points, axis=0).tolist()
    return x, y


def _canvas(*, legend: bool = False) -> "tuple[Figure, Axes]":
    """A square for the map below a title, with room beside it for a legend."""
    figure = new_figure(_SIDE, _SIDE, is_laid_out=False)
    axes = figure.add_axes((0.02, 0.07, 0.79 if legend else 0.96, 0.85))
    axes.spines[:].set_visible(False)  # where a map begins and ends means nothing
    axes.grid(False)
    return figure, axes


def _dots(n: int) -> tuple[float, float]:
    """The area and opacity of each of n points, by DataMapPlot's rule."""
    rule = float(np.clip(128 * 4 ** -np.log10(n), 0.05, 64))
    return rule * _SIDE / 2, min(1.0, rule)


def _draw_named(
    axes: "Axes",
    points: NDArray[np.float64],
    colour_of: list[str],
    *,
    texts: list[str],
    middles: list[tuple[float, float]],
    sizes: list[int],
    colours: list[str],
) -> None:
    """The points and, with lines to their middles, the names of groups, none over another."""
    try:
        with warnings.catch_warnings():
            # Where there is no home to write to, it says so; it needs none.
            warnings.filterwarnings("ignore", message="Error (creating|loading) config file")
            from datamapplot import render_plot
    except ImportError:
        raise UserError(
            "a map of clusters needs datamapplot, which is not installed: pip install 'nearsql[plot]'"
        ) from None
    size, alpha = _dots(len(points))
    wrapped = [textwrap.fill(text, 18, break_long_words=False) for text in texts]
    places = np.asarray(middles, float).reshape(-1, 2)
    has_ring = len(places) > 1 and bool(np.ptp(places, axis=0).any())
    render_plot(
        points,
        colour_of,
        wrapped,
        _off_the_middle(places) if has_ring else places,
        np.asarray(sizes),
        show_labels=has_ring,
        # All that a settings file of the user's could change is said.
        figsize=(_SIDE, _SIDE),
        dpi=100,
        font_family=FONT,
        use_system_fonts=True,  # it would ask the network for others
        label_text_colors=[INK] * len(texts),  # pale letters could not be read
        label_arrow_colors=colours,
        point_size=size,
        alpha=alpha,
        add_glow=False,
        force_matplotlib=True,
        max_font_size=14.0,
        ax=axes,
    )
    for number, text in enumerate(() if has_ring else wrapped):
        axes.annotate(
            text,
            places[number],
            (0, 14 * number),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.5},
        )
    for collection in axes.collections:
        collection.set_rasterized(len(points) > MOST_SHAPES)


def _off_the_middle(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """The places, none of them exactly amid all: DataMapPlot lays names in a ring around it, each in the
    direction of its place, and what lies amid has no direction.
    """
    away = places - places.mean(axis=0)
    radius = np.hypot(*away.T).max()
    is_amid = np.hypot(*away.T) < radius * 1e-6
    return places + is_amid[:, None] * [0, radius * 1e-3]


def _write_heading(
    figure: "Figure", drawn: ExportedRun, counts: dict[str, int], made_with: str
) -> None:
    title = f"{drawn.method} map of {drawn.space or 'a space that is gone'}"
    told = ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
    write_heading(figure, f"{title}: {told}", made_with)
