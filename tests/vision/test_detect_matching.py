"""Which detection found which object: as a slow loop says, and as pycocotools does it."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nearsql.pipeline.detect.detections import Detection
from nearsql.pipeline.detect.matching import Matching, box_array, box_iou, match, share_within
from nearsql.pipeline.detect.truth import Target
from nearsql.udfs import box_functions

Box = tuple[float, float, float, float]


def boxes(smallest: int = 0) -> st.SearchStrategy[Box]:
    """On a coarse grid, so that many overlap, coincide, and touch the threshold."""
    places, lengths = st.integers(0, 6), st.integers(smallest, 6)
    corners = st.tuples(places, places, lengths, lengths)
    return corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))


classes = st.integers(0, 1)
confidences = st.sampled_from([0.25, 0.5, 0.5, 0.75, 1.0])
detection_lists = st.lists(st.builds(Detection, classes, confidences, boxes()), max_size=8)
target_lists = st.lists(st.builds(Target, classes, boxes(1), is_crowd=st.booleans()), max_size=6)


def slow_match(found: Sequence[Detection], truth: Sequence[Target], threshold: float) -> Matching:
    """Every detection, every target, one at a time."""
    result = Matching([], [])
    claimed: set[int] = set()
    for index in sorted(range(len(found)), key=lambda i: -found[i].confidence):
        detection, best, best_iou = found[index], None, threshold
        for number, target in enumerate(truth):
            if target.is_crowd or number in claimed or target.class_index != detection.class_index:
                continue
            iou = box_functions.box_iou(*detection.box, *target.box)
            assert iou is not None  # a target has an area
            if iou >= best_iou:
                best, best_iou = number, iou
        if best is not None:
            claimed.add(best)
            result.matches.append((index, best, best_iou))
            continue
        for target in truth:
            if target.is_crowd and target.class_index == detection.class_index:
                x_min, y_min, x_max, y_max = detection.box
                width = min(x_max, target.box[2]) - max(x_min, target.box[0])
                height = min(y_max, target.box[3]) - max(y_min, target.box[1])
                area = (x_max - x_min) * (y_max - y_min)
                if min(width, height) > 0 and width * height / area >= threshold:
                    result.ignored.append(index)
                    break
    return result


def coco_match(found: Sequence[Detection], truth: Sequence[Target]) -> Matching:
    """COCOeval's, at IoU 0.5."""
    ground_truth = COCO()
    ground_truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 0}, {"id": 1}],
        "annotations": [
            {
                "id": number + 1,
                "image_id": 1,
                "category_id": target.class_index,
                "bbox": as_xywh(target.box),
                "area": 1.0,
                "iscrowd": int(target.is_crowd),
            }
            for number, target in enumerate(truth)
        ],
    }
    results = [
        {
            "image_id": 1,
            "category_id": detection.class_index,
            "score": detection.confidence,
            "bbox": as_xywh(detection.box),
        }
        for detection in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
    result = Matching([], [])
    for image in filter(None, evaluation.evalImgs):
        for detection_id, target_id, is_ignored in zip(
            image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True
        ):
            if is_ignored:
                result.ignored.append(detection_id - 1)
            elif target_id:
                result.matches.append((detection_id - 1, int(target_id) - 1, 0.0))
    return result


def as_xywh(box: Box) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


@settings(deadline=None, max_examples=150)
@given(detection_lists, target_lists, st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_matches_as_the_slow_loop_does(
    found: list[Detection], truth: list[Target], threshold: float
) -> None:
    got, expected = match(found, truth, iou=threshold), slow_match(found, truth, threshold)
    assert [pair[:2] for pair in got.matches] == [pair[:2] for pair in expected.matches]
    assert [pair[2] for pair in got.matches] == pytest.approx([p[2] for p in expected.matches])
    assert got.ignored == expected.ignored


@settings(deadline=None, max_examples=100)
@given(detection_lists.filter(bool), target_lists)
def test_matches_as_pycocotools_does(found: list[Detection], truth: list[Target]) -> None:
    got, expected = match(found, truth), coco_match(found, truth)
    assert {pair[:2] for pair in got.matches} == {pair[:2] for pair in expected.matches}
    assert set(got.ignored) == set(expected.ignored)


@settings(deadline=None)
@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=5))
def test_overlaps_are_those_of_pycocotools(first: list[Box], second: list[Box]) -> None:
    a, b = box_array(first), box_array(second)
    for crowd, overlap in ((0, box_iou(a, b)), (1, share_within(a, b))):
        assert overlap.shape == (len(first), len(second))
        if first and second:
            as_coco = [np.array([as_xywh(box) for box in side], float) for side in (first, second)]
            expected = coco_mask.iou(*as_coco, [crowd] * len(second))
            assert np.allclose(overlap, np.nan_to_num(expected), atol=1e-12)


def test_a_box_meets_itself_at_the_highest_threshold() -> None:
    box = (0.1, 0.7, 33.3, 44.4)
    assert match([Detection(0, 0.5, box)], [Target(0, box)], iou=1.0).matches == [
        (0, 0, pytest.approx(1))
    ]


def test_the_more_confident_detection_takes_the_object() -> None:
    target = Target(0, (0, 0, 10, 10))
    found = [Detection(0, 0.4, (0, 0, 10, 10)), Detection(0, 0.9, (0, 0, 10, 8))]
    assert match(found, [target]).matches == [(1, 0, 0.8)]


def test_ties_are_settled_by_order() -> None:
    box = (0.0, 0.0, 4.0, 4.0)
    found, truth = [Detection(0, 0.5, box)] * 3, [Target(0, box)] * 2
    assert match(found, truth).matches == [(0, 1, 1.0), (1, 0, 1.0)]


def test_any_number_may_lie_in_a_crowd_and_an_object_comes_first() -> None:
    crowd = Target(0, (0, 0, 100, 100), is_crowd=True)
    found = [Detection(0, 0.9 - i / 10, (i * 10, 0, i * 10 + 10, 10)) for i in range(4)]
    assert match(found, [crowd]) == Matching([], [0, 1, 2, 3])
    assert match(found, [crowd, Target(0, (0, 0, 10, 10))]).ignored == [1, 2, 3]
    assert match([Detection(1, 0.9, (0, 0, 10, 10))], [crowd]) == Matching([], [])


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        match([], [], iou=threshold)
