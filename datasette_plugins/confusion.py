"""A confusion matrix laid out to be read: the labels that are confused most, and how dark each cell is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.datasette_plugins.pages import Row

# More labels than this are not drawn: those with the most mistakes are.
LABELS_DRAWN = 100
# Up to so many, a cell has room for its number.
LABELS_WITH_NUMBERS = 24
# More cells are not drawn: those with the most items are. What is right is always drawn.
CELLS_DRAWN = 1_000
# From which share of a label's items on a cell is so dark: 1, 2, ...
SHADES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4)


@dataclass(frozen=True, slots=True)
class Cell:
    """How many items of one label were taken for another; shade from 1 to len(SHADES)."""

    row: int
    column: int
    label: str
    predicted: str
    items: int
    share: float
    shade: int

    @property
    def is_right(self) -> bool:
        """Whether it lies on the diagonal."""
        return self.row == self.column


@dataclass(frozen=True, slots=True)
class Matrix:
    """labels: in the order of rows and columns. all_labels: how many there are. cells: those above 0.

    is_whole: whether all cells of these labels are there.
    """

    labels: list[str]
    all_labels: int
    cells: dict[tuple[int, int], Cell]
    is_whole: bool

    @property
    def has_numbers(self) -> bool:
        """Whether it is small enough to show the numbers."""
        return len(self.labels) <= LABELS_WITH_NUMBERS


def matrix(cells: Sequence[Row], classes: Sequence[Row], *, is_whole: bool) -> Matrix:
    """The rows of eval_cells.sql, the largest first, as a matrix of the labels of eval_classes.sql.

    is_whole: whether the cells are all that there are.
    """
    worst = sorted(classes, key=lambda row: -row["mistakes"])[:LABELS_DRAWN]
    labels = sorted((str(row["label"]) for row in worst), key=_as_people_sort)
    places = {label: place for place, label in enumerate(labels)}
    drawn: dict[tuple[int, int], Cell] = {}
    left_out = 0
    for cell in cells:
        row, column = places.get(str(cell["label"])), places.get(str(cell["predicted"]))
        if row is None or column is None or cell["predicted"] is None:
            continue
        if row != column and len(drawn) >= CELLS_DRAWN:
            left_out += 1
            continue
        share = cell["share_of_label"]
        drawn[row, column] = Cell(
            row,
            column,
            labels[row],
            labels[column],
            cell["items"],
            share,
            sum(share > least for least in SHADES),
        )
    return Matrix(labels, len(classes), drawn, is_whole and not left_out)


def _as_people_sort(label: str) -> tuple[tuple[bool, int, str], ...]:
    """9 before 10, and both before words."""
    parts = re.findall(r"\d+|\D+", label)
    return tuple(
        (False, int(part), "") if part.isdecimal() and len(part) < 19 else (True, 0, part.lower())
        for part in parts
    )
