"""How plots and matrices of evaluations are laid out: everything on the plot, and what is too much left out."""

import math

from hypothesis import given
from hypothesis import strategies as st

from nearsql.datasette_plugins.confusion import CELLS_DRAWN, LABELS_DRAWN, matrix
from nearsql.datasette_plugins.line_plots import Line, line_plot, nice_ticks, tick_text
from nearsql.datasette_plugins.scatter_plots import scatter_plot

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE)
def test_ticks_enclose_what_they_are_for(a: float, b: float) -> None:
    low, high = sorted((max(-1e300, min(1e300, a)), max(-1e300, min(1e300, b))))
    ticks = nice_ticks(min(b, a), max(a, b))
    slack = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] - slack <= low
    assert high <= ticks[-1] + slack
    assert 2 <= len(ticks) <= 12
    assert all(math.isfinite(tick) for tick in ticks)
    assert len({tick_text(tick, ticks) for tick in ticks}) >= 2 or high - low < 1e-9 * abs(high)


@given(st.lists(st.tuples(st.sampled_from([1, 3, 5]), FINITE, FINITE, FINITE), max_size=12))
def test_points_lie_on_the_plot(points: list[tuple[int, float, float, float]]) -> None:
    lines = [Line("a", [(p, *p) for p in points[::2]]), Line("b", [(p, *p) for p in points[1::2]])]
    plot = line_plot(lines, [1, 3, 5])
    assert (plot is None) == (not points)
    if plot:
        for line in plot.lines:
            assert all(0 <= p.x <= plot.width and 0 <= p.y <= plot.height for p in line.points)


@given(st.lists(st.tuples(FINITE, FINITE), max_size=8))
def test_dots_lie_on_the_plot(pairs: list[tuple[float, float]]) -> None:
    drawn = [{"item_id": i, "truth": a, "estimate": b} for i, (a, b) in enumerate(pairs)]
    plot = scatter_plot(drawn)
    assert (plot is None) == (not pairs)
    if plot:
        assert [dot.item for dot in plot.dots] == list(range(len(pairs)))
        assert all(0 <= dot.x <= plot.width and 0 <= dot.y <= plot.height for dot in plot.dots)


def test_of_many_labels_those_with_the_most_mistakes_are_drawn() -> None:
    classes = [{"label": f"label {i}", "mistakes": i} for i in range(150)]
    cells = [
        {"label": f"label {i}", "predicted": f"label {j}", "items": 1, "share_of_label": 0.5}
        for i in range(150)
        for j in (i, (i + 1) % 150, (i + 2) % 150)
    ]
    found = matrix(cells, classes, is_whole=True)
    assert found.labels == [f"label {i}" for i in range(50, 150)]  # 50 before 100, as people sort
    assert (len(found.labels), found.all_labels) == (LABELS_DRAWN, 150)
    assert not found.has_numbers
    assert found.cells[0, 1].predicted == "label 51"
    assert found.cells[3, 3].is_right
    assert found.is_whole


def test_of_many_cells_the_first_are_drawn() -> None:
    classes = [{"label": str(i), "mistakes": 1} for i in range(60)]
    cells = [
        {"label": str(i), "predicted": str(j), "items": 1, "share_of_label": 0.1}
        for i in range(60)
        for j in range(60)
    ]
    cells.sort(key=lambda cell: cell["label"] == cell["predicted"])
    found = matrix(cells, classes, is_whole=True)
    assert not found.is_whole
    assert sum(not cell.is_right for cell in found.cells.values()) == CELLS_DRAWN
    assert sum(cell.is_right for cell in found.cells.values()) == 60
