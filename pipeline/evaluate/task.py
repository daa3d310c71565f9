"""What an evaluation works on, read once: items, what is true of them, groups, folds and loss weights."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.evaluate.folds import assign_folds
from nearsql.pipeline.evaluate.groups import DUPLICATES, duplicate_groups, groups_by
from nearsql.pipeline.evaluate.settings import Settings, component
from nearsql.pipeline.evaluate.targets import Labels, Target, read_labels, read_target, read_weights
from nearsql.pipeline.runs import RunInput
from nearsql.pipeline.within import Within
from nearsql.udfs import dbapi
from nearsql.udfs.search.stored_vectors import rows_of_space
from nearsql.udfs.spaces import find_space

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """items: those of the target, n of them. groups: (n,) or None; folds: (n,), from 0. weights: by
    weighting, for those that go by a loss, (n,). thresholds: by space, within which two of its items were
    taken for duplicates. sha256: of all that was read."""

    target: Target
    groups: list[str | None] | None
    folds: Ids
    weights: dict[str, Numbers]
    settings: Settings
    thresholds: dict[str, float]
    sha256: str

    @property
    def items(self) -> Ids:
        """(n,) ids, ascending."""
        return self.target.items


def read_task(
    db: dbapi.Connection,
    sources: Sequence[RunInput],
    settings: Settings,
    *,
    label: str | None,
    target: str | None,
    detect_run: int | None,
    group_by: str | None,
    within: Within | None,
    seed: int,
    thresholds: dict[str, float] | None = None,
    poll: Callable[[], None] | None = None,
) -> Task:
    """Reads what is to be judged: the items of all the spaces that have the label or target.

    thresholds: for duplicates, by space; chosen from the data unless given. ks larger than the voters
    there are in the smallest of the other folds are left out, and that is said. Raises UserError where
    nothing is left.
    """
    what = (
        read_labels(db, label) if label is not None else read_target(db, target or "", detect_run)
    )
    items = what.items
    for source in sources:
        ids, _ = rows_of_space(db.apsw, find_space(db.apsw, source.name))
        items = np.intersect1d(items, ids, assume_unique=True)
    if within is not None:
        items = np.intersect1d(items, within.ids, assume_unique=True)
    if not len(items):
        named = ", ".join(source.name for source in sources)
        limit = "" if within is None else " of --within"
        raise UserError(f"no item{limit} with {_named(label, target)} has a vector in {named}")
    what = what.take(items)
    groups, found_thresholds = _groups(db, sources, items, group_by, thresholds, poll)
    folds = assign_folds(what, groups, settings.folds, seed)
    weights = {
        weighting: read_weights(db, name, detect_run, items)
        for weighting in settings.weightings
        if (name := component(weighting))
    }
    digest = hashlib.sha256(items.astype("<i8").tobytes())
    digest.update(json.dumps([what.values, groups]).encode())
    for own in weights.values():
        digest.update(own.astype("<f8").tobytes())
    digest.update(json.dumps([[s.generation, s.generation_token] for s in sources]).encode())
    return Task(
        what,
        groups,
        folds,
        weights,
        replace(settings, ks=_possible(settings.ks, folds)),
        found_thresholds,
        digest.hexdigest(),
    )


def rare_labels(task: Task) -> int:
    """How many labels have fewer items than there are folds, so that not every fold has one."""
    if not isinstance(task.target, Labels):
        return 0
    return int((np.bincount(task.target.codes) < task.settings.folds).sum())


def _named(label: str | None, target: str | None) -> str:
    return f"label {label!r}" if label is not None else f"target {target!r}"


def _groups(
    db: dbapi.Connection,
    sources: Sequence[RunInput],
    items: Ids,
    group_by: str | None,
    thresholds: dict[str, float] | None,
    poll: Callable[[], None] | None,
) -> tuple[list[str | None] | None, dict[str, float]]:
    if group_by is None:
        return None, {}
    if group_by != DUPLICATES:
        return groups_by(db, group_by, items), {}
    return duplicate_groups(db, [s.name for s in sources], items, thresholds, poll)


def _possible(ks: tuple[int, ...], folds: Ids) -> tuple[int, ...]:
    """Those of the ks for which each fold has enough items in the others."""
    sizes = np.bincount(folds)
    voters = len(folds) - int(sizes.max())
    possible = tuple(k for k in ks if k <= voters)
    if not possible:
        raise UserError(
            f"-k {', '.join(map(str, ks))}: an item has no more than {voters} items in other folds"
        )
    left_out = ks[len(possible) :]
    if left_out:
        say(
            f"left out k = {', '.join(map(str, left_out))}: an item has no more than {voters:,} items in"
            " other folds"
        )
    return possible


def parameters_of(task: Task, asked: dict[str, Any], within: dict[str, Any]) -> dict[str, Any]:
    """What a run records."""
    settings = task.settings
    return {
        **asked,
        "k": list(settings.ks),
        "weighting": list(settings.weightings),
        "temperature": settings.temperature,
        "folds": settings.folds,
        **within,
        **({"duplicate_thresholds": task.thresholds} if task.thresholds else {}),
        "data_sha256": task.sha256,
    }
