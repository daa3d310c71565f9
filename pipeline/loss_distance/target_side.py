"""What many images' objects, taken as targets, give the criterion, whichever image they are held against.

The criterion pads the targets of a batch to the largest number of objects. Here all objects lie behind
one another, so that an image without any costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.truth import Target, batch_targets
from nearsql.pipeline.detect.weights import Detector

# Targets made ready at once: bounds the memory of their unpacked masks.
_TARGETS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class TargetSide:
    """The objects of n targets, one behind the other; T in all. On the detector's device.

    masks: (n, height, width), the number of the object (from 1, within its target) that covers a
    pixel, 0 for none; None for a model without masks. sem_masks: (n, height, width), the class of that
    object, where the model's family learns it.
    """

    first: Tensor  # (n + 1) int64: target j has the objects first[j] to first[j + 1]
    owner: Tensor  # (T) int64: the target that an object belongs to
    labels: Tensor  # (T, 1) float, as the criterion has it
    boxes: Tensor  # (T, 4) float: x_min, y_min, x_max, y_max in pixels of the square
    normalised: Tensor  # (T, 4) float: the same as fractions of the square
    masks: Tensor | None = None
    sem_masks: Tensor | None = None

    def windows(self, objects: Tensor) -> Tensor:
        """(len(objects), 4) int64: the part of the masks that each box keeps, as x0, y0, x1, y1.

        Pixel x is kept when x_min <= x < x_max (ultralytics' crop_mask): bounds are rounded up.
        """
        assert self.masks is not None
        height, width = self.masks.shape[-2:]
        scale = self.boxes.new_tensor([width, height, width, height])
        bounds = (self.normalised[objects] * scale).ceil().clamp(min=0)
        return torch.minimum(bounds, scale).long()

    def areas(self, objects: Tensor) -> Tensor:
        """(len(objects)) float: each box's share of the square."""
        boxes = self.normalised[objects]
        return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def target_side(
    detector: Detector, targets: Sequence[Sequence[Target]], frames: Sequence[Frame]
) -> TargetSide:
    """Makes the targets ready. targets[j]: the objects of one image; frames[j]: how it lies in its square.

    All squares have one size.
    """
    parts = [
        _ready(
            detector, targets[start : start + _TARGETS_AT_ONCE], frames[start:][:_TARGETS_AT_ONCE]
        )
        for start in range(0, len(targets), _TARGETS_AT_ONCE)
    ]
    counts = torch.cat([part.counts for part in parts])
    objects = torch.cat([part.objects for part in parts])
    boxes = objects[:, 1:].contiguous()
    zero = counts.new_zeros(1)
    return TargetSide(
        first=torch.cat((zero, counts.cumsum(0))),
        owner=torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts),
        labels=objects[:, :1].contiguous(),
        boxes=boxes,
        normalised=boxes / frames[0].size,
        masks=_together([part.masks for part in parts]),
        sem_masks=_together([part.sem_masks for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    counts: Tensor  # objects of each target
    objects: Tensor  # (objects, 5): class, and box in pixels of the square
    masks: Tensor | None
    sem_masks: Tensor | None


def _ready(
    detector: Detector, targets: Sequence[Sequence[Target]], frames: Sequence[Frame]
) -> _Part:
    batch = batch_targets(detector, targets, frames)
    device = detector.device
    owner = batch["batch_idx"].view(-1).long().to(device)
    counts = torch.bincount(owner, minlength=len(targets))
    table = torch.cat(
        (owner[:, None].float(), batch["cls"].view(-1, 1).to(device), batch["bboxes"].to(device)), 1
    )
    size = torch.full((4,), float(frames[0].size), device=device)
    # The criterion's own scaling, padded to the largest number of objects; and the padding removed.
    padded = detector.criterion.preprocess(table, len(targets), scale_tensor=size)
    place = torch.arange(padded.shape[1], device=device)
    objects = padded[place[None, :] < counts[:, None]]
    return _Part(
        counts,
        objects,
        _packed(batch.get("masks"), device),
        _packed(batch.get("sem_masks"), device),
    )


def _packed(masks: Tensor | None, device: torch.device) -> Tensor | None:
    """The masks in one byte a pixel when their numbers allow it."""
    if masks is None:
        return None
    small = torch.uint8 if not masks.numel() or int(masks.max()) < 256 else torch.int16
    return masks.to(device=device, dtype=small)


def _together(masks: list[Tensor | None]) -> Tensor | None:
    there = [each for each in masks if each is not None]
    return torch.cat(there) if there else None
