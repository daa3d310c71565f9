"""`clip:ARCHITECTURE/TAG`: images and texts in one space, by open_clip.

Radford et al., "Learning transferable visual models from natural language supervision" (2021), and the
models that followed it. The architecture is one of open_clip's, the tag one of its sets of weights. The
tag also says how images are prepared (mean, standard deviation, resizing) and whether the network uses
QuickGELU; open_clip forgets that when the weights come from a local file, and here it counts all the same.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2

from nearsql.pipeline import devices
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import CannotEncode, Corpus, Kind, Model, Option, Vectors
from nearsql.pipeline.encoders.checkpoints import (
    Checkpoint,
    State,
    fetching,
    find_checkpoint,
    first_line,
    put_into,
    read_state,
    recorded_checkpoint,
)
from nearsql.pipeline.encoders.torch_encoder import TorchEncoder, input_size, onto, three_numbers

KIND: Kind = "image"
OPTIONS: Mapping[str, Option] = {"checkpoint": None}
DEVICES = devices.DEVICES
BATCH_SIZE = 32
PACKAGES = ("torch", "torchvision", "open_clip_torch", "timm", "pillow")

# Architectures with several tags of which one is what people mean.
_DEFAULT_TAGS = {"ViT-B-32": "laion2b_s34b_b79k"}

# What a tag says of images besides their size, which is the architecture's.
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


def full_name(name: str) -> str:
    """`clip:ViT-B-32` as `clip:ViT-B-32/laion2b_s34b_b79k`.

    Without a tag it stays when the architecture has none, or several of which none is the usual one.
    Raises UserError for an architecture or a tag that open_clip does not know.
    """
    architecture, _, tag = name.partition(":")[2].partition("/")
    _check_architecture(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag:
        known = next((known for known in tags if _plain(known) == _plain(tag)), None)
        if known is None:
            has = f"its tags are {', '.join(tags)}" if tags else "it has none"
            raise UserError(f"{architecture} has no tag {tag!r}: {has}")
        tag = known
    else:
        tag = _DEFAULT_TAGS.get(architecture) or (tags[0] if len(tags) == 1 else "")
    return f"clip:{architecture}/{tag}" if tag else f"clip:{architecture}"


def check(options: Mapping[str, Any]) -> None:
    """Nothing to refuse: the checkpoint is looked at by `fit`."""


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """The model of that name with the weights of a local file, or of its tag's own from the hub.

    Nothing is learned from the corpus. Raises UserError when there are no such weights.
    """
    architecture, _, tag = name.partition(":")[2].partition("/")
    says = _what_the_tag_says(architecture, tag)
    checkpoint = (
        _fetch(name, architecture, tag)
        if options["checkpoint"] is None
        else find_checkpoint(options["checkpoint"])
    )
    config = open_clip.get_model_config(architecture)
    preprocessing = {"size": config["vision_cfg"]["image_size"], "mode": "RGB"}
    default = PreprocessCfg()
    for key in _PREPROCESSING:
        value = says.get(key)
        preprocessing[key] = getattr(default, key) if value is None else value
    parameters = {
        "model": name,
        "options": {},
        "architecture": architecture,
        "tag": tag or None,
        "quick_gelu": bool(config.get("quick_gelu") or says.get("quick_gelu")),
        "preprocessing": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in preprocessing.items()
        },
        "checkpoint": checkpoint.as_parameter(),
    }
    return Model(name, "clip", parameters, {}, checkpoint.sha256, says.get("license"))


def load(model: Model, device: str = "auto") -> TorchEncoder:
    """The image side, from the recorded checkpoint. Raises UserError and ValueError."""
    device = devices.pick(device)
    preprocessing = _preprocessing(model.parameters)
    network = onto(_network(model), device)
    return TorchEncoder(
        network.encode_image,
        image_transform_v2(preprocessing, is_train=False),
        input_size(preprocessing.size),
        device,
    )


def load_text_tower(model: Model) -> "ClipTextTower":
    """The text side, on the CPU, from the recorded checkpoint. Raises UserError and ValueError."""
    architecture = _architecture(model.parameters)
    tokenize = _tokenizer(architecture)  # before the weights: it may be what is missing
    return ClipTextTower(onto(_network(model), "cpu"), tokenize)


class ClipTextTower:
    """Texts in the space of the images."""

    def __init__(self, network: Any, tokenize: Any) -> None:
        # The half that looks at images is let go.
        del network.visual
        self._network, self._tokenize = network, tokenize
        self.dimensions = self.embed("a").shape[0]

    def embed(self, text: str) -> Vectors:
        """The vector of one text, of which the model's context length (mostly 77 tokens) counts."""
        with torch.inference_mode():
            (found,) = self._network.encode_text(self._tokenize([text])).float().numpy()
        if not np.isfinite(found).all():
            raise CannotEncode("the model gave a vector with a value that is no finite number")
        vector: Vectors = found
        return vector


