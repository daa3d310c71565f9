"""Ground truth as the criterion wants it: boxes in the square, and a map of masks an image.

This is what ultralytics' YOLODataset, LetterBox and Format make of a label file without augmentation,
made from the database instead: boxes and outlines in original pixels. Crowds are left out, as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.weights import Detector
from nearsql.udfs import rle

Mask = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# An outline becomes this many points before they are rounded to pixels, or one more than its own.
_OUTLINE_POINTS = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """One object of ground truth, or one stored prediction taken as such; in original pixels.

    class_index: the model's. mask: COCO RLE. polygons: the outline as drawn, a list of x, y, x, y, ...
    a part; it comes before the mask where both are there. id: of its row in the database.
    """

    class_index: int
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max
    mask: dict[str, Any] | None = None
    polygons: list[list[float]] | None = None
    is_crowd: bool = False
    id: int | None = None

    @property
    def has_mask(self) -> bool:
        return self.mask is not None or any(self.polygons or ())


def batch_targets(
    detector: Detector, targets: Sequence[Sequence[Target]], frames: Sequence[Frame]
) -> dict[str, Tensor]:
    """The criterion's batch: the objects of image after image, on the detector's device.

    batch_idx: (objects,), ascending. cls: (objects, 1). bboxes: (objects, 4), centre, width and height
    as shares of the square. For a segment model also masks: (images, side, side), where 0 is background
    and n the image's n-th object, smaller objects over larger ones, and side the square's by mask_ratio;
    and sem_masks: (images, side, side), each pixel's class where `masks` is not 0.

    The objects of a segment model's image are sorted by the area of their masks, the largest first.
    Raises ValueError for an object that the model has no class for, whose box or outline is not finite, or
    whose mask is of another size than the image.
    """
    kept = [[target for target in objects if not target.is_crowd] for objects in targets]
    maps = []
    if detector.task == "segment":
        ratio = int(detector.loss_settings["mask_ratio"])
        for i, (objects, frame) in enumerate(zip(kept, frames, strict=True)):
            masks = [_in_square(target, frame, ratio) for target in objects]
            order = sorted(range(len(masks)), key=lambda n: -int(masks[n].sum()))
            kept[i] = [objects[n] for n in order]
            maps.append(_overlapped([masks[n] for n in order], frame.size // ratio))
    boxes = [_boxes(objects, frame) for objects, frame in zip(kept, frames, strict=True)]
    classes = [_classes(objects, len(detector.classes)) for objects in kept]
    counts = [len(objects) for objects in kept]
    batch = {
        "batch_idx": np.repeat(np.arange(len(kept)), counts).astype(np.float32),
        "cls": np.concatenate([np.zeros((0, 1)), *classes]).astype(np.float32),
        "bboxes": np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32),
    }
    if detector.task == "segment":
        batch["masks"] = np.stack(maps)
        batch["sem_masks"] = np.stack(
            [
                np.concatenate([[0.0], of_image.ravel()])[labels].astype(np.float32)
                for labels, of_image in zip(maps, classes, strict=True)
            ]
        )
    return {name: torch.from_numpy(values).to(detector.device) for name, values in batch.items()}


def _boxes(objects: Sequence[Target], frame: Frame) -> Floats:
    """(objects, 4): centre, width and height as shares of the square.

    This is Frame.to_square, in the precision and the order of ultralytics' own steps: from a label's
    centre and size as shares of the image to corners, to the square, and back. So a box whose edge lies
    on the centre of an anchor has that anchor on the same side of it.
    """
    boxes = np.reshape([target.box for target in objects], (-1, 4))
    if not np.isfinite(boxes).all():
        raise ValueError("a box that is not finite is no target")
    shares = (boxes / ([frame.width, frame.height] * 2)).astype(np.float32)
    scale = np.array(frame.scaled_size * 2, np.float32)
    corners = _to_corners(_to_centres(shares)) * scale
    corners += np.array([frame.left, frame.top] * 2, np.float32)
    return _to_centres(corners) / np.float32(frame.size)


def _to_centres(corners: Floats) -> Floats:
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], 1)


def _to_corners(centres: Floats) -> Floats:
    middle, half = centres[:, :2], centres[:, 2:] / 2
    return np.concatenate([middle - half, middle + half], 1)


def _classes(objects: Sequence[Target], n_classes: int) -> npt.NDArray[np.float64]:
    """(objects, 1)"""
    for target in objects:
        if not 0 <= target.class_index < n_classes:
            raise ValueError(
                f"the model's classes are 0 to {n_classes - 1}, and {target.class_index} is none of them"
            )
    return np.array([[target.class_index] for target in objects], np.float64).reshape(-1, 1)


def _in_square(target: Target, frame: Frame, ratio: int) -> Mask:
    """The object's mask, 0 or 1, in the square made smaller by the ratio; empty without a mask."""
    square = np.zeros((frame.size, frame.size), np.uint8)
    if any(target.polygons or ()):
        for part in filter(None, target.polygons or ()):
            # Each part by itself: filled together, parts that overlap would cancel each other out.
            cv2.fillPoly(square, [_outline(np.reshape(part, (-1, 2)), frame)], color=(1,))
    elif target.mask is not None:
        across, down = frame.scaled_size
        scaled = cv2.resize(_bitmap(target.mask, frame), (across, down))
        square[frame.top : frame.top + down, frame.left : frame.left + across] = scaled
    side = frame.size // ratio
    return np.asarray(cv2.resize(square, (side, side)), np.uint8)


def _outline(points: npt.NDArray[np.float64], frame: Frame) -> npt.NDArray[np.int32]:
    """The outline (n, 2) in square pixels, with points between its corners, all cut off to whole pixels.

    The points in between matter: cutting them off moves an outline otherwise than cutting off its
    corners alone. Their number and places are those of ultralytics' resample_segments, and so is the
    precision, since a corner that float32 moves below a whole pixel is cut off to the one before.
    """
    if not np.isfinite(points).all():
        raise ValueError("an outline that is not finite is no target")
    shares = (points / [frame.width, frame.height]).astype(np.float32)
    closed = np.concatenate([shares, shares[:1]])
    corners = np.arange(len(closed))
    n_points = max(_OUTLINE_POINTS, len(closed))
    places = np.linspace(0, len(points), n_points - len(closed))
    places = np.insert(places, np.searchsorted(places, corners), corners)
    sampled = np.stack([np.interp(places, corners, closed[:, axis]) for axis in (0, 1)], 1)
    inside = sampled.astype(np.float32) * np.array(frame.scaled_size, np.float32)
    return (inside + np.array([frame.left, frame.top], np.float32)).astype(np.int32)


def _bitmap(mask: dict[str, Any], frame: Frame) -> Mask:
    """(height, width): the pixels of an RLE, 0 or 1."""
    if tuple(mask["size"]) != (frame.height, frame.width):
        raise ValueError(
            f"the mask is of {list(mask['size'])} (height, width), and its image of"
            f" {[frame.height, frame.width]}"
        )
    runs = rle.read("mask", mask)
    pixels = np.zeros(frame.width * frame.height, np.uint8)
    for start, end in zip(runs.starts.tolist(), runs.ends.tolist(), strict=True):
        pixels[start:end] = 1
    return pixels.reshape(frame.width, frame.height).T  # runs go down the columns


def _overlapped(masks: Sequence[Mask], side: int) -> npt.NDArray[np.int32]:
    """(side, side): the number, from 1, of the last mask that covers a pixel; 0 where none does."""
    together = np.zeros((side, side), np.int32)
    for number, mask in enumerate(masks, 1):
        together[mask > 0] = number
    return together
