"""What a forward pass found in each image: boxes, classes, confidences and masks in original pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

# Imported so that ultralytics always suppresses with its kernel: it does if something has imported
# it, and with one of its own otherwise.
import torchvision  # noqa: F401

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import Outputs
from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.masks import image_masks
from nearsql.pipeline.detect.weights import Detector

# isort: split
# After `weights`, which keeps the import of ultralytics from changing other libraries.
from ultralytics.utils.nms import non_max_suppression


@dataclass(frozen=True, slots=True)
class Detection:
    """One object that the model sees.

    class_index: the model's. box: x_min, y_min, x_max, y_max in original pixels, within the image,
    with an area. mask: COCO RLE of the image's size, perhaps empty; None of a model without masks.
    """

    class_index: int
    confidence: float
    box: tuple[float, float, float, float]
    mask: dict[str, Any] | None = None


class NotFiniteError(UserError):
    """The model gave numbers that are not finite for some images of the batch."""

    def __init__(self, images: Sequence[int]) -> None:
        """images: their indices in the batch."""
        super().__init__(
            f"the model gave numbers that are not finite for image {', '.join(map(str, images))} of"
            f" the batch, so nothing can be said of it"
        )
        self.images = list(images)


def detections(
    detector: Detector,
    outputs: Outputs,
    frames: Sequence[Frame],
    *,
    conf: float = 0.25,
    iou: float = 0.7,
    max_det: int = 300,
    multi_label: bool = False,
) -> list[list[Detection]]:
    """The detections of each image of a batch, by falling confidence.

    conf: only those of a greater confidence. iou: of two boxes of a class that overlap by more than
    this, the less confident is dropped. max_det: at most so many an image. multi_label: a box is
    detected as every class above conf, not as its best alone; ultralytics' val() does so, its
    predict() does not. End-to-end models need no dropping, and choose their classes themselves: iou
    and multi_label mean nothing to them.

    They are those of ultralytics' predictor on the same square, without boxes that have no area
    within the image (untrained models give such). An image's detections depend on nothing else in
    the batch, nor on how busy the machine is. Raises NotFiniteError.
    """
    _check_finite(outputs)
    kept = non_max_suppression(
        outputs.decoded,
        conf_thres=conf,
        iou_thres=iou,
        multi_label=multi_label,
        max_det=max_det,
        nc=len(detector.classes),
        max_time_img=math.inf,  # otherwise it stops early on a busy machine, and drops detections
        end2end=detector.is_end_to_end,
    )
    prototypes = outputs.prototypes
    return [
        _in_image(rows, frame, prototypes[image] if prototypes is not None else None)
        for image, (rows, frame) in enumerate(zip(kept, frames, strict=True))
    ]


def _in_image(rows: torch.Tensor, frame: Frame, prototypes: torch.Tensor | None) -> list[Detection]:
    """rows: (n, 6 + coefficients): a box in the square, confidence, class index, coefficients."""
    found = rows.float().cpu().numpy()
    boxes = frame.to_image(found[:, :4])
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    found, boxes = found[has_area], boxes[has_area]
    masks: Sequence[dict[str, Any] | None] = [None] * len(found)
    if prototypes is not None and len(found):
        masks = image_masks(prototypes.float().cpu().numpy(), found[:, 6:], boxes, frame)
    return [
        Detection(int(row[5]), row[4], (box[0], box[1], box[2], box[3]), mask)
        for row, box, mask in zip(found[:, :6].tolist(), boxes.tolist(), masks, strict=True)
    ]


def _check_finite(outputs: Outputs) -> None:
    """Raises NotFiniteError: comparisons with NaN are false, and would quietly drop detections."""
    broken: set[int] = set()
    for tensor in (outputs.decoded, outputs.prototypes):
        if (
            tensor is None or tensor.sum().isfinite()
        ):  # a sum with a number that is not is not, either
            continue
        finite = tensor.isfinite().flatten(1).all(1).tolist()
        broken |= {image for image, is_finite in enumerate(finite) if not is_finite}
    if broken:
        raise NotFiniteError(sorted(broken))
