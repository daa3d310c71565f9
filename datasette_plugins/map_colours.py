"""What the points of a map are coloured by: a code of a legend for each item, or a number.

The key of a colouring is what addresses carry: plain, cluster:RUN:LEVEL, label:NAME,
outlier:RUN:LEVEL, metric:RUN:COLUMN, loss:RUN:COMPONENT or sql:TEXT.
"""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import apsw
import numpy as np
from datasette.utils import sqlite_timelimit
from numpy.typing import NDArray

from nearsql.datasette_plugins.pages import Problem, Row, sql
from nearsql.udfs import dbapi, within
from nearsql.udfs.errors import SqlFunctionError

# Codes of points that are in no group.
NOISE, WITHOUT = -1, -2

# The columns of image_metrics that are numbers, as sql/map_metric.sql lists them.
METRICS = (
    "n_gt", "n_pred", "tp", "fp", "fn", "mean_iou", "mean_iou_gt", "mean_conf", "hit_freq",
    "dice_score", "flag_cat", "flag_supercat",
)  # fmt: skip

# More texts than this are no categories: nobody reads such a legend.
MOST_TEXTS = 10_000

KEYS = (
    "plain, cluster:RUN:LEVEL, label:NAME, outlier:RUN:LEVEL, metric:RUN:COLUMN,"
    " loss:RUN:COMPONENT or sql:TEXT"
)


@dataclass(frozen=True, slots=True)
class Colouring:
    """What items are coloured by.

    ids: int64, ascending, each once. colours: int32 codes (then `names` says what they mean, in the
    legend's order), or float64 values with NaN for none (then `names` is None).
    """

    ids: NDArray[np.int64]
    colours: NDArray[Any]
    names: dict[int, str] | None = field(default=None)

    def of(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """The colours of these items; WITHOUT or NaN for an item that has none."""
        if np.array_equal(ids, self.ids):
            return self.colours
        is_number = self.names is None
        found = np.full(len(ids), np.nan if is_number else WITHOUT, self.colours.dtype)
        if len(self.ids):
            places = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
            known = self.ids[places] == ids
            found[known] = self.colours[places[known]]
        return found


@dataclass(frozen=True, slots=True)
class Key:
    """A colouring as an address names it: its kind, and the parameters of the SQL behind it."""

    kind: str
    parameters: Row

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Reads a key; Problem if it is none."""
        kind, _, rest = text.partition(":")
        if text == "plain":
            return cls("plain", {})
        if kind == "label" and rest:
            return cls(kind, {"name": rest})
        if kind == "sql" and rest.strip():
            return cls(kind, {"sql": rest})
        run, _, what = rest.partition(":")
        if run.isdecimal() and len(run) < 19:
            parameters: Row = {"by_run": int(run)}
            if kind in ("cluster", "outlier") and what.isdecimal() and len(what) < 19:
                return cls(kind, parameters | {"level": int(what)})
            if kind == "metric" and what in METRICS:
                return cls(kind, parameters | {"metric": what})
            if kind == "metric":
                raise Problem(f"There is no metric {what!r}: the metrics are {', '.join(METRICS)}.")
            if kind == "loss" and what:
                return cls(kind, parameters | {"component": what})
        raise Problem(f"by must be {KEYS}, not {text!r}.")


def colouring(connection: dbapi.Connection, key: Key, limit_ms: int) -> Colouring:
    """Reads a colouring. What a visitor wrote as SQL may take `limit_ms`, and must only read."""
    raw = connection.apsw
    if key.kind == "sql":
        return _by_sql(connection, key.parameters["sql"], limit_ms)
    rows = raw.execute(sql(f"map_{key.kind}"), key.parameters)
    # NULL becomes NaN.
    table = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 2)
    ids = table[:, 0].astype(np.int64)
    if key.kind not in ("cluster", "label"):
        return _sorted(ids, table[:, 1])
    names = dict(raw.execute(sql(f"map_{key.kind}_names"), key.parameters))
    return _sorted(ids, table[:, 1].astype(np.int32), names)


def _sorted(
    ids: NDArray[np.int64], colours: NDArray[Any], names: dict[int, str] | None = None
) -> Colouring:
    if np.all(ids[1:] > ids[:-1]):
        return Colouring(ids, colours, names)
    order = np.argsort(ids, kind="stable")
    return Colouring(ids[order], colours[order], names)


def _by_sql(connection: dbapi.Connection, text: str, limit_ms: int) -> Colouring:
    """The colouring that a visitor's SELECT of item_id and value gives."""
    rows = _rows_of(connection, text, limit_ms)
    if rows and len(rows[0]) != 2:
        raise Problem(
            f"The SQL must give two columns, the item's id and its value, not {len(rows[0])}."
        )
    try:
        ids = within.as_ids("The SQL", [row[0] for row in rows])
    except SqlFunctionError as error:
        raise Problem(f"{error}.") from None
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        item, times = unique[counts > 1][0], counts[counts > 1][0]
        raise Problem(f"The SQL must give each item one value, and gives item {item} {times}.")
    values = [row[1] for row in rows]
    kinds = set(map(type, values))
    if bytes in kinds:
        raise Problem("The SQL must give texts or numbers as values, and gives a BLOB.")
    if str not in kinds:
        return _sorted(ids, np.array([np.nan if v is None else v for v in values], np.float64))
    texts = [None if v is None else str(v) for v in values]
    frequency: dict[str, int] = {}
    for value in texts:
        if value is not None:
            frequency[value] = frequency.get(value, 0) + 1
    if len(frequency) > MOST_TEXTS:
        raise Problem(
            f"The SQL gives {len(frequency):,} different texts, and a legend shows at most"
            f" {MOST_TEXTS:,}: group them, or give numbers."
        )
    ordered = sorted(frequency, key=lambda value: (-frequency[value], value))
    codes: dict[str | None, int] = {value: code for code, value in enumerate(ordered)}
    codes[None] = WITHOUT
    return _sorted(ids, np.array([codes[v] for v in texts], np.int32), dict(enumerate(ordered)))


def _rows_of(connection: dbapi.Connection, text: str, limit_ms: int) -> list[tuple[Any, ...]]:
    try:
        with sqlite_timelimit(connection, limit_ms):
            return within.select("The SQL", connection.apsw, text)
    except SqlFunctionError as error:
        raise Problem(f"{error}.") from None
    except apsw.InterruptError:
        raise Problem(
            f"The SQL took longer than {limit_ms / 1000:g} s and was stopped: ask for less, or start"
            " Datasette with a higher sql_time_limit_ms."
        ) from None
