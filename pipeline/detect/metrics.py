"""How well the detections of one image meet its ground truth."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.detections import Detection
from nearsql.pipeline.detect.matching import Matching, match
from nearsql.pipeline.detect.truth import Target
from nearsql.udfs import rle


@dataclass(slots=True)
class ImageMetrics:
    """One row of `image_metrics`. None is what cannot be said of this image.

    Without ground truth only n_pred, mean_conf and category_distribution are known. Crowds are
    left out of everything but flag_cat and flag_supercat.
    """

    n_pred: int
    mean_conf: float | None  # of predictions; None without one
    category_distribution: dict[str, int]  # class name -> its predictions
    n_gt: int | None = None
    tp: int | None = None
    fp: int | None = None  # not those that lie on a crowd of their class
    fn: int | None = None
    mean_iou: float | None = None  # over matches; None without one
    mean_iou_gt: float | None = None  # over ground truth, 0 for what was missed; None without any
    hit_freq: float | None = None  # tp / n_gt; None without ground truth
    dice_score: float | None = None  # as mean_iou_gt, of the masks' Dice
    flag_cat: bool | None = None  # the predicted classes are not those of the ground truth
    flag_supercat: bool | None = None  # the same of supercategories; None if one is not known
    # (index in the detections given, index in the targets given, IoU), by falling confidence
    matches: list[tuple[int, int, float]] = field(default_factory=list)


def image_metrics(
    found: Sequence[Detection],
    truth: Sequence[Target] | None,
    *,
    classes: Sequence[str],
    supercategories: Mapping[str, str],
    has_masks: bool,
    metrics_conf: float = 0.25,
) -> ImageMetrics:
    """The metrics of one image.

    found: its detections; only those of a confidence of at least metrics_conf count. truth: its
    objects; None when nobody annotated it, which is another thing than an empty image. classes: the
    name of each class index. supercategories: of class names, as many as are known. has_masks:
    whether the model predicts masks; if not, or if any object has none, there is no Dice.

    Raises UserError when an object's mask is unreadable, or not of the size of the image.
    """
    counted = [index for index, one in enumerate(found) if one.confidence >= metrics_conf]
    predictions = [found[index] for index in counted]
    names = Counter(classes[one.class_index] for one in predictions)
    metrics = ImageMetrics(
        n_pred=len(predictions),
        mean_conf=_mean([one.confidence for one in predictions], len(predictions)),
        category_distribution=dict(sorted(names.items())),
    )
    if truth is None:
        return metrics
    matching = match(predictions, truth)
    ious = [iou for _, _, iou in matching.matches]
    objects = [target for target in truth if not target.is_crowd]
    metrics.n_gt = len(objects)
    metrics.tp = len(ious)
    metrics.fp = len(predictions) - metrics.tp - len(matching.ignored)
    metrics.fn = metrics.n_gt - metrics.tp
    metrics.mean_iou = _mean(ious, metrics.tp)
    metrics.mean_iou_gt = _mean(ious, metrics.n_gt)
    metrics.hit_freq = metrics.tp / metrics.n_gt if metrics.n_gt else None
    if has_masks and all(target.mask is not None for target in objects):
        metrics.dice_score = _mean(_dice(predictions, truth, matching), metrics.n_gt)
    metrics.flag_cat, metrics.flag_supercat = _flags(predictions, truth, classes, supercategories)
    metrics.matches = [(counted[index], target, iou) for index, target, iou in matching.matches]
    return metrics


def _mean(values: Sequence[float], of: int) -> float | None:
    """The sum over `of`, never above the greatest value by rounding; None over nothing."""
    return min(fsum(values) / of, 1.0) if of else None


def _dice(
    predictions: Sequence[Detection], truth: Sequence[Target], matching: Matching
) -> list[float]:
    """The Dice coefficient of the masks of each match; 0 when both are empty."""
    values = []
    for index, target, _ in matching.matches:
        predicted = rle.read("the mask of a prediction", predictions[index].mask)
        owner = f"the mask of annotation {truth[target].id}"
        try:
            true = rle.read(owner, truth[target].mask)
        except ValueError as error:
            raise UserError(str(error)) from None
        if (true.height, true.width) != (predicted.height, predicted.width):
            raise UserError(
                f"{owner} is {true.height} x {true.width} pixels, and its image is"
                f" {predicted.height} x {predicted.width}: ingest the annotations again"
            )
        areas = predicted.area + true.area
        values.append(2 * rle.intersection(predicted, true) / areas if areas else 0.0)
    return values


def _flags(
    predictions: Sequence[Detection],
    truth: Sequence[Target],
    classes: Sequence[str],
    supercategories: Mapping[str, str],
) -> tuple[bool, bool | None]:
    """(flag_cat, flag_supercat). What only a crowd shows may be predicted or not."""
    predicted = {classes[one.class_index] for one in predictions}
    required = {classes[target.class_index] for target in truth if not target.is_crowd}
    allowed = {classes[target.class_index] for target in truth}
    flag_cat = not required <= predicted <= allowed
    if not predicted | allowed <= supercategories.keys():
        return flag_cat, None
    predicted, required, allowed = (
        {supercategories[name] for name in names} for names in (predicted, required, allowed)
    )
    return flag_cat, not required <= predicted <= allowed