def _check_architecture(architecture: str) -> None:
    # Only these: open_clip would take `hf-hub:...` and `local-dir:...` too, and fetch or open them.
    names = open_clip.list_models()
    if architecture not in names:
        near = [known for known in names if _plain(architecture) in _plain(known)] or names
        shown = ", ".join(near[:10]) + (", ..." if len(near) > 10 else "")
        raise UserError(
            f"open_clip has no architecture {architecture!r}: give one as clip:NAME, such as {shown}"
        )
    if "hf_model_name" in open_clip.get_model_config(architecture)["text_cfg"]:
        raise UserError(
            f"{architecture} has a text side that open_clip takes from another library's hub:"
            " choose an architecture that is all its own"
        )


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _what_the_tag_says(architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's entry of the tag. Without one: what all its tags say alike, or nothing if it has none.

    Raises UserError when they differ, as then nobody knows how the images must be prepared.
    """
    if tag:
        return dict(open_clip.get_pretrained_cfg(architecture, tag))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    keys = (*_PREPROCESSING, "quick_gelu")
    entries = [open_clip.get_pretrained_cfg(architecture, known) for known in tags]
    said = [{key: entry[key] for key in keys if key in entry} for entry in entries]
    if any(one != said[0] for one in said):
        raise UserError(
            f"the weights of {architecture} are not all used alike: name the tag, as in"
            f" clip:{architecture}/{tags[0]}; there are {', '.join(tags)}"
        )
    return said[0] if said else {}


def _fetch(name: str, architecture: str, tag: str) -> Checkpoint:
    """The tag's weights, from the hub's cache on this machine or from the hub itself."""
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        ways = f"a tag, as in clip:{architecture}/TAG ({tags}), or " if tags else ""
        raise UserError(f"{name} says nothing of its weights: give {ways}a file with --checkpoint")
    try:
        with fetching(name):
            path = open_clip.download_pretrained(open_clip.get_pretrained_cfg(architecture, tag))
    except Exception as error:  # whatever a network can do wrong
        raise UserError(
            f"the weights of {name} could not be fetched: give a file of them with --checkpoint"
            f" ({first_line(error)})"
        ) from error
    return find_checkpoint(path)


def _architecture(parameters: Mapping[str, Any]) -> str:
    """The recorded architecture, which a hostile file may have chosen."""
    architecture = parameters.get("architecture")
    if not isinstance(architecture, str):
        raise UserError("the database does not say of which architecture it is")
    _check_architecture(architecture)
    return architecture


def _preprocessing(parameters: Mapping[str, Any]) -> PreprocessCfg:
    """The recorded preprocessing, checked. Raises ValueError."""
    recorded = parameters["preprocessing"]
    for key, allowed in (
        ("interpolation", ("bicubic", "bilinear", "random")),
        ("resize_mode", ("shortest", "longest", "squash")),
        ("fill_color", range(256)),
    ):
        if recorded[key] not in allowed:
            raise ValueError(f"its {key} is {recorded[key]!r}")
    height, width = input_size(recorded["size"])
    return PreprocessCfg(
        size=height if height == width else (height, width),
        mean=three_numbers("mean", recorded["mean"]),
        std=three_numbers("std", recorded["std"]),
        interpolation=recorded["interpolation"],
        resize_mode=recorded["resize_mode"],
        fill_color=recorded["fill_color"],
    )


def _network(model: Model) -> Any:
    """Both towers with the weights of the recorded checkpoint."""
    architecture = _architecture(model.parameters)
    checkpoint = recorded_checkpoint(model.parameters, model.checkpoint_sha256)
    state = read_state(checkpoint)
    with _quiet_open_clip():
        network = open_clip.create_model(
            architecture,
            pretrained=None,
            pretrained_text=False,
            force_quick_gelu=bool(model.parameters.get("quick_gelu")),
        )
    put_into(network, _converted(network, state), checkpoint, architecture)
    return network


def _converted(network: Any, state: State) -> State:
    """The weights under open_clip's present names and shapes, as its own loader has it."""
    try:
        state = convert_state_dict(network, state)
    except (KeyError, RuntimeError, AttributeError):
        pass  # not what it looked like: the missing names are told
    if "positional_embedding" in state and not hasattr(network, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):  # a number, or a list of one
        own = getattr(network, name, None)
        if own is not None and name in state and state[name].numel() == own.numel():
            state[name] = state[name].reshape(own.shape)
    return state


def _tokenizer(architecture: str) -> Any:
    """list of texts -> (n, context length) token numbers. Raises UserError; fetches nothing."""
    text = open_clip.get_model_config(architecture)["text_cfg"]
    name = text.get("hf_tokenizer_name")
    if not name:
        return open_clip.get_tokenizer(architecture)  # of a file that comes with open_clip
    try:
        return open_clip.get_tokenizer(architecture, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise UserError(
            f"the text side of {architecture} needs the tokenizer {name}: pip install transformers"
        ) from error
    except Exception as error:  # whatever another library makes of a file that is not there
        raise UserError(
            f"the text side of {architecture} needs the tokenizer {name}, which is not on this machine"
            ' and is not fetched from SQL: python -c "import open_clip;'
            f" open_clip.get_tokenizer('{architecture}')\" fetches it"
        ) from error


@contextmanager
def _quiet_open_clip() -> Iterator[None]:
    """Without its warning that no weights were loaded: they come next."""

    def is_other(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    # It logs on the root logger, which would get a handler that stays if it had none.
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
        root.removeHandler(handler)
