"""The loss of each image of a batch, component by component, as training would report it for it alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nearsql.pipeline.detect.forward import Outputs
from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.truth import Target, batch_targets
from nearsql.pipeline.detect.weights import Detector

# The components that speak of objects, and of nothing where there are none.
OF_OBJECTS = ("box", "seg", "dfl", "l1", "sem")


@dataclass(frozen=True, slots=True)
class ImageLosses:
    """The loss components of one image, weighted as the official criterion reports them.

    values: by component, in the official order; None where undefined. reasons: for each None, why.
    normaliser: the target score sum before it is raised to at least 1, and n_foreground the anchors that
    were given to an object; None when the assignment itself is undefined.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    normaliser: float | None
    n_foreground: int | None


def image_losses(
    detector: Detector,
    outputs: Outputs,
    targets: Sequence[Sequence[Target]],
    frames: Sequence[Frame],
) -> list[ImageLosses]:
    """The losses of each image, equal whatever else is in the batch.

    The official criterion is normalised by a whole batch's target score sum, so it is run on each image
    by itself. Raises ValueError as `batch_targets` does, or when something is not one an image.
    """
    n_images = len(outputs.decoded)
    if not n_images == len(targets) == len(frames):
        raise ValueError(
            f"{n_images} images have targets and frames each, not {len(targets)} and {len(frames)}"
        )
    return [
        _losses(detector, outputs.item(i), objects, frame)
        for i, (objects, frame) in enumerate(zip(targets, frames, strict=True))
    ]


def _losses(
    detector: Detector, outputs: Outputs, targets: Sequence[Target], frame: Frame
) -> ImageLosses:
    objects = [target for target in targets if not target.is_crowd]
    n_bare = sum(not target.has_mask for target in objects)
    no_masks = ""
    if detector.task == "segment" and n_bare:
        no_masks = f"{n_bare} of the {len(objects)} objects have no mask"
    if no_masks and detector.assigns_by_masks:
        reason = f"{no_masks}, and this model assigns objects to anchors by their masks"
        nothing: dict[str, float | None] = dict.fromkeys(detector.components)
        return ImageLosses(nothing, dict.fromkeys(nothing, reason), None, None)
    with torch.inference_mode():
        batch = batch_targets(detector, [objects], [frame])
        items, normaliser, n_foreground = _official(detector.criterion, outputs.raw, batch)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for component in detector.components:
        value = items[component]
        if component in OF_OBJECTS and not objects:
            reasons[component] = (
                "the image has crowds only, which are no objects"
                if targets
                else "the image has no objects"
            )
        elif component in OF_OBJECTS and n_foreground == 0:
            reasons[component] = "no anchor was given to an object of the image"
        elif component == "seg" and no_masks:
            reasons[component] = no_masks
        elif not math.isfinite(value):
            reasons[component] = f"the criterion gives {value}"
        values[component] = None if component in reasons else value
    return ImageLosses(values, reasons, normaliser, n_foreground)


def _official(
    criterion: Any, raw: dict[str, Any], batch: dict[str, Tensor]
) -> tuple[dict[str, float], float, int]:
    """The criterion's own loss items by component, the target score sum, and the foreground anchors."""
    assigned: list[Any] = []
    handle = criterion.assigner.register_forward_hook(
        lambda module, args, output: assigned.append(output)
    )
    try:
        _, items = criterion.loss(raw, batch)
    finally:
        handle.remove()
    (assignment,) = assigned
    _, _, target_scores, is_foreground, _ = assignment
    # All numbers at once: on a GPU each of them would be waited for.
    *values, normaliser, n_foreground = torch.stack(
        [*items.values(), target_scores.sum(), is_foreground.sum()]
    ).tolist()
    names = (name.removesuffix("_loss") for name in items)
    return dict(zip(names, values, strict=True)), normaliser, int(n_foreground)
