"""`pixels`: an image's grey values, scaled down; the plain ruler that needs no model at all.

Good for images that are alike in layout, such as scanned digits, and for finding near-duplicates.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from nearsql.pipeline import images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Batch, CannotEncode, Columns, Corpus, Kind, Model, Vectors
from nearsql.udfs.spaces import Metric

KIND: Kind = "image"
OPTIONS = {"size": 16}
DEVICES = ("auto", "cpu")
BATCH_SIZE = 256
PACKAGES = ("pillow",)

# 256 x 256 grey values: beyond that a vector says no more and takes a quarter of a megabyte.
LARGEST_SIZE = 256


def full_name(name: str) -> str:
    """`pixels`, or UserError."""
    if name != "pixels":
        raise UserError(f"there is no model {name!r}: it is called pixels, and its size is --size")
    return name


def check(options: Mapping[str, Any]) -> None:
    """Raises UserError for a size that makes no sense."""
    if not 1 <= options["size"] <= LARGEST_SIZE:
        raise UserError(f"--size must be from 1 to {LARGEST_SIZE}, not {options['size']}")


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """The model of this size; nothing is learned from the corpus."""
    parameters = {"model": "pixels", "options": dict(options), "mode": "L", "resampling": "box"}
    return Model(f"pixels:{options['size']}", "pixels", parameters)


def load(model: Model, device: str = "auto") -> "PixelsEncoder":
    """The encoder of the model's size."""
    return PixelsEncoder(int(model.parameters["options"]["size"]))


class PixelsEncoder:
    """Grey values from 0 to 1 of size x size pixels, row by row."""

    metric: Metric = "l2"
    device = "cpu"
    computation: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, size: int) -> None:
        self.size = size
        self.dimensions = size * size

    def prepare(self, content: bytes | str) -> Vectors:
        """The vector of one image. The aspect ratio is not kept: all of the image counts."""
        assert isinstance(content, bytes)
        try:
            grey = images.on_white(images.upright(content)).convert("L")
        except (images.NotAnImage, images.UnreadableImage) as error:
            raise CannotEncode(str(error)) from error
        if grey.size != (self.size, self.size):
            # Each new pixel is the mean of the area it covers.
            grey = grey.resize((self.size, self.size), Image.Resampling.BOX)
        return np.asarray(grey, dtype=np.float32).ravel() / np.float32(255)

    def __call__(self, batch: Batch) -> Columns:
        prepared: Any = batch["prepared"]
        vectors = np.asarray(prepared, dtype=np.float32).reshape(len(prepared), self.dimensions)
        return {
            "item_id": batch["item_id"],
            "vector": vectors,
            "problem": [None] * len(prepared),
        }
