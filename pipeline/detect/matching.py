"""Which detection found which object: COCO's greedy matching at one IoU threshold.

Detections take their turn in order of confidence. Each claims, among the objects of its class that
are still free and that it overlaps enough, the one that it overlaps most. This is what pycocotools'
COCOeval.evaluateImg does, to the last tie.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.detect.detections import Detection
from nearsql.pipeline.detect.truth import Target

IOU_THRESHOLD = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Matching:
    """matches: (detection, target, their IoU), by index, in the order of confidence.

    ignored: detections that are neither right nor wrong, since they lie on a crowd of their class.
    """

    matches: list[tuple[int, int, float]]
    ignored: list[int]


def match(
    found: Sequence[Detection], truth: Sequence[Target], *, iou: float = IOU_THRESHOLD
) -> Matching:
    """Matches the detections of one image with its ground truth, by box and class.

    A detection counts as having found an object when their boxes' IoU is at least `iou`, above 0.
    One that found none is ignored when at least that share of its own box lies within a crowd of
    its class; any number may lie in one crowd. Equal confidences keep the order of `found`; of
    targets overlapped equally the last is taken.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be above 0 and at most 1, not {iou}")
    boxes = box_array([one.box for one in found])
    targets = box_array([one.box for one in truth])
    is_crowd = np.array([one.is_crowd for one in truth], dtype=bool)
    found_classes = np.array([one.class_index for one in found], dtype=np.int64)
    true_classes = np.array([one.class_index for one in truth], dtype=np.int64)
    same_class = found_classes[:, None] == true_classes[None, :]
    overlap = np.where(is_crowd, share_within(boxes, targets), box_iou(boxes, targets))
    near = same_class & (overlap >= iou)

    is_free = ~is_crowd
    matches, ignored = [], []
    by_confidence = np.argsort([-one.confidence for one in found], kind="stable")
    for detection in by_confidence[near[by_confidence].any(axis=1)].tolist():
        candidates = np.flatnonzero(near[detection] & is_free)
        if candidates.size:
            overlaps = overlap[detection, candidates]
            target = int(candidates[overlaps == overlaps.max()][-1])
            is_free[target] = False
            matches.append((detection, target, float(overlap[detection, target])))
        elif (near[detection] & is_crowd).any():
            ignored.append(detection)
    return Matching(matches, ignored)


def box_array(boxes: Sequence[Sequence[float]]) -> Floats:
    """(n, 4) float64, also when there are none."""
    return np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of each of a, (n, 4) x_min, y_min, x_max, y_max, with each of b, (m, 4).

    (n, m). 0 for boxes without an area.
    """
    common = _intersections(a, b)
    union = _areas(a)[:, None] + _areas(b)[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def share_within(a: Floats, b: Floats) -> Floats:
    """The share of each box of a, (n, 4), that lies within each of b, (m, 4): COCO's IoU with a crowd."""
    common = _intersections(a, b)
    whole = np.broadcast_to(_areas(a)[:, None], common.shape)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def _intersections(a: Floats, b: Floats) -> Floats:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides: Floats = np.maximum(high - low, 0).prod(axis=2)
    return sides


def _areas(boxes: Floats) -> Floats:
    areas: Floats = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas
