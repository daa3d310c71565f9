"""The metrics of one image, and the supercategories that one of them needs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect import supercategories
from nearsql.pipeline.detect.detections import Detection
from nearsql.pipeline.detect.metrics import ImageMetrics, image_metrics
from nearsql.pipeline.detect.truth import Target
from nearsql.udfs import dbapi, rle

CLASSES = ("cat", "dog", "car", "unheard of")
GROUPS = {"cat": "animal", "dog": "animal", "car": "vehicle"}
SIDE = 12

Box = tuple[int, int, int, int]


def mask_of(box: Box) -> dict[str, Any]:
    """The mask that fills a box of the image."""
    bitmap = np.zeros((SIDE, SIDE), bool)
    bitmap[box[1] : box[3], box[0] : box[2]] = True
    return rle.encode(bitmap)


def seen(class_index: int, confidence: float, box: Box, mask: Box | None = None) -> Detection:
    return Detection(class_index, confidence, box, mask_of(mask or box))


def true(class_index: int, box: Box, mask: Box | None = None, **more: Any) -> Target:
    return Target(class_index, box, mask_of(mask or box), **more)


def measured(
    found: list[Detection], truth: list[Target] | None, has_masks: bool = True, **more: Any
) -> ImageMetrics:
    return image_metrics(
        found, truth, classes=CLASSES, supercategories=GROUPS, has_masks=has_masks, **more
    )


LEFT, RIGHT, MOST_OF_LEFT, BELOW = (0, 0, 4, 10), (6, 0, 10, 10), (0, 0, 4, 8), (0, 11, 9, 12)


def test_one_hit_one_miss_and_one_phantom() -> None:
    found = [seen(0, 0.9, MOST_OF_LEFT, LEFT), seen(0, 0.5, BELOW)]
    assert asdict(measured(found, [true(1, RIGHT), true(0, LEFT)])) == {
        "n_gt": 2,
        "n_pred": 2,
        "tp": 1,
        "fp": 1,
        "fn": 1,
        "mean_iou": pytest.approx(0.8),
        "mean_iou_gt": pytest.approx(0.4),
        "mean_conf": pytest.approx(0.7),
        "hit_freq": 0.5,
        "dice_score": pytest.approx(0.5),
        "category_distribution": {"cat": 2},
        "flag_cat": True,
        "flag_supercat": False,
        "matches": [(0, 1, pytest.approx(0.8))],
    }


def test_without_ground_truth_only_the_predictions_are_measured() -> None:
    metrics = measured([seen(2, 0.5, LEFT), seen(0, 0.75, RIGHT)], None)
    assert metrics == ImageMetrics(
        n_pred=2, mean_conf=0.625, category_distribution={"car": 1, "cat": 1}
    )
    assert metrics.n_gt is metrics.tp is metrics.flag_cat is metrics.dice_score is None


def test_an_empty_image_is_known_to_be_empty() -> None:
    metrics = measured([], [])
    assert (metrics.n_gt, metrics.n_pred, metrics.tp, metrics.fp, metrics.fn) == (0, 0, 0, 0, 0)
    assert (metrics.flag_cat, metrics.flag_supercat) == (False, False)
    undefined = (metrics.mean_iou, metrics.mean_iou_gt, metrics.mean_conf, metrics.hit_freq)
    assert undefined == (None,) * 4
    assert metrics.dice_score is None
    phantom = measured([seen(0, 0.9, LEFT)], [])
    assert (phantom.fp, phantom.hit_freq, phantom.flag_cat) == (1, None, True)


def test_nothing_found_is_zero_where_it_is_defined() -> None:
    metrics = measured([], [true(0, LEFT)])
    assert (metrics.hit_freq, metrics.mean_iou_gt, metrics.dice_score) == (0, 0, 0)
    assert (metrics.mean_iou, metrics.mean_conf) == (None, None)
    assert metrics.fn == 1


def test_only_confident_predictions_count_and_keep_their_numbers() -> None:
    found = [seen(1, 0.24, RIGHT), seen(0, 0.25, LEFT)]
    metrics = measured(found, [true(0, LEFT)])
    assert (metrics.n_pred, metrics.fp, metrics.mean_conf) == (1, 0, 0.25)
    assert metrics.matches == [(1, 0, 1.0)]
    assert measured(found, None, metrics_conf=0.2).n_pred == 2


def test_dice_needs_masks_on_both_sides() -> None:
    found, truth = [seen(0, 0.9, LEFT)], [true(0, LEFT), true(1, RIGHT)]
    assert measured(found, truth).dice_score == 0.5
    assert measured(found, truth, has_masks=False).dice_score is None
    assert measured(found, [truth[0], Target(1, RIGHT)]).dice_score is None
    crowd = Target(1, RIGHT, is_crowd=True)  # what does not count needs no mask
    assert measured(found, [truth[0], crowd]).dice_score == 1


def test_dice_of_a_match_is_by_the_masks_and_not_by_the_boxes() -> None:
    # 20 pixels and 40, of which 20 in common
    assert measured([seen(0, 0.9, LEFT, (0, 0, 2, 10))], [true(0, LEFT)]).dice_score == (
        pytest.approx(40 / 60)
    )
    empty = (0, 0, 0, 0)
    assert measured([seen(0, 0.9, LEFT, empty)], [true(0, LEFT)]).dice_score == 0
    assert measured([seen(0, 0.9, LEFT, empty)], [true(0, LEFT, empty)]).dice_score == 0


def test_a_mask_that_does_not_fit_is_refused() -> None:
    found = [seen(0, 0.9, LEFT)]
    other = Target(0, LEFT, {"size": [3, 3], "counts": [9]}, id=7)
    with pytest.raises(UserError, match="annotation 7 is 3 x 3 pixels, and its image is 12 x 12"):
        measured(found, [other])
    with pytest.raises(UserError, match="annotation 7 has runs of 8 pixels"):
        measured(found, [Target(0, LEFT, {"size": [3, 3], "counts": [8]}, id=7)])


def test_crowds_are_neither_missed_nor_wrongly_found() -> None:
    crowd = true(0, (0, 0, SIDE, SIDE), is_crowd=True)
    metrics = measured([seen(0, 0.9, LEFT), seen(1, 0.9, RIGHT)], [crowd])
    assert (metrics.n_gt, metrics.n_pred, metrics.tp, metrics.fp, metrics.fn) == (0, 2, 0, 1, 0)
    assert metrics.hit_freq is None
    # The class of a crowd may be predicted or not; another must not.
    assert measured([seen(0, 0.9, LEFT)], [crowd]).flag_cat is False
    assert measured([], [crowd]).flag_cat is False
    assert metrics.flag_cat is True
    assert metrics.flag_supercat is False


def test_flags_compare_sets_of_classes() -> None:
    cat, dog, car, unheard_of = (seen(index, 0.9, LEFT) for index in range(4))
    truth = [true(0, LEFT), true(0, RIGHT)]
    assert measured([cat], truth).flag_cat is False  # a set: the number does not matter
    for found, flags in (
        ([dog], (True, False)),
        ([cat, dog], (True, False)),
        ([cat, car], (True, True)),
        ([], (True, True)),
        ([cat, unheard_of], (True, None)),
    ):
        metrics = measured(found, truth)
        assert (metrics.flag_cat, metrics.flag_supercat) == flags
    assert measured([unheard_of], [true(3, LEFT)]).flag_supercat is None
    assert measured([unheard_of], [true(3, LEFT)]).flag_cat is False


numbers = st.integers(0, 8)
some_boxes = st.tuples(numbers, numbers, st.integers(1, 4), st.integers(1, 4)).map(
    lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])
)


@settings(deadline=None)
@given(
    st.lists(st.builds(seen, st.integers(0, 2), st.floats(0, 1), some_boxes), max_size=6),
    st.lists(st.builds(true, st.integers(0, 2), some_boxes, is_crowd=st.booleans()), max_size=6),
)
def test_the_numbers_of_any_image_add_up(found: list[Detection], truth: list[Target]) -> None:
    metrics = measured(found, truth)
    assert metrics.n_gt is not None
    assert metrics.tp is not None
    assert metrics.fp is not None
    objects = [target for target in truth if not target.is_crowd]
    assert metrics.tp + (metrics.fn or 0) == metrics.n_gt == len(objects)
    assert metrics.tp + metrics.fp <= metrics.n_pred == sum(one.confidence >= 0.25 for one in found)
    assert sum(metrics.category_distribution.values()) == metrics.n_pred
    assert len({pair[0] for pair in metrics.matches}) == metrics.tp
    assert len({pair[1] for pair in metrics.matches}) == metrics.tp
    for detection, target, iou in metrics.matches:
        assert found[detection].class_index == truth[target].class_index
        assert not truth[target].is_crowd
        assert 0.5 <= iou <= 1
    for share in ("mean_iou", "mean_iou_gt", "mean_conf", "hit_freq", "dice_score"):
        value = getattr(metrics, share)
        assert value is None or 0 <= value <= 1
    # Masks that fill their boxes: their Dice follows from the IoU of the boxes.
    dice = [2 * iou / (1 + iou) for _, _, iou in metrics.matches]
    assert metrics.dice_score == (pytest.approx(sum(dice) / len(objects)) if objects else None)


def test_coco_has_80_classes_in_12_supercategories() -> None:
    assert len(supercategories.COCO) == 80
    assert len(set(supercategories.COCO.values())) == 12
    assert supercategories.COCO["hot dog"] == "food"
    assert supercategories.COCO["dog"] == "animal"


@pytest.mark.assets
def test_coco_has_the_names_that_models_use(tmp_path: Path) -> None:
    from detectors import assets

    from nearsql.pipeline.detect.weights import load_detector

    detector = load_detector(assets() / "weights" / "yolov8n-seg.pt")
    assert set(detector.classes) == supercategories.COCO.keys()


def test_reads_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    path.write_text('{"cat": "animal", "ca\u00f1on": "landscape"}', "utf-8")
    assert supercategories.read_mapping(path) == {"cat": "animal", "ca\u00f1on": "landscape"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b"cat: animal", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must hold an object"),
        (b"{}", "must hold an object"),
        (b'{"cat": 1}', "gives 'cat' 1"),
        (b'{"cat": null}', "gives 'cat' null"),
        (b'{"cat": ""}', "gives 'cat' \"\""),
        (b'{"": "animal"}', "gives '' \"animal\""),
    ],
)
def test_a_bad_mapping_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "groups.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"groups\.json") as error:
        supercategories.read_mapping(path)
    assert sentence in str(error.value)
    assert len(str(error.value)) < 400


def test_a_collection_is_described_by_its_own_classes(db: dbapi.Connection) -> None:
    db.executemany(
        "insert into classes (collection, class_id, name, supercategory) values (?, ?, ?, ?)",
        [("a", 0, "cat", "pet"), ("a", 1, "dog", None), ("b", 0, "cat", None)],
    )
    assert supercategories.for_collection(db, "a") == {"cat": "pet"}
    for collection in ("b", "c", None):
        assert supercategories.for_collection(db, collection) == json.loads(
            json.dumps(dict(supercategories.COCO))
        )
