"""Checkpoints: local files of weights that nobody vouches for, read as tensors and nothing else.

A `.pt` file is a pickle, and a pickle may run any program. Here PyTorch reads it with
`weights_only=True`, which refuses all but tensors and plain containers; the libraries' own loaders fall
back to the unsafe way in some versions, and are not used. A file is known by its SHA-256.
"""

import logging
import os
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nearsql.pipeline import images
from nearsql.pipeline.console import UserError, say

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

# Under which name training scripts keep the weights beside their own state; averaged ones first,
# which are those that were evaluated.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")

# What wrappers for several GPUs and for torch.compile put before each name.
_WRAPPERS = ("module.", "_orig_mod.")

# What a refused pickle asks for, in PyTorch's words.
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")

# How many names an error sentence shows.
_SHOWN = 3

State = dict[str, Any]  # tensors by name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights."""

    path: str  # absolute
    sha256: str
    bytes: int

    def as_parameter(self) -> dict[str, Any]:
        """What a model's parameters say of it."""
        return {"path": self.path, "sha256": self.sha256, "bytes": self.bytes}


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Says that the weights of `name` are being fetched, in place of all that the hub says of its tries."""
    say(f"fetching the weights of {name} from the hub, or from its cache on this machine")
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def find_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The file at a path, hashed. Raises UserError when it is no readable file of weights by its name."""
    found = Path(path).expanduser().absolute()
    if found.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path} is no checkpoint: those are files whose name ends in {', '.join(SUFFIXES)}"
        )
    try:
        with images.open_regular_file(found) as file:
            sha256 = images.sha256_of_file(file)
            size = os.fstat(file.fileno()).st_size
    except images.UnreadableImage as error:
        raise UserError(f"the checkpoint {path} cannot be used: {error}") from error
    return Checkpoint(str(found), sha256, size)


def recorded_checkpoint(
    parameters: Mapping[str, Any],
    sha256: str | None,
    find: Callable[[str], Checkpoint] = find_checkpoint,
) -> Checkpoint:
    """The checkpoint that a model was made with, if it is still there and has the same bytes.

    find: what hashes the checkpoint at a path. Raises UserError otherwise, with what to do.
    """
    recorded = parameters.get("checkpoint")
    path = recorded.get("path") if isinstance(recorded, dict) else None
    if not isinstance(path, str) or sha256 is None:
        raise UserError("the database does not say which checkpoint it was made with")
    try:
        found = find(path)
    except UserError as error:
        raise UserError(
            f"{error}; if it was moved, run `nearsql embed` on its space with --checkpoint PATH"
        ) from error
    if found.sha256 != sha256:
        raise UserError(
            f"the checkpoint {path} has changed: its SHA-256 is {found.sha256[:12]}..., and that of the"
            f" one that made the space was {sha256[:12]}..."
        )
    return found


def read_state(checkpoint: Checkpoint) -> State:
    """The checkpoint's tensors by name, on the CPU, without what wraps them.

    Raises UserError when it holds anything that would have to be executed, or no tensors.
    """
    path = checkpoint.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd files: the outcome is told in our own words
            if path.lower().endswith(".safetensors"):
                loaded: Any = load_file(path, device="cpu")
            else:
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = _GLOBAL.search(str(error))
        what = f", such as {asked.group(1)}" if asked else ""
        raise UserError(
            f"{path} is refused: it holds more than tensors{what}, and to load that could run any"
            " program; save its state dict alone"
        ) from error
    except Exception as error:  # a reader may raise anything on a hostile file
        raise UserError(f"{path} cannot be read as weights: {_reason(error)}") from error
    for name in _NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
            break
    if not _is_state(loaded):
        raise UserError(f"{path} holds no state dict, which is tensors by their names")
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in loaded):
            loaded = {name.removeprefix(prefix): value for name, value in loaded.items()}
    return dict(loaded)


def put_into(network: Any, state: State, checkpoint: Checkpoint, model: str) -> None:
    """Gives the network the weights. Raises UserError unless each has its place and its shape."""
    own = network.state_dict()
    # A counter that old PyTorch did not keep, and that only training reads.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state and name not in counters]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(found)} of {total:,} tensors {what} ({_some(found)})"
        for found, total, what in (
            (missing, len(own), "are missing"),
            (unexpected, len(state), "have no place in it"),
            (shapes, len(own), "have another shape"),
        )
        if found
    ]
    if problems:
        raise UserError(f"{checkpoint.path} is no checkpoint of {model}: {'; '.join(problems)}")
    try:
        network.load_state_dict(state, strict=not counters)
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint.path} cannot be loaded into {model}: {_reason(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what a library says, or the error's kind when it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def _is_state(loaded: Any) -> bool:
    return (
        isinstance(loaded, dict)
        and len(loaded) > 0
        and all(isinstance(name, str) and _is_plain(value) for name, value in loaded.items())
    )


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor that has its numbers, one after the other."""
    return (
        torch.is_tensor(value)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not value.is_quantized
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _reason(error: Exception) -> str:
    """The error's first sentence: PyTorch goes on with advice on how to load the file unsafely."""
    if isinstance(error, KeyError | EOFError):  # where a pickle ends, or makes no sense
        return "it is damaged, or no file of PyTorch"
    return first_line(error).split(". ")[0].rstrip(".")
