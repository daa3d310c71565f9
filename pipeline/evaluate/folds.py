"""Which fold each item is in: scikit-learn's splitters over the items in the order of their ids."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.evaluate.targets import Labels, Target

Ids = NDArray[np.int64]


def assign_folds(target: Target, groups: list[str | None] | None, n_folds: int, seed: int) -> Ids:
    """The fold of each of the target's items, (n,) from 0.

    Labels are spread over the folds in their proportions (StratifiedKFold), numbers at random (KFold).
    groups: of each item the group it belongs to, None for one by itself; a group is in one fold as a
    whole (StratifiedGroupKFold, GroupKFold). Raises UserError where that cannot be.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    n = len(target.items)
    if n < n_folds:
        raise UserError(f"--folds {n_folds} needs as many items, and {n} can be judged")
    options = {"n_splits": n_folds, "shuffle": True, "random_state": seed}
    labels = target.codes if isinstance(target, Labels) else None
    codes = None if groups is None else _codes(groups)
    if codes is not None and codes.max() + 1 < n_folds:
        raise UserError(
            f"--folds {n_folds} needs as many groups, and --group-by gives {codes.max() + 1}"
        )
    if labels is not None and np.bincount(labels).max() < n_folds:
        raise UserError(
            f"--folds {n_folds} needs a label of as many items, and the most frequent has"
            f" {np.bincount(labels).max()}"
        )
    splitter: Any
    if codes is None:
        splitter = KFold(**options) if labels is None else StratifiedKFold(**options)
    else:
        splitter = GroupKFold(**options) if labels is None else StratifiedGroupKFold(**options)
    folds = np.empty(n, np.int64)
    with warnings.catch_warnings():
        # That a label has fewer items than there are folds is said by the command.
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(np.empty((n, 0)), labels, codes)):
            folds[held_out] = fold
    return folds


def _codes(groups: list[str | None]) -> Ids:
    """A number for each group, and for each item without one."""
    numbers: dict[Any, int] = {}
    keys = [(place,) if group is None else group for place, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
