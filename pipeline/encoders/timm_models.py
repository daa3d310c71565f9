"""`dino:NAME` and `timm:NAME`: image features of timm's networks.

DINO: Caron et al., "Emerging properties in self-supervised vision transformers" (2021); DINOv2 (2023) and
DINOv3 (2025) after it. Their features say what looks alike with no label and no text. `timm:` is any
other network of timm, without its classifier; of the same kind as far as the database is concerned.
"""

import sys
from collections.abc import Mapping
from typing import Any

import timm
from timm.data import create_transform, resolve_data_config

from nearsql.pipeline import devices
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Corpus, Kind, Model, Option
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
from nearsql.pipeline.encoders.torch_encoder import (
    LARGEST_INPUT,
    TorchEncoder,
    input_size,
    onto,
    three_numbers,
)

KIND: Kind = "image"
OPTIONS: Mapping[str, Option] = {"checkpoint": None, "size": None}
DEVICES = devices.DEVICES
BATCH_SIZE = 32
PACKAGES = ("torch", "torchvision", "timm", "pillow")

# The file of weights that timm's repositories on the hub have.
_HUB_FILE = "model.safetensors"


def full_name(name: str) -> str:
    """`timm:NAME.TAG`, or `dino:NAME.TAG` for a network of DINO, with timm's usual tag if none is given.

    Raises UserError for a name that timm does not know, and for `dino:` before another network.
    """
    prefix, _, network = name.partition(":")
    # Only these: timm would take `hf-hub:...` and `local-dir:...` too, and fetch or open them.
    if ":" in network or not timm.is_model(network):
        like = timm.list_models(f"*{network.partition('.')[0]}*")[:10] if network else []
        such = f", such as {', '.join(like)}" if like else ""
        raise UserError(f"timm has no model {network!r}: give one as {prefix}:NAME{such}")
    try:
        entry = timm.get_pretrained_cfg(network)
    except RuntimeError as error:
        stem = network.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{stem}.*")) or stem
        raise UserError(f"timm has no {network!r}: there are {tags}") from error
    if entry is not None and entry.tag and "." not in network:
        network = f"{network}.{entry.tag}"
    if "dino" in network:
        return f"dino:{network}"
    if prefix == "dino":
        raise UserError(f"{network} is no DINO model: write timm:{network}")
    return f"timm:{network}"


def check(options: Mapping[str, Any]) -> None:
    """Raises UserError for a size that makes no sense."""
    size = options["size"]
    if size is not None and not 1 <= size <= LARGEST_INPUT:
        raise UserError(f"--size must be from 1 to {LARGEST_INPUT}, not {size}")


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """The network with the weights of a local file, or of timm's own from the hub.

    Nothing is learned from the corpus. Raises UserError when there are no such weights.
    """
    network = name.partition(":")[2]
    entry = timm.get_pretrained_cfg(network)
    says = entry.to_dict() if entry is not None else {}
    checkpoint = (
        _fetch(name, says)
        if options["checkpoint"] is None
        else find_checkpoint(options["checkpoint"])
    )
    config = resolve_data_config(pretrained_cfg=says or {"input_size": (3, 224, 224)})
    channels, height, width = config.pop("input_size")
    if channels != 3:
        raise UserError(f"{name} is for images of {channels} channels, and these have 3")
    size = options["size"] or (height if height == width else None)
    parameters = {
        "model": name,
        "options": {"size": size},
        "architecture": network,
        "preprocessing": {
            "size": size or [height, width],
            **{key: list(v) if isinstance(v, tuple) else v for key, v in config.items()},
        },
        "checkpoint": checkpoint.as_parameter(),
    }
    family = "dino" if name.startswith("dino:") else "other"
    return Model(name, family, parameters, {}, checkpoint.sha256, says.get("license"))


def load(model: Model, device: str = "auto") -> TorchEncoder:
    """The network from the recorded checkpoint. Raises UserError and ValueError."""
    device = devices.pick(device)
    architecture = str(model.parameters["architecture"])
    full_name(f"timm:{architecture}")  # what a hostile file may have chosen is refused here
    config = _preprocessing(model.parameters)
    checkpoint = recorded_checkpoint(model.parameters, model.checkpoint_sha256)
    state = read_state(checkpoint)
    network = _create(architecture, max(config["input_size"][1:]))
    put_into(network, _converted(network, state), checkpoint, architecture)
    return TorchEncoder(
        onto(network, device),
        create_transform(**config, is_training=False),
        config["input_size"][1:],
        device,
    )


def _preprocessing(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded data configuration, checked. Raises ValueError."""
    recorded = parameters["preprocessing"]
    for key, allowed in (
        ("interpolation", ("bicubic", "bilinear", "nearest", "lanczos")),
        ("crop_mode", ("center", "squash", "border")),
    ):
        if recorded[key] not in allowed:
            raise ValueError(f"its {key} is {recorded[key]!r}")
    if not 0.1 <= recorded["crop_pct"] <= 2:
        raise ValueError(f"its crop_pct is {recorded['crop_pct']!r}")
    return {
        "input_size": (3, *input_size(recorded["size"])),
        "mean": three_numbers("mean", recorded["mean"]),
        "std": three_numbers("std", recorded["std"]),
        "interpolation": recorded["interpolation"],
        "crop_pct": recorded["crop_pct"],
        "crop_mode": recorded["crop_mode"],
    }


def _create(architecture: str, size: int) -> Any:
    """The network without a classifier, for images of any size where it can do that, else of this one."""
    for options in ({"dynamic_img_size": True}, {"img_size": size}):
        try:
            return timm.create_model(architecture, pretrained=False, num_classes=0, **options)
        except TypeError:  # the network's class has no such argument
            continue
    return timm.create_model(architecture, pretrained=False, num_classes=0)


def _converted(network: Any, state: State) -> State:
    """The weights under timm's names, as when it fetches them itself, and without the classifier."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, network)
        except (KeyError, RuntimeError, AttributeError, IndexError):
            pass  # not what it looked like: the missing names are told
    classifiers = network.pretrained_cfg.get("classifier") or ()
    if isinstance(classifiers, str):
        classifiers = (classifiers,)
    # `head` of `head.fc`: what is left of that module in a network without a classifier stays.
    modules = tuple(f"{name.partition('.')[0]}." for name in classifiers)
    own = network.state_dict()
    return {
        name: value for name, value in state.items() if name in own or not name.startswith(modules)
    }


def _fetch(name: str, says: Mapping[str, Any]) -> Checkpoint:
    """timm's weights, from the hub's cache on this machine or from the hub itself."""
    from huggingface_hub import hf_hub_download

    repository = says.get("hf_hub_id")
    if not repository:
        where = f" ({says['url']})" if says.get("url") else ""
        raise UserError(f"the hub has no weights of {name}{where}: give a file with --checkpoint")
    repository, _, revision = repository.partition("@")
    try:
        with fetching(name):
            path = hf_hub_download(
                repository, says.get("hf_hub_filename") or _HUB_FILE, revision=revision or None
            )
    except Exception as error:  # whatever a network can do wrong
        raise UserError(
            f"the weights of {name} could not be fetched: give a file of them with --checkpoint"
            f" ({first_line(error)})"
        ) from error
    return find_checkpoint(path)
