"""The space of losses and metrics: every column counts the same, and what is undefined stands at the mean."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nearsql.pipeline.detect import metric_space
from nearsql.pipeline.runs import run
from nearsql.udfs import dbapi

numbers = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(np.nan))


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 5)), elements=numbers))
def test_standardise_equals_column_by_column(values: np.ndarray) -> None:
    scaled, means, deviations = metric_space.standardise(values)
    for column in range(values.shape[1]):
        defined = [x for x in values[:, column] if not np.isnan(x)]
        if not defined:
            assert not scaled[:, column].any()
            continue
        mean = sum(defined) / len(defined)
        deviation = (sum((x - mean) ** 2 for x in defined) / len(defined)) ** 0.5
        assert means[column] == pytest.approx(mean, rel=1e-9, abs=1e-9)
        assert deviations[column] == pytest.approx(deviation, rel=1e-6, abs=1e-6)
        for row, value in enumerate(values[:, column]):
            if np.isnan(value) or deviations[column] <= 1e-12 * max(1.0, abs(mean)):
                assert scaled[row, column] == 0
            else:
                expected = (value - means[column]) / deviations[column]
                assert scaled[row, column] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.fixture
def detector(db: dbapi.Connection) -> int:
    """The id of a detector's model, with eight images to judge."""
    for item in range(1, 9):
        db.execute(
            "insert into items (id, kind, collection, sha256, width, height, sequence_number)"
            " values (?, 'image', 'c', ?, 9, 9, ?)",
            (item, f"{item:064x}", item),
        )
    model = db.execute("insert into models (name, family) values ('m', 'yolo')").lastrowid
    db.commit()
    assert model is not None
    return model


def judge(
    db: dbapi.Connection,
    model: int,
    rows: dict[int, tuple[float | None, float | None]],
    conf: float,
) -> int:
    """A run that found these (box loss, mean IoU) of these items; an item without IoU has no truth."""
    settings = {"conf": conf}
    with run(db, "detect", parameters={"settings": settings}, model_id=model) as current:
        for item, (box, iou) in rows.items():
            db.execute(
                "insert into losses (run_id, item_id, component, value, reason)"
                " values (?, ?, 'box', ?, ?)",
                (current.id, item, box, "no objects" if box is None else None),
            )
            counts = (None,) * 4 if iou is None else (1, 1, 0, 0)
            db.execute(
                "insert into image_metrics (run_id, item_id, n_gt, tp, fp, fn, n_pred, mean_iou)"
                " values (?, ?, ?, ?, ?, ?, 0, ?)",
                (current.id, item, *counts, iou),
            )
        db.commit()
        metric_space.refresh(current, "m", ["box"], json.dumps(settings))
    return current.id


def vectors(db: dbapi.Connection) -> dict[int, list[float]]:
    rows = db.execute(
        "select v.item_id, v.vector from vectors v join spaces s on s.id = v.space_id"
        " where s.name = 'm/metrics'"
    )
    return {item: np.frombuffer(vector, "<f4").tolist() for item, vector in rows}


def test_alike_images_are_near(db: dbapi.Connection, detector: int) -> None:
    rows = {
        1: (1.0, 0.9),
        2: (1.1, 0.88),
        3: (9.0, 0.1),
        4: (9.2, 0.12),
        5: (None, 0.5),
        6: (3.0, None),
    }
    judge(db, detector, rows, 0.25)
    assert set(vectors(db)) == {1, 2, 3, 4, 5}  # 6 was not annotated
    assert vectors(db)[5][0] == 0  # undefined: at the mean
    assert db.execute("select id from knn('m/metrics', 1, 1)").fetchall() == [(2,)]
    assert db.execute("select id from knn('m/metrics', 3, 1)").fetchall() == [(4,)]
    parameters = json.loads(
        db.execute("select parameters_json from models where name = 'm/metrics'").fetchone()[0]
    )
    assert parameters["columns"] == ["box", "mean_iou", "mean_conf", "hit_freq", "dice_score"]
    assert parameters["means"][0] == pytest.approx((1.0 + 1.1 + 9.0 + 9.2) / 4)


def test_a_further_run_makes_it_anew_and_other_settings_do_not_mix(
    db: dbapi.Connection, detector: int
) -> None:
    first = judge(db, detector, {1: (1.0, 0.9), 2: (2.0, 0.8)}, 0.25)
    before = vectors(db)
    # The later judgement of item 2 counts; item 3 is new.
    second = judge(db, detector, {2: (5.0, 0.2), 3: (1.0, 0.9)}, 0.25)
    after = vectors(db)
    assert set(after) == {1, 2, 3}
    assert after[1] == after[3] != before[1]
    assert db.execute("select distinct run_id from vectors").fetchall() == [(second,)]
    judge(db, detector, {7: (1.0, 0.9), 8: (2.0, 0.8)}, 0.5)
    assert set(vectors(db)) == {7, 8}
    assert first != second


def test_one_image_makes_no_space(db: dbapi.Connection, detector: int) -> None:
    judge(db, detector, {1: (1.0, 0.9)}, 0.25)
    assert db.execute("select count(*) from spaces").fetchone() == (0,)


def test_images_without_ground_truth_make_no_space(db: dbapi.Connection, detector: int) -> None:
    judge(db, detector, {1: (1.0, None), 2: (2.0, None)}, 0.25)
    assert db.execute("select count(*) from spaces").fetchone() == (0,)
