"""Small drawings within the cells of Datasette's tables: they inherit its colours, and can be read aloud."""

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from nearsql.datasette_plugins.outlines import outline, polygons_bounds, polygons_path
from nearsql.udfs import rle
from nearsql.udfs.errors import SqlFunctionError

_WIDTH, _HEIGHT = 96, 24
_POINTS = 48
_SHAPE_SIDE = 40
_SHAPE_STEPS = 80
_LONGEST = 200_000  # characters of JSON: longer ones stay text

_FRAME = Markup(
    '<svg role="img" aria-label="{}" width="{}" height="{}" viewBox="{}" fill="none"'
    ' stroke="currentColor"><title>{}</title>{}</svg>'
)


def curve(values: NDArray[Any]) -> Markup:
    """Numbers (n,) as a curve, each point the mean of some of them, and how many and of which type."""
    note = Markup("{} &times; {}").format(values.size, values.dtype.name)
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return Markup("{}, none of them finite").format(note)
    low, high = float(finite.min()), float(finite.max())
    label = f"{values.size:,} numbers from {low:.3g} to {high:.3g}"
    if finite.size < values.size:
        label += f", {values.size - finite.size:,} not finite"
    # Zero stays in view: where a curve lies is half of what it says. Halved, because the difference
    # of two finite numbers may be none.
    low, high = min(low, 0.0) / 2, max(high, 0.0) / 2

    def y(value: float) -> str:
        return f"{1 + (_HEIGHT - 2) * ((high - value / 2) / (high - low or 1.0)):.3g}"

    parts = np.array_split(finite, min(_POINTS, finite.size))
    step = _WIDTH / max(1, len(parts) - 1)
    points = " ".join(
        f"{i * step:.4g},{y(float((part / part.size).sum()))}" for i, part in enumerate(parts)
    )
    drawing = Markup(
        '<path d="M0 {}H{}" stroke-opacity="0.3"/><polyline points="{}" stroke-width="1.25"/>'
    ).format(y(0.0), _WIDTH, points)
    frame = f"0 0 {_WIDTH} {_HEIGHT}"
    return Markup("{} {}").format(
        _FRAME.format(label, _WIDTH, _HEIGHT, frame, label, drawing), note
    )


def mask_shape(text: str) -> Markup | None:
    """A mask, COCO RLE as JSON, as a shape in its image. None where it is no mask."""
    if len(text) > _LONGEST:
        return None
    try:
        mask = rle.read_json("mask", text)
    except SqlFunctionError:
        return None
    path, step = outline(mask, _SHAPE_STEPS)
    width, height = mask.width / step, mask.height / step
    label = f"mask of {mask.area:,} pixels in {mask.width:,} x {mask.height:,}"
    return _shape(path, (0, 0, width, height), label)


def outlines_shape(text: str) -> Markup | None:
    """Polygons [[x, y, x, y, ...], ...] as a shape, as large as they are. None where it is something else."""
    path = polygons_path(text) if len(text) <= _LONGEST else None
    if not path:
        return None
    x, y, width, height = polygons_bounds(text)
    corners = path.count("L") + path.count("M")
    return _shape(path, (x, y, width, height), f"outline of {corners:,} corners")


def _shape(path: str, bounds: tuple[float, float, float, float], label: str) -> Markup:
    x, y, width, height = bounds
    scale = _SHAPE_SIDE / (max(width, height) or 1)
    drawing = Markup(
        '<rect x="{0}" y="{1}" width="{2}" height="{3}" stroke-opacity="0.3" vector-effect='
        '"non-scaling-stroke"/><path d="{4}" fill="currentColor" fill-rule="evenodd" stroke="none"/>'
    ).format(f"{x:.6g}", f"{y:.6g}", f"{width:.6g}", f"{height:.6g}", path)
    frame = f"{x:.6g} {y:.6g} {width:.6g} {height:.6g}"
    return _FRAME.format(
        label,
        f"{max(1, width * scale):.3g}",
        f"{max(1, height * scale):.3g}",
        frame,
        label,
        drawing,
    )
