"""One image's forward pass held against many targets: the official criterion's losses, evaluated sparsely.

The sum of BCE(x, t) over all scores is the sum of BCE(x, 0), which depends on the image alone, minus the
sum of x * t over the few scores whose target t is not 0. The other components are sums over foreground
anchors. So the whole image is gone through once, and after that only the foreground of each pair.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nearsql.pipeline.detect.forward import Outputs
from nearsql.pipeline.detect.weights import Detector
from nearsql.pipeline.loss_distance.assignment import Foreground, assign
from nearsql.pipeline.loss_distance.mask_losses import MaskSide
from nearsql.pipeline.loss_distance.target_side import TargetSide

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import bbox2dist, make_anchors

# Objects assigned at once: the assigner's tables are (objects, anchors), of which there are 8,400 in a
# square of 640, and fit in the processor's cache. The mask-aware assigner compares every object with
# the mask of every anchor that any of them may want, so that few at a time save it work.
_OBJECTS_AT_ONCE = 64
_OBJECTS_WITH_MASKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class PairLosses:
    """What the criterion says of one image for each of n targets.

    values: component -> (n) float64, weighted as the criterion reports it; 0, as there, where no anchor
    is foreground. normaliser: (n) float64, the sum of target scores before it is raised to 1 at least.
    n_foreground: (n) int64, the anchors given to the target's objects.
    """

    values: dict[str, Tensor]
    normaliser: Tensor
    n_foreground: Tensor


class ImageSide:
    """All that the criterion makes of one image's forward pass, whatever it is held against."""

    def __init__(self, detector: Detector, outputs: Outputs) -> None:
        """outputs: of one image."""
        self._criterion = criterion = detector.criterion
        raw = outputs.raw
        with torch.inference_mode(), _one_thread():
            distances = raw["boxes"].permute(0, 2, 1).contiguous()
            self._scores = raw["scores"][0].T.contiguous()
            self._anchors, self._strides = make_anchors(raw["feats"], criterion.stride, 0.5)
            self._distances = distances[0]
            self._boxes = criterion.bbox_decode(self._anchors, distances)[0]
            self._boxes_in_pixels = self._boxes * self._strides
            self._anchors_in_pixels = self._anchors * self._strides
            self._probabilities = self._scores.sigmoid()
            self._size = float(raw["feats"][0].shape[2] * criterion.stride[0])
            weights = criterion.class_weights
            self._class_weights = None if weights is None else weights.view(-1)
            self._cls_of_nothing = self._bce_of_nothing()
        self._masks = MaskSide(detector, raw) if "mask_coefficient" in raw else None

    def losses(
        self, targets: TargetSide, chosen: Tensor, components: Collection[str]
    ) -> PairLosses:
        """The components of the image's loss for each of the chosen targets.

        chosen: (n) int64, the numbers of the targets.
        """
        needs_masks = self._masks is not None and self._masks.assigns_by_masks
        at_once = _OBJECTS_WITH_MASKS_AT_ONCE if needs_masks else _OBJECTS_AT_ONCE
        parts = []
        with torch.inference_mode(), _one_thread():
            for part in chosen.split(_portions(targets.first.diff()[chosen].tolist(), at_once)):
                parts.append(self._losses(targets, part, components))
        return PairLosses(
            {name: torch.cat([part.values[name] for part in parts]) for name in components},
            torch.cat([part.normaliser for part in parts]),
            torch.cat([part.n_foreground for part in parts]),
        )

    def _losses(
        self, targets: TargetSide, chosen: Tensor, components: Collection[str]
    ) -> PairLosses:
        """As `losses`, in one go."""
        found = self._foreground(targets, chosen)
        gains = self._criterion.hyp
        owner, n = found.owner, len(chosen)
        normaliser = _sums(found.score, owner, n)
        divisor = normaliser.clamp(min=1)
        values = {}
        if "cls" in components:
            values["cls"] = self._cls(targets, found, n) / divisor * gains.cls
        if "box" in components:
            values["box"] = _sums(self._box(targets, found), owner, n) / divisor * gains.box
        for name in {"dfl", "l1"} & set(components):
            values[name] = _sums(self._sides(targets, found), owner, n) / divisor * gains.dfl
        n_foreground = torch.bincount(owner, minlength=n)
        if "seg" in components:
            assert self._masks is not None
            seg = _sums(self._masks.seg(targets, found), owner, n)
            values["seg"] = seg / n_foreground.clamp(min=1) * gains.box
        if "sem" in components:
            assert self._masks is not None
            values["sem"] = self._masks.sem(targets, chosen) * (n_foreground > 0) * gains.box
        return PairLosses(values, normaliser, n_foreground)

    def _foreground(self, targets: TargetSide, chosen: Tensor) -> Foreground:
        """The anchors given to the objects of the chosen targets; `row` numbers all objects there are."""
        first = targets.first[chosen]
        counts = targets.first[chosen + 1] - first
        owner = torch.repeat_interleave(torch.arange(len(chosen), device=chosen.device), counts)
        nth = torch.arange(len(owner), device=chosen.device) - (counts.cumsum(0) - counts)[owner]
        objects = first[owner] + nth
        if not len(objects):
            return Foreground(objects, objects, objects, self._scores.new_zeros(0))
        found = assign(
            self._criterion.assigner,
            scores=self._probabilities,
            boxes=self._boxes_in_pixels,
            anchors=self._anchors_in_pixels,
            labels=targets.labels[objects],
            object_boxes=targets.boxes[objects],
            owner=owner,
            extra=self._masks.for_assigner(targets, objects) if self._masks is not None else {},
        )
        return Foreground(found.owner, objects[found.row], found.anchor, found.score)

    def _bce_of_nothing(self) -> Tensor:
        """The sum of BCE over all scores, were all targets 0."""
        # By the criterion's own kernel: its rounding, unlike softplus', counts in a sum of so many.
        bce = F.binary_cross_entropy_with_logits(
            self._scores, torch.zeros_like(self._scores), reduction="none"
        )
        if self._class_weights is not None:
            bce *= self._class_weights
        return bce.sum(dtype=torch.float64)

    def _cls(self, targets: TargetSide, found: Foreground, n: int) -> Tensor:
        """(n): the sum of BCE over all scores, for each target."""
        label = targets.labels[found.row, 0].long().clamp(min=0)
        product = self._scores[found.anchor, label] * found.score
        if self._class_weights is not None:
            product *= self._class_weights[label]
        return self._cls_of_nothing - _sums(product, found.owner, n)

    def _box(self, targets: TargetSide, found: Foreground) -> Tensor:
        """(F): 1 - CIoU of each foreground anchor's box, weighted by its score."""
        in_strides = targets.boxes[found.row] / self._strides[found.anchor]
        iou = bbox_iou(self._boxes[found.anchor], in_strides, xywh=False, CIoU=True)[:, 0]
        return (1 - iou) * found.score

    def _sides(self, targets: TargetSide, found: Foreground) -> Tensor:
        """(F): how wrong the four distances from the anchor to the box's sides are, weighted.

        The distribution focal loss, or, of a model that predicts them without distributions, L1.
        """
        stride = self._strides[found.anchor]
        anchors, in_strides = self._anchors[found.anchor], targets.boxes[found.row] / stride
        predicted = self._distances[found.anchor]
        dfl = self._criterion.bbox_loss.dfl_loss
        if dfl is not None:
            sides = bbox2dist(anchors, in_strides, dfl.reg_max - 1)
            loss = dfl(predicted.view(-1, dfl.reg_max), sides)[:, 0]
        else:
            sides = bbox2dist(anchors, in_strides)
            loss = ((predicted - sides) * stride / self._size).abs().mean(1)
        return loss * found.score


@contextmanager
def _one_thread() -> Iterator[None]:
    """The many small steps of a pair gain nothing by a second thread, and lose much where cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sums(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """(n) float64: the sum of each target's values."""
    return torch.zeros(n, dtype=torch.float64, device=values.device).index_add_(
        0, owner, values.double()
    )


def _portions(n_objects: list[int], at_once: int) -> list[int]:
    """Sizes of portions of consecutive targets with at most that many objects, or of one target each."""
    sizes, filled = [0], 0
    for count in n_objects:
        if sizes[-1] and filled + count > at_once:
            sizes.append(0)
            filled = 0
        sizes[-1] += 1
        filled += count
    return sizes
