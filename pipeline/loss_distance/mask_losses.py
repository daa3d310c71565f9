"""The mask and semantic losses of one image for many targets."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nearsql.pipeline.detect.weights import Detector
from nearsql.pipeline.loss_distance.assignment import Foreground
from nearsql.pipeline.loss_distance.target_side import TargetSide

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.utils.tal import SegTaskAlignedAssigner


def assigns_by_masks(criterion: Any) -> bool:
    """Whether masks, too, decide which anchor is given to which object, as in YOLO26."""
    return isinstance(criterion.assigner, SegTaskAlignedAssigner)


class MaskSide:
    """What a segment model makes of one image besides boxes and classes."""

    def __init__(self, detector: Detector, raw: dict[str, Any]) -> None:
        """raw: what the criterion takes of one image."""
        self._criterion = detector.criterion
        self.assigns_by_masks = assigns_by_masks(self._criterion)
        proto = raw["proto"]
        semantic = None
        if isinstance(proto, tuple):
            proto, semantic = proto
        self._size = float(raw["feats"][0].shape[2] * self._criterion.stride[0])
        self._prototypes = proto  # (1, channels, height, width)
        self._coefficients = raw["mask_coefficient"][0].T.contiguous()  # (anchors, channels)
        self._semantic = None if semantic is None else _Semantic(self._criterion, semantic[0])

    def for_assigner(self, targets: TargetSide, objects: Tensor) -> dict[str, Tensor]:
        """The masks of the image and of the objects, for an assigner that compares them."""
        if not self.assigns_by_masks:
            return {}
        assert targets.masks is not None
        height, width = self._prototypes.shape[-2:]
        masks = targets.masks[targets.owner[objects]]
        if masks.shape[-2:] != (height, width):
            masks = F.interpolate(masks[None].float(), (height, width), mode="nearest")[0]
        return {
            "pd_coef": self._coefficients[None],
            "mask_scale": self._coefficients.new_full((1, 1), height / self._size),
            "proto": self._prototypes,
            "gt_masks": (masks == _number(targets, objects)[:, None, None])[None],
        }

    def seg(self, targets: TargetSide, found: Foreground) -> Tensor:
        """(F): each foreground anchor's mask against its object's, within the object's box.

        The mean over the square of the BCE, as a share of the box's area.
        """
        if not len(found.row):
            return found.score
        assert targets.masks is not None
        height, width = targets.masks.shape[-2:]
        prototypes = self._prototypes
        if prototypes.shape[-2:] != (height, width):
            prototypes = F.interpolate(
                prototypes, (height, width), mode="bilinear", align_corners=False
            )
        objects, of_object, n_anchors = found.row.unique(return_inverse=True, return_counts=True)
        by_object = of_object.argsort(stable=True)
        coefficients = self._coefficients[found.anchor[by_object]].split(n_anchors.tolist())
        sums = []
        # All anchors of an object share its window and its mask.
        for window, target, number, of_anchors in zip(
            targets.windows(objects).tolist(),
            targets.owner[objects].tolist(),
            _number(targets, objects).tolist(),
            coefficients,
            strict=True,
        ):
            x0, y0, x1, y1 = window
            part = (slice(y0, y1), slice(x0, x1))
            logits = of_anchors @ prototypes[0, :, *part].flatten(1)
            is_object = (targets.masks[target][part] == number).flatten()
            # BCE(x, 1) = softplus(-x), and BCE(x, 0) = softplus(x).
            logits *= 1 - 2 * is_object.float()
            sums.append(F.softplus(logits).sum(1))
        loss = torch.empty_like(found.score)
        loss[by_object] = torch.cat(sums)
        return loss / (height * width) / targets.areas(found.row)

    def sem(self, targets: TargetSide, chosen: Tensor) -> Tensor:
        """(n) float64: the semantic map against the classes of the chosen targets' masks."""
        assert self._semantic is not None
        return self._semantic.losses(targets, chosen)


class _Semantic:
    """Half the mean BCE and half the Dice loss of a semantic map (classes, height, width)."""

    def __init__(self, criterion: Any, logits: Tensor) -> None:
        self._loss = criterion.bcedice_loss
        self._shape = logits.shape[-2:]
        self._logits = logits.flatten(1)
        self._probabilities = self._logits.sigmoid()
        # What depends on the image alone: as if there were no object.
        self._bce_of_nothing = F.binary_cross_entropy_with_logits(
            self._logits, torch.zeros_like(self._logits), reduction="none"
        ).sum(dtype=torch.float64)
        self._mass = self._probabilities.sum(1, dtype=torch.float64)

    def losses(self, targets: TargetSide, chosen: Tensor) -> Tensor:
        assert targets.masks is not None
        assert targets.sem_masks is not None
        is_covered = self._in_shape(targets.masks[chosen]) != 0
        target, pixel = is_covered.nonzero(as_tuple=True)
        label = self._in_shape(targets.sem_masks[chosen])[target, pixel].long()
        n, n_classes = len(chosen), len(self._logits)
        logits = self._logits[label, pixel].double()
        bce = self._bce_of_nothing - logits.new_zeros(n).index_add_(0, target, logits)
        bce /= self._logits.numel()
        place = target * n_classes + label
        zeros = logits.new_zeros(n * n_classes)
        common = zeros.index_add(0, place, self._probabilities[label, pixel].double())
        covered = zeros.index_add(0, place, torch.ones_like(logits))
        smooth = self._loss.dice.smooth
        dice = (2 * common.view(n, -1) + smooth) / (self._mass + covered.view(n, -1) + smooth)
        return self._loss.weight_bce * bce + self._loss.weight_dice * (1 - dice).mean(1)

    def _in_shape(self, masks: Tensor) -> Tensor:
        """(n, pixels): masks of any size in the map's, by their nearest pixel."""
        if masks.shape[-2:] != self._shape:
            masks = F.interpolate(masks[:, None].float(), self._shape, mode="nearest")[:, 0]
        return masks.flatten(1)


def _number(targets: TargetSide, objects: Tensor) -> Tensor:
    """The number of each object within its target, from 1, as the masks have it."""
    return objects - targets.first[targets.owner[objects]] + 1
