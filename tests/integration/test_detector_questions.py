"""The named questions about detectors, on a few rows whose answers can be told by heart."""

from importlib.resources import files

import pytest

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi


@pytest.fixture
def judged(db: dbapi.Connection) -> tuple[int, int]:
    """Two detectors' runs over three images of 100 x 100: two with objects, the third not annotated."""
    for item in (1, 2, 3):
        db.execute(
            "insert into items (id, kind, collection, sha256, width, height, sequence_number)"
            " values (?, 'image', 'c', ?, 100, 100, ?)",
            (item, f"{item:064x}", item),
        )
    # (id, item, class, side): a cat and a dog in the first, a cat in the second, and a crowd.
    for number, item, name, side, is_crowd in (
        *((1, 1, "cat", 50, 0), (2, 1, "dog", 20, 0)),
        *((3, 2, "cat", 10, 0), (4, 2, "cat", 90, 1)),
    ):
        db.execute(
            "insert into annotations (id, item_id, class_id, class_name, x_min, y_min, x_max, y_max,"
            " is_crowd, source) values (?, ?, 0, ?, 0, 0, ?, ?, ?, 'test')",
            (number, item, name, side, side, is_crowd),
        )
    for item in (1, 2):
        db.execute(
            "insert into annotated_items (item_id, source, truth_sha256) values (?, 'test', ?)",
            (item, "0" * 64),
        )
    good = {  # item -> (class, confidence, annotation or None)
        1: [("cat", 0.9, 1), ("dog", 0.8, 2), ("bird", 0.4, None), ("bird", 0.1, None)],
        2: [("cat", 0.7, 3)],
        3: [("cat", 0.99, None)],
    }
    bad = {1: [("cat", 0.6, 1), ("cat", 0.5, None)], 2: [], 3: []}
    return judge(db, "good", good), judge(db, "bad", bad)


def judge(
    db: dbapi.Connection, name: str, found: dict[int, list[tuple[str, float, int | None]]]
) -> int:
    model = db.execute("insert into models (name, family) values (?, 'yolo')", (name,)).lastrowid
    db.commit()
    parameters = {"settings": {"metrics_conf": 0.25}}
    with run(db, "detect", parameters=parameters, model_id=model) as current, immediate(db):
        for item, predictions in found.items():
            for class_name, confidence, annotation in predictions:
                db.execute(
                    "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min,"
                    " y_min, x_max, y_max, matched_annotation_id, iou)"
                    " values (?, ?, 0, ?, ?, 0, 0, 9, 9, ?, ?)",
                    (current.id, item, class_name, confidence, annotation, annotation and 0.8),
                )
            n_gt = {1: 2, 2: 1}.get(item)
            sure = [row for row in predictions if row[1] >= 0.25]
            tp = sum(annotation is not None for _, _, annotation in sure)
            counts = (None,) * 4 if n_gt is None else (n_gt, tp, len(sure) - tp, n_gt - tp)
            db.execute(
                "insert into image_metrics (run_id, item_id, n_gt, tp, fp, fn, n_pred, truth_sha256)"
                " values (?, ?, ?, ?, ?, ?, ?, ?)",
                (current.id, item, *counts, len(sure), n_gt and "0" * 64),
            )
            db.execute(
                "insert into losses (run_id, item_id, component, value, reason)"
                " values (?, ?, 'cls', ?, ?)",
                (current.id, item, n_gt and item * 1.5, None if n_gt else "nobody annotated it"),
            )
    return current.id


def ask(db: dbapi.Connection, name: str, *runs: int) -> list[tuple[object, ...]]:
    text = files("nearsql.schema.queries").joinpath(f"{name}.sql").read_text("utf-8")
    values = dict(zip(("detector", "other_detector"), runs, strict=False))
    return db.execute(text, values).fetchall()


def test_hardest_images(db: dbapi.Connection, judged: tuple[int, int]) -> None:
    assert ask(db, "hardest_images", judged[0]) == [
        (2, 3.0, 1, 1, 0, 0, None, None),
        (1, 1.5, 2, 2, 0, 1, None, None),
    ]


def test_missed_objects_are_no_crowds(db: dbapi.Connection, judged: tuple[int, int]) -> None:
    good, bad = judged
    assert ask(db, "missed_objects", good) == []
    assert [row[:4] for row in ask(db, "missed_objects", bad)] == [
        (1, "dog", 4.0, 2),
        (2, "cat", 1.0, 3),
    ]


