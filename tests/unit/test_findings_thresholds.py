"""Thresholds by published rules: what the papers' own examples and definitions say."""

import numpy as np
import pytest

from nearsql.udfs.findings.outliers import find_outliers
from nearsql.udfs.findings.thresholds import (
    NEAR_FRACTION,
    OUTLIER_Z,
    class_thresholds,
    modified_z_scores,
    near_threshold,
)


def test_near_is_a_fraction_of_the_median_distance_to_the_nearest() -> None:
    assert near_threshold(np.array([1.0, 2.0, 30.0])) == NEAR_FRACTION * 2
    # Copies, and what rounding leaves of them, do not count.
    assert near_threshold(np.array([0.0, 0.0, 0.0, 1e-16, 1.0, 2.0, 30.0])) == NEAR_FRACTION * 2
    assert near_threshold(np.zeros(3)) == 0.0
    assert near_threshold(np.empty(0)) == 0.0


def test_modified_z_scores_are_those_of_the_definition() -> None:
    values = np.array([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3])
    scores = modified_z_scores(values)
    # The median is 2.45, the median absolute deviation from it 0.15 or so: by hand.
    deviations = sorted(abs(v - 2.45) for v in values)
    mad = (deviations[4] + deviations[5]) / 2
    assert scores == pytest.approx([0.6745 * (v - 2.45) / mad for v in values])
    assert np.flatnonzero(scores > OUTLIER_Z).tolist() == [8, 9]


def test_scores_are_undefined_where_nothing_varies() -> None:
    assert np.isnan(modified_z_scores(np.array([1.0, 1.0, 1.0, 5.0]))).all()
    assert np.isnan(modified_z_scores(np.empty(0))).all()
    found = find_outliers(np.array([[1.0], [1.0], [1.0], [5.0]]))
    assert found.threshold is None
    assert found.order.tolist() == [3, 0, 1, 2]


def test_the_threshold_of_outliers_is_where_the_score_is_the_limit() -> None:
    rng = np.random.default_rng(0)
    farthest = np.exp(rng.normal(size=500))
    farthest[:7] = 0.0  # with k copies: no outlier, and no part of the spread
    found = find_outliers(np.stack([farthest / 2, farthest], axis=1))
    assert found.threshold is not None
    ranked = farthest[found.order]
    assert (ranked[1:] <= ranked[:-1]).all()
    above = farthest > found.threshold
    np.testing.assert_array_equal(above, np.nan_to_num(found.scores, nan=-1) > OUTLIER_Z)
    logs = np.log(farthest[7:])
    at = np.median(logs) + OUTLIER_Z * np.median(np.abs(logs - np.median(logs))) / 0.6745
    assert found.threshold == pytest.approx(np.exp(at))
    assert np.isnan(found.scores[:7]).all()


@pytest.mark.parametrize("width", [0, 1])
def test_outliers_of_items_without_others(width: int) -> None:
    found = find_outliers(np.zeros((2, width)))
    assert found.order.tolist() == [0, 1]
    assert found.threshold is None


def test_class_thresholds_are_the_mean_shares_of_those_who_have_the_class() -> None:
    shares = np.array([1.0, 0.5, 0.2, 0.4])
    found = class_thresholds(shares, np.array([0, 0, 2, 2]), 3)
    np.testing.assert_allclose(found, [0.75, np.nan, 0.3])
