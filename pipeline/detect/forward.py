"""One forward pass of a detector: its detections, what its criterion takes, and its features."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearsql.pipeline import devices
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.weights import Detector


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a network says of a batch of squares, in float32 on its device.

    decoded: as the evaluation forward pass gives it, in square pixels. (n, 4 + classes + masks, anchors)
    with boxes as centre, width and height; of an end-to-end model (n, 300, 6 + masks) with corners,
    confidence and class.
    raw: what the criterion takes: boxes, scores, feats and, of a segment model, mask_coefficient and
    proto. Of an end-to-end model those of its one-to-one head. proto is a pair with the semantic map
    where the family has one; `prototypes` is the first of it.
    features: the head's inputs p3, p4, p5 and the layers that were asked for: (n, channels, height, width).
    """

    decoded: Tensor
    raw: dict[str, Any]
    features: dict[str, Tensor]

    @property
    def prototypes(self) -> Tensor | None:
        """The mask prototypes (n, masks, height, width) of a segment model."""
        proto = self.raw.get("proto")
        return proto[0] if isinstance(proto, tuple) else proto

    def item(self, i: int) -> "Outputs":
        """The outputs of the batch's i-th square alone, as a batch of one; views, no copies."""
        return _mapped(self, lambda tensor: tensor[i : i + 1])


def forward(
    detector: Detector,
    squares: Sequence[npt.NDArray[np.uint8]],
    *,
    layers: Sequence[str] = (),
    autocast: bool = False,
) -> Outputs:
    """One forward pass for all squares (size, size, 3), RGB as `letterbox` makes them.

    layers: further layers of the network, by number (9) or number and kind (9:SPPF); they are in
    `features` under the name given. autocast: half precision where torch thinks it safe, on a GPU only;
    boxes are decoded in float32 all the same. Counts the squares in `detector.n_forwards`.

    Raises UserError for an unknown layer or a side that the network cannot take,
    torch.OutOfMemoryError when fewer squares may succeed.
    """
    _check_squares(squares, max(detector.strides))
    modules = find_layers(detector, layers)
    images = torch.from_numpy(np.stack(squares)).to(detector.device)
    with torch.inference_mode(), _listening(modules) as heard:
        images = images.permute(0, 3, 1, 2).contiguous().float() / 255
        with devices.autocast(str(detector.device)) if autocast else nullcontext():
            first, predictions = detector.network(images)
        # A segment model gives its prototypes beside the detections.
        decoded = first[0] if isinstance(first, tuple) else first
        raw = predictions["one2one"] if detector.is_end_to_end else predictions
        inputs = zip(head_inputs(detector), raw["feats"], strict=True)
        for name, values in heard.items():
            if not isinstance(values, Tensor) or values.ndim != 4:
                raise UserError(f"the layer {name!r} gives no map of features; {_known(detector)}")
        features = {**dict(inputs), **{name: heard[name] for name in modules}}
        outputs = _mapped(Outputs(decoded, raw, features), Tensor.float)
        if autocast:
            outputs = replace(outputs, decoded=_decode(detector, outputs.raw))
    detector.n_forwards += len(squares)
    return outputs


def head_inputs(detector: Detector) -> tuple[str, ...]:
    """The names of the head's inputs, by the power of two that they are smaller: p3, p4, p5."""
    return tuple(f"p{int(math.log2(stride))}" for stride in detector.strides)


def find_layers(detector: Detector, layers: Sequence[str]) -> dict[str, torch.nn.Module]:
    """The modules of the layers, by the name given; the head's inputs need none.

    Raises UserError for a layer that the network does not have.
    """
    every = list(detector.network.model)[:-1]  # the last one is the head, which gives no features
    found = {}
    for name in dict.fromkeys(layers):
        if name in head_inputs(detector):
            continue
        parts = re.fullmatch(r"([0-9]{1,4})(?::(\w+))?", name, re.ASCII)
        module = every[int(parts[1])] if parts and int(parts[1]) < len(every) else None
        if module is None or (parts and parts[2] and parts[2] != type(module).__name__):
            raise UserError(f"{detector.name} has no layer {name!r}; {_known(detector)}")
        found[name] = module
    return found


def _known(detector: Detector) -> str:
    every = list(detector.network.model)[:-1]
    numbered = (f"{number}:{type(module).__name__}" for number, module in enumerate(every))
    return f"it has {', '.join((*head_inputs(detector), *numbered))}"


@contextmanager
def _listening(modules: Mapping[str, torch.nn.Module]) -> Iterator[dict[str, Any]]:
    """Collects what the modules give while the block runs."""
    heard: dict[str, Any] = {}

    def keep(name: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        heard[name] = output

    handles = [
        module.register_forward_hook(partial(keep, name)) for name, module in modules.items()
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _check_squares(squares: Sequence[npt.NDArray[np.uint8]], stride: int) -> None:
    shapes = {square.shape for square in squares}
    if len(shapes) != 1:
        raise ValueError(f"squares of one size are taken together, not of {sorted(shapes)}")
    (shape,) = shapes
    if (
        len(shape) != 3
        or shape[0] != shape[1]
        or shape[2] != 3
        or not shape[0]
        or shape[0] % stride
    ):
        raise UserError(
            f"the network takes square RGB images whose side is a multiple of {stride} pixels, not"
            f" {' x '.join(map(str, shape))}"
        )


def _decode(detector: Detector, raw: Mapping[str, Any]) -> Tensor:
    """What the head makes of its raw predictions, in the precision that these have now."""
    head = detector.network.model[-1]
    head.shape = None  # it keeps its anchors from pass to pass, and those are in half precision yet
    decoded = head._inference(raw)
    if head.end2end:
        decoded = head.postprocess(decoded.permute(0, 2, 1))
    return decoded


def _mapped(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    """The outputs with each tensor changed."""
    return Outputs(
        change(outputs.decoded),
        {name: _each(value, change) for name, value in outputs.raw.items()},
        {name: change(value) for name, value in outputs.features.items()},
    )


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tensor, or a list or tuple of them, changed."""
    if isinstance(value, list | tuple):
        return type(value)(change(tensor) for tensor in value)
    return change(value)
