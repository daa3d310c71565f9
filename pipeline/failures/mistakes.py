"""The mistakes in one image, and what kind each is: objects that were missed, predictions that are false.

The kinds of a false alarm are those of TIDE (Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), tested in its order with its two thresholds of IoU: from
FOREGROUND on a box is in the right place, below BACKGROUND it is nowhere near. The sizes are COCO's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.udfs.box_functions import box_iou

FOREGROUND = 0.5
BACKGROUND = 0.1

# COCO's: below 32 x 32 pixels, below 96 x 96, and above.
SMALL = 32**2
MEDIUM = 96**2

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Object:
    """An annotated object. class_name: as the model calls it. box: x_min, y_min, x_max, y_max in pixels.

    area: of its outline where it has one, else of its box, in pixels. is_found: a prediction matches it.
    """

    id: int
    class_name: str
    box: Box
    area: float
    is_found: bool = False
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """A stored prediction. is_counted: sure enough to be a detection. is_right: it matches an object."""

    id: int
    class_name: str
    confidence: float
    box: Box
    is_counted: bool = True
    is_right: bool = False


@dataclass(frozen=True, slots=True)
class Miss:
    """An object that was not found, why, and the prediction that says so."""

    object: Object
    why: str
    prediction: Prediction | None


@dataclass(frozen=True, slots=True)
class FalseAlarm:
    """A detection that is wrong, why, and the object that it is nearest to."""

    prediction: Prediction
    why: str
    object: Object | None


def size_of(area: float) -> str:
    """COCO's word for an area in pixels: small, medium or large."""
    return "small" if area < SMALL else "medium" if area < MEDIUM else "large"


def box_area(box: Box) -> float:
    """In pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def misses(objects: Sequence[Object], predictions: Sequence[Prediction]) -> list[Miss]:
    """The objects that no detection matches, in their order; crowds are none.

    The first that holds is why: `wrong class`, a false detection of another class is in its place;
    `wrong place`, one of its class lies near; `unsure`, a stored prediction is right but not sure enough;
    `shared`, the detection in its place found another object; `not seen`.
    """
    return [_miss(each, predictions) for each in objects if not each.is_crowd and not each.is_found]


def false_alarms(objects: Sequence[Object], predictions: Sequence[Prediction]) -> list[FalseAlarm]:
    """The detections that match no object, in their order; on a crowd of their class they are none.

    The first that holds is why: `wrong place`, near an object of its class; `wrong class`, in the place of
    another's; `duplicate`, in the place of an object that a surer one has found; `nothing there`; `wrong
    class and place`.
    """
    crowds = [each for each in objects if each.is_crowd]
    single = [each for each in objects if not each.is_crowd]
    return [
        _false_alarm(each, single)
        for each in predictions
        if each.is_counted and not each.is_right and not _lies_on(each, crowds)
    ]


def _miss(missed: Object, predictions: Sequence[Prediction]) -> Miss:
    false = [each for each in predictions if each.is_counted and not each.is_right]
    unsure = [each for each in predictions if not each.is_counted]
    right = [each for each in predictions if each.is_right]
    alike = [each for each in false if each.class_name == missed.class_name]
    others = [each for each in false if each.class_name != missed.class_name]
    for why, candidates, least in (
        ("wrong class", others, FOREGROUND),
        ("wrong place", alike, BACKGROUND),
        ("unsure", [e for e in unsure if e.class_name == missed.class_name], FOREGROUND),
        ("shared", [e for e in right if e.class_name == missed.class_name], FOREGROUND),
    ):
        overlaps = [_overlap(each.box, missed.box) for each in candidates]
        if overlaps and max(overlaps) >= least:
            return Miss(missed, why, candidates[overlaps.index(max(overlaps))])
    return Miss(missed, "not seen", None)


def _false_alarm(wrong: Prediction, objects: Sequence[Object]) -> FalseAlarm:
    alike, place_of_alike = _nearest(
        wrong, [o for o in objects if o.class_name == wrong.class_name]
    )
    other, place_of_other = _nearest(
        wrong, [o for o in objects if o.class_name != wrong.class_name]
    )
    if BACKGROUND <= place_of_alike < FOREGROUND:
        return FalseAlarm(wrong, "wrong place", alike)
    if place_of_other >= FOREGROUND:
        return FalseAlarm(wrong, "wrong class", other)
    if place_of_alike >= FOREGROUND:
        return FalseAlarm(wrong, "duplicate", alike)
    if place_of_other < BACKGROUND:
        return FalseAlarm(wrong, "nothing there", None)
    return FalseAlarm(wrong, "wrong class and place", other)


def _nearest(prediction: Prediction, objects: Sequence[Object]) -> tuple[Object | None, float]:
    """The object that the prediction overlaps most, the first of several, and their IoU."""
    overlaps = [_overlap(prediction.box, each.box) for each in objects]
    if not overlaps:
        return None, 0.0
    return objects[overlaps.index(max(overlaps))], max(overlaps)


def _overlap(a: Box, b: Box) -> float:
    """IoU, 0 for boxes without an area."""
    return box_iou(*a, *b) or 0.0


def _lies_on(prediction: Prediction, crowds: Sequence[Object]) -> bool:
    """Whether half of its box, or more, is within a crowd of its class: COCO's rule."""
    box, area = prediction.box, box_area(prediction.box)
    for crowd in crowds:
        width = min(box[2], crowd.box[2]) - max(box[0], crowd.box[0])
        height = min(box[3], crowd.box[3]) - max(box[1], crowd.box[1])
        common = width * height if width > 0 and height > 0 else 0.0
        if crowd.class_name == prediction.class_name and common >= FOREGROUND * area and common > 0:
            return True
    return False
