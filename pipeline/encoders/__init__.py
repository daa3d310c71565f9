"""Encoders: what turns images or texts into vectors, by model name.

A model is a module of this package (or any other that follows `EncoderModule`), imported when it is
asked for. `fit` makes a `Model`, which is what the database keeps: plain parameters and, for a model
that learns from the collection, arrays. `load` makes the `Encoder` from a Model. A space is always
encoded by an Encoder that was loaded, so that items added later are measured with the same ruler.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Protocol, TypedDict, cast

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.udfs.spaces import Metric

Kind = Literal["image", "text"]
Vectors = npt.NDArray[np.float32]

# A model's option as it is asked for; None is the model's own.
Option = int | str | None

# A model's name up to its colon -> the module that has it.
MODULES = {
    "clip": "nearsql.pipeline.encoders.clip",
    "dino": "nearsql.pipeline.encoders.timm_models",
    "llm": "nearsql.pipeline.encoders.llm_models",
    "pixels": "nearsql.pipeline.encoders.pixels",
    "text": "nearsql.pipeline.encoders.sentence_models",
    "tfidf": "nearsql.pipeline.encoders.tfidf",
    "timm": "nearsql.pipeline.encoders.timm_models",
}

# What a bare family name stands for.
DEFAULTS = {
    "clip": "clip:ViT-B-32",
    "dino": "dino:vit_small_patch14_dinov2.lvd142m",
    "text": "text:sentence-transformers/all-MiniLM-L6-v2",
}

# The libraries of nearsql[vision] and nearsql[text], by the names they are imported by.
_OF_EXTRAS = ("torch", "torchvision", "open_clip", "timm", "safetensors", "huggingface_hub")


class Batch(TypedDict):
    """What an encoder is called with: items and what `prepare` made of each."""

    item_id: Sequence[int]
    prepared: Sequence[Any]


class Columns(TypedDict):
    """What an encoder gives: one row an item, in the order of the batch.

    vector: float32 of shape (items, dimensions). problem: why an item's row is no vector, or None.
    truncated: for models that do not read items of any length, what of an item was left unread, or None.
    """

    item_id: Sequence[int]
    vector: Vectors
    problem: Sequence[str | None]
    truncated: NotRequired[Sequence[str | None]]


class CannotEncode(Exception):
    """An item that the model can do nothing with, whenever it is tried; the sentence says why."""


class Encoder(Protocol):
    """A loaded model. Holds no database: the same object serves threads, processes and machines.

    May have more: `title`, what the titles that it reads before texts are called in the items' metadata;
    `spent`, counts by name of what its calls took so far, for the run's own; `forecast(items, bytes)`, a
    sentence on what encoding so many texts will take.
    """

    dimensions: int
    metric: Metric
    device: str  # what it computes on, in words
    computation: Mapping[str, Any]  # what the vectors depend on besides the model, as JSON values

    def prepare(self, content: bytes | str) -> Any:
        """One image's bytes, or one text, made ready for a batch; called in several threads at once.

        Raises CannotEncode.
        """

    def __call__(self, batch: Batch) -> Columns:
        """The vectors of a batch. Out of memory (`halving`) means that a smaller batch may succeed."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as the database keeps it, in `models` and `model_arrays`.

    parameters: all that the vectors depend on, with `model` its full name, and `options` as they were
    asked for: an option's effective value (dimensions that a small corpus does not allow) may differ.
    arrays: what was learned, by name; a model without any is the same wherever its name, parameters
    and checkpoint are. A model with weights of its own names their file in the parameters as
    `checkpoint` (`path`, `bytes`): the path may change, the SHA-256 may not.
    """

    name: str
    family: str
    parameters: Mapping[str, Any]
    arrays: Mapping[str, bytes] = field(default_factory=dict)
    checkpoint_sha256: str | None = None
    licence: str | None = None


class Corpus(Protocol):
    """The items that a space is made for, as a model that learns from them sees them."""

    def __len__(self) -> int: ...

    def texts(self) -> Iterator[str]:
        """Every text, in item order, read a page at a time. Can be asked for again."""


class EncoderModule(Protocol):
    """What a module in MODULES offers.

    May have more: `LEARNS`, true where `fit` reads the corpus; and, where checkpoints are other than
    files of weights, `find_checkpoint(path)` and `split_path(name)`, which takes a name that is a path
    apart into a name and the path.
    """

    KIND: Kind
    # Names and defaults of the options that `fit` takes; `nearsql embed` offers the same names.
    OPTIONS: Mapping[str, Option]
    DEVICES: Sequence[str]  # those it can compute on, and `auto`
    BATCH_SIZE: int  # unless another one is asked for
    PACKAGES: Sequence[str]  # the installed distributions that the vectors depend on

    def full_name(self, name: str) -> str:
        """The name with what it leaves out. Raises UserError when there is no such model."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises UserError when an option's value does not do."""

    def fit(self, name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
        """The model for a new space, by its full name. Raises UserError when the corpus does not do."""

    def load(self, model: Model, device: str = "auto") -> Encoder:
        """The encoder of a model that `fit` made, perhaps long ago; device: one of DEVICES.

        Raises UserError or ValueError.
        """


class TextTower(Protocol):
    """What turns a text into a vector of a space, whatever the space's items are."""

    dimensions: int

    def embed(self, text: str) -> Vectors:
        """The vector of one text, float32 (dimensions,). Raises CannotEncode. In any thread."""


class TextModule(Protocol):
    """What a module in MODULES offers besides, when texts have a place in its spaces."""

    def load_text_tower(self, model: Model) -> TextTower:
        """The text side of a model that `fit` made. Raises UserError or ValueError."""


def find_module(name: str) -> EncoderModule:
    """The module of a model's name, such as `pixels`. Raises UserError, naming those that work."""
    module = MODULES.get(name.partition(":")[0])
    if module is None:
        there_are = ", ".join(sorted(MODULES))
        raise UserError(f"there is no model {name!r}: the models are {there_are}")
    try:
        return cast(EncoderModule, importlib.import_module(module))
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in _OF_EXTRAS:
            raise
        extra = "text" if name.startswith("text") else "vision"
        raise UserError(
            f"{name} needs {error.name}, which is not installed: pip install 'nearsql[{extra}]'"
        ) from error


def check_device(name: str, module: EncoderModule, device: str) -> None:
    """Raises UserError for a device that the model cannot compute on."""
    if device.partition(":")[0] not in module.DEVICES:
        raise UserError(
            f"{name} does not compute on {device!r}: --device is {', '.join(module.DEVICES)}"
        )


def check_options(
    name: str, module: EncoderModule, given: Mapping[str, Option]
) -> dict[str, Option]:
    """The options that were really given. Raises UserError for one that the model does not have."""
    options: dict[str, Option] = {o: value for o, value in given.items() if value is not None}
    for option in options:
        if option not in module.OPTIONS:
            names = ", ".join("--" + has.replace("_", "-") for has in module.OPTIONS)
            raise UserError(f"{name} has no --{option.replace('_', '-')}: it has {names}")
    return options
