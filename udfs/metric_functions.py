"""How good predictions are, and how alike two groupings: aggregates over pairs of values.

select accuracy(y_true, y_pred), macro_f1(y_true, y_pred) from cv_predictions where run_id = 7 and k = 10
"""

from array import array
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import evaluation_metrics
from nearsql.udfs.arguments import number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError

Value = str | float | bytes | None


@sql_function(
    kind="aggregate",
    example=(
        "select accuracy(column1, column2) from (values ('cat', 'cat'), ('cat', 'dog'), ('dog', 'dog'))"
    ),
)
class Accuracy:
    """The share of rows whose predicted value is the true one. NULL without a row that has a true value.

    Rows whose true value is NULL do not count. A prediction of NULL is a wrong one.
    """

    def __init__(self) -> None:
        self._hits = self._n = 0

    def step(self, y_true: Value, y_pred: Value) -> None:
        """One item."""
        if y_true is not None:
            self._n += 1
            self._hits += y_true == y_pred

    def final(self) -> float | None:
        """The share."""
        return self._hits / self._n if self._n else None


@sql_function(
    kind="aggregate",
    example=(
        "select macro_f1(column1, column2) from (values ('cat', 'cat'), ('cat', 'dog'), ('dog', 'dog'))"
    ),
)
class MacroF1:
    """The mean over all labels, true or predicted, of F1: scikit-learn's f1_score with average='macro'.

    F1 of a label is 2 hits / (rows where it is true + rows where it was predicted), so that rare labels
    count as much as frequent ones. Rows whose true value is NULL do not count; a prediction of NULL is a
    miss of the true label, and no label itself. NULL without a row.
    """

    def __init__(self) -> None:
        self._hits: Counter[Any] = Counter()
        self._true: Counter[Any] = Counter()
        self._predicted: Counter[Any] = Counter()

    def step(self, y_true: Value, y_pred: Value) -> None:
        """One item."""
        if y_true is None:
            return
        self._true[y_true] += 1
        if y_pred is not None:
            self._predicted[y_pred] += 1
            if y_true == y_pred:
                self._hits[y_true] += 1

    def final(self) -> float | None:
        """The mean."""
        labels = self._true.keys() | self._predicted.keys()
        return evaluation_metrics.macro_f1(
            *([counts[label] for label in labels] for counts in self._counts())
        )

    def _counts(self) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
        return self._hits, self._true, self._predicted


class _Numbers:
    """Two columns of numbers. Rows with a NULL in either do not count."""

    def __init__(self) -> None:
        self._true, self._predicted = array("d"), array("d")

    def step(self, y_true: float | None, y_pred: float | None) -> None:
        """One item."""
        if y_true is None or y_pred is None:
            return
        true, predicted = number("y_true", y_true), number("y_pred", y_pred)
        self._true.append(true)
        self._predicted.append(predicted)

    def by(self, metric: str) -> float | None:
        """A function of `evaluation_metrics` of the rows."""
        columns = np.frombuffer(self._true), np.frombuffer(self._predicted)
        try:
            with np.errstate(over="raise"):
                result: float | None = getattr(evaluation_metrics, metric)(*columns)
        except (OverflowError, FloatingPointError):
            raise SqlFunctionError("the numbers are so large that their squares overflow") from None
        return result


@sql_function(
    kind="aggregate",
    example="select mae(column1, column2) from (values (1, 1.5), (2, 2), (3, 2))",
)
class Mae(_Numbers):
    """The mean absolute error of predicted numbers. Rows with a NULL do not count; NULL without rows."""

    def final(self) -> float | None:
        """The mean."""
        return self.by("mae")


@sql_function(
    kind="aggregate",
    example="select r2(column1, column2) from (values (1, 1.5), (2, 2), (3, 2))",
)
class R2(_Numbers):
    """The coefficient of determination, 1 - sum (y_true - y_pred)^2 / sum (y_true - mean)^2.

    1 is perfect, 0 what always predicting the mean gives, and worse is negative. Rows with a NULL do not
    count. NULL for fewer than 2 rows, and where all true values are the same.
    """

    def final(self) -> float | None:
        """The coefficient."""
        return self.by("r2")


@sql_function(
    kind="aggregate",
    example="select spearman(column1, column2) from (values (1, 1.5), (2, 2.5), (3, 2))",
)
class Spearman(_Numbers):
    """Spearman's rank correlation of two columns of numbers, -1 to 1; equal values share their mean rank.

    Rows with a NULL do not count. NULL for fewer than 2 rows, and where a column has one value only.
    """

    def final(self) -> float | None:
        """The correlation."""
        return self.by("spearman")


class _Groupings:
    """Two groupings of the same items, as codes. Rows with a NULL in either do not count."""

    def __init__(self) -> None:
        self._groups: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        self._codes = array("q"), array("q")

    def step(self, a: Value, b: Value) -> None:
        """One item."""
        if a is None or b is None:
            return
        for value, groups, codes in zip((a, b), self._groups, self._codes, strict=True):
            codes.append(groups.setdefault(value, len(groups)))

    def codes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """A number for each row's group, by either grouping."""
        a, b = (np.frombuffer(codes, np.int64) for codes in self._codes)
        return a, b


@sql_function(
    kind="aggregate",
    example=(
        "select adjusted_rand(column1, column2) from (values (1, 'a'), (1, 'a'), (2, 'b'), (2, 'b'), (2, 'c'))"
    ),
)
class AdjustedRand(_Groupings):
    """The adjusted Rand index of two groupings: 1 for the same groups, 0 what chance gives.

    As scikit-learn's adjusted_rand_score. Rows with a NULL do not count: noise does with
    coalesce(cluster, -1). NULL for fewer than 2 rows.
    """

    def final(self) -> float | None:
        """The index."""
        from nearsql.udfs.cluster_agreement import adjusted_rand

        return adjusted_rand(*self.codes())


@sql_function(
    kind="aggregate",
    example=(
        "select round(adjusted_mutual_info(column1, column2), 4)\n"
        "from (values (1, 'a'), (1, 'a'), (2, 'b'), (2, 'b'), (2, 'c'))"
    ),
)
class AdjustedMutualInfo(_Groupings):
    """The adjusted mutual information of two groupings: 1 for the same groups, 0 what chance gives.

    As scikit-learn's adjusted_mutual_info_score. Rows with a NULL do not count: noise does with
    coalesce(cluster, -1). NULL for fewer than 2 rows.
    """

    def final(self) -> float | None:
        """The information."""
        from nearsql.udfs.cluster_agreement import adjusted_mutual_information, overlaps

        return adjusted_mutual_information(overlaps(*self.codes()))
