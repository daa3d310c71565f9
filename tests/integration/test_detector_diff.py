"""detector_diff and detector_agreement against the metrics, image by image."""

import sqlite3
from typing import Any

import numpy as np
import pytest
from judged_runs import add_detector_run, add_items
from scipy.stats import wilcoxon as signed_rank

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi, detector_diff

TP = {"n_gt": 3, "fp": 0, "fn": 0}


def diff(db: dbapi.Connection, *arguments: Any, columns: str = "id, change") -> list[tuple]:
    marks = ", ".join("?" * len(arguments))
    return db.execute(f"select {columns} from detector_diff({marks})", arguments).fetchall()


def agreement(db: dbapi.Connection, a: int, b: int) -> dict[str, dict[str, Any]]:
    cursor = db.execute("select * from detector_agreement(?, ?)", (a, b))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    return {row["metric"]: row for row in rows}


def test_more_of_a_metric_and_less_of_a_loss_improve(db: dbapi.Connection) -> None:
    a = add_detector_run(
        db,
        {item: {"mean_iou_gt": value, "mean_conf": value} for item, value in ((1, 0.2), (2, 0.8), (3, 0.5))},
        {1: {"box": 2.0}, 2: {"box": 1.0}, 3: {"box": 3.0}},
    )  # fmt: skip
    b = add_detector_run(
        db,
        {item: {"mean_iou_gt": value, "mean_conf": value} for item, value in ((1, 0.6), (2, 0.7), (3, 0.5))},
        {1: {"box": 2.5}, 2: {"box": 0.5}, 3: {"box": 3.0}},
    )  # fmt: skip
    assert diff(db, a, b) == [(1, "improved"), (2, "regressed"), (3, "same")]
    assert diff(db, a, b, "loss:box", columns="*") == [
        (1, "regressed", 2.0, 2.5, 0.5, None),
        (2, "improved", 1.0, 0.5, -0.5, None),
        (3, "same", 3.0, 3.0, 0.0, None),
    ]
    assert diff(db, a, b, "mean_conf") == [(1, "higher"), (2, "lower"), (3, "same")]
    assert diff(db, a, b, "mean_conf", 0.2) == [(1, "higher"), (2, "same"), (3, "same")]


def test_what_cannot_be_compared_says_why(db: dbapi.Connection) -> None:
    values = ((1, 0.5), (2, None), (3, 0.5), (4, None), (5, 0.5))
    a = add_detector_run(db, {i: {"mean_iou": v, "mean_conf": v} for i, v in values})
    values = ((1, None), (2, 0.5), (3, 0.9), (4, None), (6, 0.5))
    b = add_detector_run(
        db, {i: {"mean_iou": v, "mean_conf": v} for i, v in values}, truth={3: "f"}
    )
    reasons = [
        (1, None, "run_b has no value"),
        (2, None, "run_a has no value"),
        (3, None, "the ground truth changed between the runs"),
        (4, None, "neither run has a value"),
    ]
    assert diff(db, a, b, "mean_iou", columns="id, change, reason") == reasons
    # What the model says by itself needs no truth.
    assert diff(db, a, b, "mean_conf", columns="id, change, reason") == [
        *reasons[:2],
        (3, "higher", None),
        reasons[3],
    ]
    found = agreement(db, a, b)
    assert found["mean_iou"]["images"] == 0
    assert found["mean_iou"]["left_out"] == 4
    assert found["mean_iou"]["reason"] == "no image has a value in both runs from the same truth"
    assert found["mean_iou"]["mean_a"] is found["mean_iou"]["p_value"] is None
    assert found["mean_conf"]["improved"] is None
    assert "dice_score" not in found  # neither has any


