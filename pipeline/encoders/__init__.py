"""Encoders: what turns images or texts into vectors, by model name.

A model is a module of this package (or any other that follows `EncoderModule`), imported when it is
asked for. `fit` makes a `Model`, which is what the database keeps: plain parameters and, for a model
that learns from the collection, arrays. `load` makes the `Encoder` from a Model. A space is always
encoded by an Encoder that was loaded, so that items added later are measured with the same ruler.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict, cast

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.udfs.spaces import Metric

Kind = Literal["image", "text"]
Vectors = npt.NDArray[np.float32]

# A model's name up to its colon -> the module that has it.
MODULES = {
    "pixels": "nearsql.pipeline.encoders.pixels",
    "tfidf": "nearsql.pipeline.encoders.tfidf",
}


class Batch(TypedDict):
    """What an encoder is called with: items and what `prepare` made of each."""

    item_id: Sequence[int]
    prepared: Sequence[Any]


class Columns(TypedDict):
    """What an encoder gives: one row an item, in the order of the batch.

    vector: float32 of shape (items, dimensions). problem: why an item's row is no vector, or None.
    """

    item_id: Sequence[int]
    vector: Vectors
    problem: Sequence[str | None]


class CannotEncode(Exception):
    """An item that the model can do nothing with, whenever it is tried; the sentence says why."""


class Encoder(Protocol):
    """A loaded model. Holds no database: the same object serves threads, processes and machines."""

    dimensions: int
    metric: Metric

    def prepare(self, content: bytes | str) -> Any:
        """One image's bytes, or one text, made ready for a batch; called in several threads at once.

        Raises CannotEncode.
        """

    def __call__(self, batch: Batch) -> Columns:
        """The vectors of a batch. Raises MemoryError when a smaller batch may succeed."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the database keeps it, in `models` and `model_arrays`.

    parameters: all that the vectors depend on, with `options` as they were asked for: an option's
    effective value (dimensions that a small corpus does not allow) may differ. arrays: what was
    learned, by name; a model without any is the same wherever its name and parameters are.
    """

    name: str
    family: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, bytes] = field(default_factory=dict)


class Corpus(Protocol):
    """The items that a space is made for, as a model that learns from them sees them."""

    def __len__(self) -> int: ...

    def texts(self) -> Iterator[str]:
        """Every text, in item order, read a page at a time. Can be asked for again."""


class EncoderModule(Protocol):
    """What a module in MODULES offers."""

    KIND: Kind
    FAMILY: str
    # Names and defaults of the options that `fit` takes; `nearsql embed` offers the same names.
    OPTIONS: Mapping[str, int]
    PACKAGES: Sequence[str]  # the installed distributions that the vectors depend on

    def check(self, name: str, options: Mapping[str, int]) -> None:
        """Raises UserError when the name or an option's value does not do."""

    def fit(self, name: str, space: str, options: Mapping[str, int], corpus: Corpus) -> Model:
        """The model for a new space. Raises UserError when the corpus does not do."""

    def load(self, model: Model) -> Encoder:
        """The encoder of a model that `fit` made, perhaps long ago. Raises ValueError."""


def find_module(name: str) -> EncoderModule:
    """The module of a model's name, such as `pixels`. Raises UserError, naming those that work."""
    module = MODULES.get(name.partition(":")[0])
    if module is None:
        there_are = ", ".join(sorted(MODULES))
        raise UserError(f"there is no model {name!r}: the models are {there_are}")
    return cast(EncoderModule, importlib.import_module(module))


def check_options(
    name: str, module: EncoderModule, given: Mapping[str, int | None]
) -> dict[str, int]:
    """The options that were really given. Raises UserError for one that the model does not have."""
    options = {option: value for option, value in given.items() if value is not None}
    for option in options:
        if option not in module.OPTIONS:
            has = ", ".join("--" + o.replace("_", "-") for o in module.OPTIONS)
            raise UserError(f"{name} has no --{option.replace('_', '-')}: it has {has}")
    return options
