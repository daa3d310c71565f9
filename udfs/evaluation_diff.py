"""What changed from one evaluation to another: the items on which their predictions differ."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import apsw
import numpy as np

from nearsql.udfs.evaluation_settings import Evaluation, Setting
from nearsql.udfs.paired_tests import mcnemar, wilcoxon
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Agreement:
    """A setting of one evaluation compared with one of another, over the items that both predicted.

    value_a and value_b: the metric, 'accuracy' or 'mae', over these items. gained and lost: how many the
    second predicts better and worse; other: those of which it predicts something else that is no better.
    reason: why something is None.
    """

    space_a: str
    space_b: str
    k_a: int
    k_b: int
    weighting_a: str
    weighting_b: str
    metric: str
    items: int
    value_a: float | None
    value_b: float | None
    gained: int
    lost: int
    other: int
    p_value: float | None
    reason: str | None


def differing_items(
    db: apsw.Connection, a: Evaluation, b: Evaluation, pair: tuple[Setting, Setting]
) -> Iterator[tuple[Any, ...]]:
    """(item, change, y_true, y_pred_a, y_pred_b, score_a, score_b) of the items predicted differently.

    Of labels, change is 'gained', 'lost' or 'still wrong'; of numbers 'closer', 'farther', 'as far', or
    None where one of the runs predicts nothing.
    """
    arguments = _arguments(a, b, pair) | {"is_label": a.label is not None}
    with closing(db.execute(read_sql(__package__, "evaluation_diff"), arguments)) as cursor:
        yield from cast(Any, cursor)


def agreement(
    db: apsw.Connection, a: Evaluation, b: Evaluation, pair: tuple[Setting, Setting]
) -> Agreement:
    """How often and how far the predictions by two settings differ, and whether that may be chance."""
    if a.label is not None:
        metric, found = "accuracy", _of_labels(db, a, b, pair)
    else:
        metric, found = "mae", _of_numbers(db, a, b, pair)
    one, other = pair
    return Agreement(
        *(one.space, other.space, one.k, other.k, one.weighting, other.weighting, metric), *found
    )


def _of_labels(
    db: apsw.Connection, a: Evaluation, b: Evaluation, pair: tuple[Setting, Setting]
) -> tuple[Any, ...]:
    row = db.execute(
        read_sql(__package__, "evaluation_label_agreement"), _arguments(a, b, pair)
    ).fetchone()
    items, right_a, right_b, gained, lost, other = cast(Any, row)
    p_value = mcnemar(gained, lost)
    return (
        items,
        right_a / items if items else None,
        right_b / items if items else None,
        *(gained, lost, other, p_value),
        None if p_value is not None else _nothing_differs(items, "is right on other items"),
    )


def _of_numbers(
    db: apsw.Connection, a: Evaluation, b: Evaluation, pair: tuple[Setting, Setting]
) -> tuple[Any, ...]:
    rows = db.execute(read_sql(__package__, "evaluation_errors"), _arguments(a, b, pair)).fetchall()
    errors = np.array(cast(Any, rows), np.float64).reshape(-1, 3)
    items = len(errors)
    before, after, apart = errors.T
    gained, lost = int((after < before).sum()), int((after > before).sum())
    p_value = wilcoxon(after - before)
    return (
        items,
        float(before.mean()) if items else None,
        float(after.mean()) if items else None,
        *(gained, lost, int((apart > 0).sum()) - gained - lost, p_value),
        None if p_value is not None else _nothing_differs(items, "errs by another amount"),
    )


def _nothing_differs(items: int, what: str) -> str:
    return f"neither {what}" if items else "no item was predicted by both from the same truth"


def _arguments(a: Evaluation, b: Evaluation, pair: tuple[Setting, Setting]) -> dict[str, int | str]:
    one, other = pair
    return {
        "run_a": a.run,
        "space_a": one.space_id,
        "k_a": one.k,
        "weighting_a": one.weighting,
        "run_b": b.run,
        "space_b": other.space_id,
        "k_b": other.k,
        "weighting_b": other.weighting,
    }
