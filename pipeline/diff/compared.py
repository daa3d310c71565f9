"""What every comparison can be asked, and what it gives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from nearsql.pipeline.console import UserError
from nearsql.pipeline.output import column_names
from nearsql.udfs import dbapi

Rows = tuple[list[str], Iterable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `nearsql diff`; None is not given. Each kind of comparison takes some of them."""

    level: int | None = None
    level_b: int | None = None
    k: int | None = None
    k_b: int | None = None
    weighting: str | None = None
    weighting_b: str | None = None
    space: str | None = None
    space_b: str | None = None
    metric: str | None = None
    tolerance: float | None = None
    within: str | None = None

    def refuse_others(self, what: str, taken: Sequence[str]) -> None:
        """Raises UserError for an option that is given and not taken. what: are compared, in the plural."""
        for name in (field.name for field in fields(self)):
            if name not in taken and getattr(self, name) is not None:
                raise UserError(
                    f"{_flag(name)} says nothing of {what}, which are compared by "
                    + (", ".join(map(_flag, taken)) or "no option")
                )

    def words(self) -> list[object]:
        """The options that are given, for a command line."""
        given = ((name.name, getattr(self, name.name)) for name in fields(self))
        return [word for name, value in given if value is not None for word in (_flag(name), value)]


class Diff(Protocol):
    """Two runs or spaces, compared."""

    # Columns that a table does without: when all of them are NULL, or equal to the other column.
    dull: ClassVar[Mapping[str, str | None]]

    @property
    def title(self) -> str:
        """Of the summary: what is compared."""

    def rows(self, db: dbapi.Connection) -> Rows:
        """The names of the columns, and a row for each cluster, setting, metric, or degree of overlap."""

    def items(self, db: dbapi.Connection) -> Rows:
        """The names of the columns, and a row for each item that changed."""

    def facts(self, db: dbapi.Connection) -> dict[str, Any]:
        """What the summary says, by name. After `rows` or `items`, whose work it may use."""

    def next_step(self, file: str, items: bool) -> str | None:
        """A command to try next. items: whether the items have been listed."""


def fetched(cursor: dbapi.Cursor) -> Rows:
    """The rows of a cursor, as they come."""
    return column_names(cursor), cursor


def _flag(name: str) -> str:
    return "-k" if name == "k" else "--" + name.replace("_", "-")
