"""What is to be predicted of each item: a label, or a number; and the losses that votes are weighted by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

# The numbers of `image_metrics` that can be targets.
METRICS = (
    *("mean_iou", "mean_iou_gt", "mean_conf", "hit_freq", "dice_score"),
    *("n_gt", "n_pred", "tp", "fp", "fn", "flag_cat", "flag_supercat"),
)


@dataclass(frozen=True, slots=True)
class Labels:
    """items (n,), ascending; names, the labels there are, as bytes sort; codes (n,), each item's label."""

    items: Ids
    names: list[str]
    codes: Ids

    def take(self, items: Ids) -> "Labels":
        """Of those of its items only. Labels that no item is left of are names no more."""
        codes = self.codes[np.isin(self.items, items)]
        there, codes = np.unique(codes, return_inverse=True)
        return Labels(items, [self.names[code] for code in there], codes.astype(np.int64))

    def value(self, code: int) -> str:
        """The label of a code."""
        return self.names[code]

    @property
    def values(self) -> list[Any]:
        """Each item's label, (n,)."""
        return [self.names[code] for code in self.codes.tolist()]


@dataclass(frozen=True, slots=True)
class Values:
    """items (n,), ascending, and a finite number of each, (n,)."""

    items: Ids
    numbers: Numbers

    def take(self, items: Ids) -> "Values":
        """Of those of its items only."""
        return Values(items, self.numbers[np.isin(self.items, items)])

    @property
    def values(self) -> list[Any]:
        """Each item's number, (n,)."""
        return self.numbers.tolist()


Target = Labels | Values


def needs_detector(target: str | None, weightings: Sequence[str]) -> bool:
    """Whether a target or a weighting is something that a detect run measured."""
    is_of_run = target is not None and not target.startswith("label:")
    return is_of_run or any(weighting.startswith("loss:") for weighting in weightings)


def read_labels(db: dbapi.Connection, name: str) -> Labels:
    """The items that have a label of that name. Raises UserError, naming the labels there are."""
    rows = _label_rows(db, name)
    names = sorted({value for _, value in rows}, key=str.encode)
    codes = {value: code for code, value in enumerate(names)}
    return Labels(
        np.array([item for item, _ in rows], np.int64),
        names,
        np.array([codes[value] for _, value in rows], np.int64),
    )


def read_target(db: dbapi.Connection, target: str, detect_run: int | None) -> Values:
    """The items that have a number of that kind.

    target: a column of image_metrics, `loss:COMPONENT`, or `label:NAME` where the values of the label are
    numbers. Raises UserError for another, and where no item has it.
    """
    kind, _, name = target.partition(":")
    if kind == "label" and name:
        return _numeric_label(db, name)
    if kind == "loss" and name:
        return read_losses(db, name, detect_run)
    if target not in METRICS:
        raise UserError(
            f"--target must be one of {', '.join(METRICS)}, loss:COMPONENT or label:NAME,"
            f" not {target!r}"
        )
    rows = db.execute(
        f"select item_id, {target} from image_metrics where run_id = ? and {target} is not null"
        " order by item_id",
        (detect_run,),
    ).fetchall()
    if not rows:
        raise UserError(f"detect run {detect_run} has measured {target} of no image")
    return _values(rows)


def read_losses(db: dbapi.Connection, component: str, detect_run: int | None) -> Values:
    """The losses of one component. Raises UserError, naming the components there are."""
    rows = db.execute(
        "select item_id, value from losses where run_id = ? and component = ? and value is not null"
        " order by item_id",
        (detect_run, component),
    ).fetchall()
    if not rows:
        found = db.execute(
            "select distinct component from losses where run_id = ? and value is not null",
            (detect_run,),
        )
        there_are = ", ".join(sorted(name for (name,) in found)) or "none"
        raise UserError(f"detect run {detect_run} has no loss {component!r}: it has {there_are}")
    return _values(rows)


def read_weights(
    db: dbapi.Connection, component: str, detect_run: int | None, items: Ids
) -> Numbers:
    """What each item's vote weighs by its loss, (n,): 1 / (1 + loss); NaN, no vote, without a loss.

    So an item that the detector knows well has the weight 1, and one with a loss of 1 half of that.
    """
    losses = read_losses(db, component, detect_run)
    if losses.numbers.min() < 0:
        raise UserError(
            f"--weighting loss:{component} needs losses of at least 0, and the least is"
            f" {losses.numbers.min()}"
        )
    weights = np.full(len(items), np.nan)
    _, at, of_losses = np.intersect1d(items, losses.items, assume_unique=True, return_indices=True)
    weights[at] = 1 / (1 + losses.numbers[of_losses])
    return weights


def find_detect_run(db: dbapi.Connection, given: int | None) -> int:
    """The detect run whose metrics and losses are meant: the given one, or the newest.

    Raises UserError when it is not a finished one.
    """
    ids = [
        run_id
        for (run_id,) in db.execute(
            "select id from runs where kind = 'detect' and status = 'finished' order by id desc"
        )
    ]
    if not ids:
        raise UserError("this file has no finished detect run: run `nearsql detect` first")
    if given is not None and given not in ids:
        raise UserError(
            f"--detect-run must be a finished detect run ({', '.join(map(str, ids[:10]))}), not {given}"
        )
    return ids[0] if given is None else given


def _label_rows(db: dbapi.Connection, name: str) -> list[tuple[int, str]]:
    rows = db.execute(
        "select item_id, value from item_labels where name = ? order by item_id", (name,)
    ).fetchall()
    if not rows:
        found = [n for (n,) in db.execute("select distinct name from item_labels order by name")]
        there_are = ", ".join(found[:10]) or "none"
        raise UserError(f"no item has a label {name!r}: the labels are {there_are}")
    return rows


def _numeric_label(db: dbapi.Connection, name: str) -> Values:
    rows = []
    for item, value in _label_rows(db, name):
        try:
            rows.append((item, float(value)))
        except ValueError:
            raise UserError(
                f"label:{name} must be numbers, and of item {item} it is {value!r}: --label {name}"
                " evaluates it as a label"
            ) from None
    return _values(rows)


def _values(rows: list[tuple[int, float]]) -> Values:
    items, numbers = zip(*rows, strict=True)
    found = Values(np.array(items, np.int64), np.array(numbers, np.float64))
    wrong = found.items[~np.isfinite(found.numbers)]
    if len(wrong):
        raise UserError(f"the target of item {wrong[0]} is not a finite number")
    return found