def test_agreement_of_many_images_is_counted(db: dbapi.Connection) -> None:
    random = np.random.default_rng(3)
    n = 120
    fp = random.integers(0, 5, (2, n))
    box = random.gamma(2, size=(2, n)).astype(np.float32).astype(float)
    box[1, :40] = box[0, :40] * (1 + 1e-9)
    box[1, 40:] *= 0.8
    runs = [
        add_detector_run(
            db,
            {i + 1: {**TP, "tp": 3, "fp": int(fp[side, i])} for i in range(n)},
            {i + 1: {"box": box[side, i], "cls": 1.0} for i in range(n)},
        )
        for side in (0, 1)
    ]
    found = agreement(db, *runs)
    assert list(found) == ["tp", "fp", "fn", "n_pred", "loss:box", "loss:cls"]
    for name, values in (("fp", fp.astype(float)), ("loss:box", box)):
        difference = values[1] - values[0]
        difference[np.abs(difference) <= detector_diff.TOLERANCE] = 0
        row = found[name]
        assert row["better"] == "lower"
        assert (row["improved"], row["regressed"], row["same"]) == (
            (difference < 0).sum(),
            (difference > 0).sum(),
            (difference == 0).sum(),
        )
        assert row["mean_a"] == pytest.approx(values[0].mean())
        assert row["mean_b"] == pytest.approx(values[1].mean())
        assert row["median_difference"] == pytest.approx(np.median(difference))
        assert row["p_value"] == pytest.approx(signed_rank(difference[difference != 0]).pvalue)
        changes = [change for _, change in diff(db, *runs, name)]
        assert [changes.count(c) for c in ("improved", "regressed", "same")] == [
            row["improved"],
            row["regressed"],
            row["same"],
        ]
    assert found["loss:box"]["same"] == 40
    assert found["loss:cls"]["reason"] == "no image differs"


def test_every_metric_of_the_table_has_its_own_values(db: dbapi.Connection) -> None:
    """The names in METRICS and those in the SQL are the columns of image_metrics."""
    columns = {name for _, name, *_ in db.execute("pragma table_info(image_metrics)")}
    others = {"run_id", "item_id", "n_gt", "category_distribution_json", "truth_sha256"}
    assert set(detector_diff.METRICS) == columns - others
    a, b = (
        add_detector_run(
            db,
            {
                1: {
                    name: (place + side) % 2 if name.startswith("flag") else (place + side) / 20
                    if "_" in name and name != "n_pred"
                    else place + side
                    for place, name in enumerate(detector_diff.METRICS)
                }
                | {"n_gt": 9}
            },
        )
        for side in (0, 1)
    )  # fmt: skip
    (stored,) = db.execute(
        f"select {', '.join(detector_diff.METRICS)} from image_metrics where run_id = ?", (b,)
    )
    found = [diff(db, a, b, name, columns="value_b")[0][0] for name in detector_diff.METRICS]
    assert found == list(stored)


def test_refusals(db: dbapi.Connection) -> None:
    a = add_detector_run(db, {1: {}}, {1: {"box": 1.0}})
    b = add_detector_run(db, {2: {}}, {2: {"dfl": 1.0}})
    with run(db, "cluster", parameters={}) as clustering:
        pass
    add_items(db, [3])
    with pytest.raises(ValueError, match="stop"), run(db, "detect", parameters={}) as failed:
        raise ValueError("stop")
    with immediate(db):
        db.execute("insert into annotations (item_id, class_id, source) values (3, 0, 'tests')")
    for arguments, sentence in (
        ((a, b), f"runs {a} and {b} judged no image in common, so that nothing can be compared"),
        ((a, clustering.id), f"run {clustering.id} is of kind 'cluster', not 'detect'"),
        ((a, failed.id), f"run {failed.id} is failed, and has not judged all of its images"),
        ((a, 99), f"there is no run 99: detector runs have numbers, the newest are {b}, {a}"),
        (
            (a, a, "iou"),
            "metric must be one of mean_iou, mean_iou_gt, hit_freq, dice_score, tp, fp, fn, flag_cat,"
            + " flag_supercat, mean_conf, n_pred, loss:box, not 'iou'",
        ),
        ((a, a, "loss:cls"), "metric must be one of mean_iou,"),
        ((a, a, "fn", -1), "tolerance must be at least 0, not -1"),
        (("x", a), "run_a must be a whole number of at least 1, not 'x'"),
    ):
        with pytest.raises(sqlite3.OperationalError) as caught:
            diff(db, *arguments)
        assert str(caught.value).startswith(f"detector_diff: {sentence}")