def test_false_alarms_only_where_truth_is_known(
    db: dbapi.Connection, judged: tuple[int, int]
) -> None:
    assert [row[:3] for row in ask(db, "false_alarms", judged[0])] == [(1, "bird", 0.4)]


def test_detector_by_class(db: dbapi.Connection, judged: tuple[int, int]) -> None:
    good, bad = judged
    # class, objects, found, missed, false alarms, recall, precision, mean IoU
    assert ask(db, "detector_by_class", good) == [
        ("cat", 2, 2, 0, 0, 1.0, 1.0, 0.8),
        ("dog", 1, 1, 0, 0, 1.0, 1.0, 0.8),
        ("bird", 0, 0, 0, 1, None, 0.0, None),
    ]
    assert ask(db, "detector_by_class", bad) == [
        ("cat", 2, 1, 1, 1, 0.5, 0.5, 0.8),
        ("dog", 1, 0, 1, 0, 0.0, None, None),
    ]


def test_replaced_annotations_were_not_missed(
    db: dbapi.Connection, judged: tuple[int, int]
) -> None:
    good, _ = judged
    db.execute("delete from annotations where item_id = 1")
    db.execute(
        "insert into annotations (id, item_id, class_id, class_name, x_min, y_min, x_max, y_max, source)"
        " values (5, 1, 0, 'cat', 0, 0, 50, 50, 'test')"
    )
    db.execute("update annotated_items set truth_sha256 = ? where item_id = 1", ("1" * 64,))
    assert ask(db, "missed_objects", good) == []
    # What was matched then was no false alarm.
    assert [row[:3] for row in ask(db, "false_alarms", good)] == [(1, "bird", 0.4)]
    assert ask(db, "detector_by_class", good) == [("cat", 1, 1, 0, 0, 1.0, 1.0, 0.8)]


def test_what_lies_on_a_crowd_is_no_false_alarm(
    db: dbapi.Connection, judged: tuple[int, int]
) -> None:
    good, _ = judged
    for name, edge in (("cat", 60), ("dog", 61), ("cat", 160)):
        db.execute(
            "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min, y_min,"
            " x_max, y_max) values (?, 2, 0, ?, 0.5, ?, 60, ?, 80)",
            (good, name, edge, edge + 20),
        )
    assert [row[:3] for row in ask(db, "false_alarms", good)] == [
        *((2, "dog", 0.5), (2, "cat", 0.5), (1, "bird", 0.4)),
    ]
    rows = {row[0]: row[1:5] for row in ask(db, "detector_by_class", good)}
    assert rows["cat"] == (2, 2, 0, 1)
    assert rows["dog"] == (1, 1, 0, 1)


def test_objects_without_a_class_name_have_the_model_s(
    db: dbapi.Connection, judged: tuple[int, int]
) -> None:
    good, _ = judged
    db.execute("update models set parameters_json = ?", ('{"classes": ["cat"]}',))
    db.execute("update annotations set class_name = null where id in (1, 3)")
    db.execute("update annotations set class_name = null, class_id = 7 where id = 2")
    rows = {row[0]: row[1:4] for row in ask(db, "detector_by_class", good)}
    assert rows == {"cat": (2, 2, 0), "number 7": (1, 1, 0), "dog": (0, 0, 0), "bird": (0, 0, 0)}


def test_compare_detectors(db: dbapi.Connection, judged: tuple[int, int]) -> None:
    assert [row[:6] for row in ask(db, "compare_detectors", *judged)] == [
        (1, 2, 2, 1, 1, 1),
        (2, 1, 1, 0, 0, 0),
    ]


def test_the_view_of_embeddings_says_what_the_last_run_says(
    db: dbapi.Connection, judged: tuple[int, int], add_space
) -> None:
    space = add_space("good/gap/p5", [[1.0, 2.0]], "cosine", first_item=9)
    db.execute(
        "update spaces set kind = 'feature', model_id = (select id from models where name = 'good')"
    )
    db.execute(
        "insert into vectors (space_id, item_id, vector) values (?, 2, zeroblob(8))", (space,)
    )
    db.commit()
    rows = db.execute(
        "select item_id, model, cls_loss, box_loss, detect_run_id from embeddings order by 1"
    ).fetchall()
    assert rows == [(2, "good", 3.0, None, judged[0]), (9, "good", None, None, None)]
