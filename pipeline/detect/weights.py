"""Loading a detector from a local checkpoint, without running anything that the file brings along.

A .pt file is a pickle, and a pickle may name any function to be called. It is therefore read only by
ultralytics' restricted loader, which rebuilds known model classes and refuses everything else. Nothing is
downloaded or installed, and nothing is written.
"""

import hashlib
import math
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import PIL.Image
import torch

from nearsql.pipeline.console import UserError

# What ultralytics reads when it is imported, and what it must read here.
_ENVIRONMENT = {
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
}


@contextmanager
def _importing_ultralytics() -> Iterator[None]:
    """Keeps the import of ultralytics from touching anything but its own modules.

    It replaces PIL.Image.open by a function that may install packages, writes its settings into the
    user's configuration folder, and looks for a network. Once it is imported this changes nothing.
    """
    if "ultralytics" in sys.modules:
        yield
        return
    opener, max_pixels = PIL.Image.open, PIL.Image.MAX_IMAGE_PIXELS
    with tempfile.TemporaryDirectory(prefix="nearsql-ultralytics-") as folder:
        asked = {**_ENVIRONMENT, "YOLO_CONFIG_DIR": folder}
        # ultralytics sets this one for its own training; torch has been imported and set up already.
        before = {name: os.environ.get(name) for name in (*asked, "OMP_NUM_THREADS")}
        os.environ.update(asked)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            PIL.Image.open, PIL.Image.MAX_IMAGE_PIXELS = opener, max_pixels


with _importing_ultralytics():
    from ultralytics.nn.modules.head import Detect, Segment, Segment26, v10Detect
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel, torch_safe_load
    from ultralytics.utils import DEFAULT_CFG_DICT, IterableSimpleNamespace
    from ultralytics.utils.tal import SegTaskAlignedAssigner

Task = Literal["detect", "segment"]

# Heads whose criterion is the v8 family's. A subclass may need more than an image (YOLO-World a text).
_TASK_OF_HEAD: dict[type, Task] = {
    Detect: "detect",
    v10Detect: "detect",
    Segment: "segment",
    Segment26: "segment",
}

# What the loss depends on, of the settings that the model was trained with.
_LOSS_SETTINGS = ("box", "cls", "dfl", "mask_ratio")


@dataclass
class Detector:
    """A loaded model with its official criterion; for one thread at a time.

    The network is never in training mode: a forward pass leaves weights and running statistics alone.
    """

    name: str  # the file's stem: yolov8n-seg
    path: Path
    sha256: str  # of the file
    task: Task
    architecture: str  # as the checkpoint says: yolov8n-seg
    classes: tuple[str, ...]  # the name of each class index
    licence: str | None
    is_end_to_end: bool  # whether it has a one-to-one head, which needs no non-maximum suppression
    components: tuple[str, ...]  # of its loss, in the official order: box, seg, cls, dfl
    strides: tuple[int, ...]  # of the head's inputs, in pixels
    loss_settings: dict[str, float]  # the gains box, cls and dfl, and mask_ratio
    device: torch.device
    network: torch.nn.Module  # unfused, float32, without gradients
    criterion: Any  # the official one; of an end-to-end model its one-to-one part
    n_forwards: int = 0  # images that have passed through the network

    @property
    def assigns_by_masks(self) -> bool:
        """Whether an object's mask has a say in which anchors it is given, and so in every loss."""
        return isinstance(self.criterion.assigner, SegTaskAlignedAssigner)


def load_detector(weights: str | os.PathLike[str], *, device: str = "cpu") -> Detector:
    """The detector in a local .pt file: a detect or segment model of the v8 family (v8 to 26).

    As ultralytics does, the averaged weights (`ema`) are preferred where a checkpoint has both, and all
    weights become float32. Raises UserError when the file is anything else, is not there, holds
    something other than a model, or the device cannot be used.
    """
    path = Path(weights)
    sha256, checkpoint = _read(path)
    network: Any = checkpoint.get("ema") or checkpoint.get("model")
    task = _check_network(path, network, checkpoint)
    settings = _loss_settings(path, checkpoint)
    _prepare(network, settings)
    where = _move(network, device)
    head = network.model[-1]
    criterion = network.init_criterion()
    is_end_to_end = hasattr(criterion, "one2one")
    if is_end_to_end:
        criterion = criterion.one2one
    return Detector(
        name=path.stem,
        path=path,
        sha256=sha256,
        task=task,
        architecture=_architecture(network),
        classes=_classes(path, network, head.nc),
        licence=_text(checkpoint.get("license")),
        is_end_to_end=is_end_to_end,
        components=_components(criterion, head),
        strides=tuple(int(stride) for stride in head.stride.tolist()),
        loss_settings=settings,
        device=where,
        network=network,
        criterion=criterion,
    )


def state_sha256(detector: Detector) -> str:
    """The SHA-256 of all weights and running statistics, by name: what a run must leave unchanged."""
    digest = hashlib.sha256()
    for name, tensor in sorted(detector.network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The file's SHA-256 and the checkpoint in it, rebuilt from known classes only. Raises UserError."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file; weights must be a local .pt file")
    if not path.is_file():
        raise UserError(f"{path} is not a file; weights must be a local .pt file")
    if path.suffix != ".pt":
        raise UserError(
            f"{path} is not a .pt file; only PyTorch checkpoints as ultralytics saves them are read,"
            " no exported models"
        )
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        # Without it, ultralytics would load the file unrestricted and not say so.
        raise UserError(
            f"torch {torch.__version__} cannot load a checkpoint safely; torch 2.6 or newer can"
        )
    # The loader takes some names for those of files to be downloaded. Under a name of our own it reads
    # just these bytes, which are also those that are hashed.
    with tempfile.TemporaryDirectory(prefix="nearsql-weights-") as folder:
        copy = Path(folder) / "weights.pt"
        shutil.copyfile(path, copy)
        with copy.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            with _without_constructors(), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # what is wrong with a file is said in our own words
                checkpoint, _ = torch_safe_load(str(copy), safe_only=True)
        except Exception as error:  # the file decides what goes wrong
            raise UserError(f"{path} cannot be loaded: {_why(error)}") from error
    return sha256, cast(Mapping[str, Any], checkpoint)


class _AsksForConstructor(Exception):
    """A file wants a module of this class to be constructed."""


@contextmanager
def _without_constructors() -> Iterator[None]:
    """Refuses to construct a module in this thread.

    A checkpoint's modules are restored as they were, without a call of their constructors. But a file may
    ask for one, with arguments of its choice, and some of them download weights.
    """
    constructor, reader = torch.nn.Module.__init__, threading.get_ident()

    def refuse(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() == reader:
            raise _AsksForConstructor(type(self).__name__)
        constructor(self, *args, **kwargs)

    torch.nn.Module.__init__ = refuse
    try:
        yield
    finally:
        torch.nn.Module.__init__ = constructor


def _why(error: BaseException) -> str:
    """Why a file is no checkpoint, in words of our own where they say more."""
    if isinstance(error, _AsksForConstructor):
        return (
            f"it asks for a {error} to be constructed, which a checkpoint does not, and was not run"
        )
    reasons = [str(error)]
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        reasons.append(str(error))
    for reason in reasons:
        if named := re.search(r"GLOBAL ([\w.]+) (was not an allowed|whose module)", reason):
            return f"it asks for {named[1]}, which is no part of a YOLO model, and was not run"
    if any("TorchScript" in reason for reason in reasons):
        return "it is a TorchScript archive; the .pt file that it was exported from can be used"
    return "it is no PyTorch checkpoint, or it is damaged"


def _check_network(path: Path, network: Any, checkpoint: Mapping[str, Any]) -> Task:
    """The model's task. Raises UserError when the checkpoint holds no model that is supported."""
    if not isinstance(network, torch.nn.Module):
        raise UserError(f"{path} holds no YOLO model; detect and segment models are supported")
    layers = getattr(network, "model", None)
    head = layers[-1] if isinstance(layers, torch.nn.Sequential) and len(layers) else None
    task = _TASK_OF_HEAD.get(type(head))
    if task is None or type(network) not in (DetectionModel, SegmentationModel):
        raise UserError(
            f"{path} holds a {type(network).__name__} with the head {type(head).__name__};"
            " detect and segment models are supported"
        )
    if checkpoint.get("modelopt"):
        raise UserError(
            f"{path} holds a model trained for quantisation; one with plain weights can be used"
        )
    channels = next((m.in_channels for m in network.modules() if hasattr(m, "in_channels")), 3)
    if channels != 3:
        raise UserError(f"{path} takes images of {channels} channels; RGB images have 3")
    return task


def _prepare(network: Any, settings: Mapping[str, float]) -> None:
    """Makes the network ready for inference and for its criterion, as ultralytics' own loader does."""
    network.float().eval().requires_grad_(False)
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = True
        elif isinstance(module, torch.nn.Upsample):
            module.recompute_scale_factor = None  # older checkpoints lack it
    # overlap_mask: one map of masks an image, small objects over large ones, as is training's default.
    network.args = IterableSimpleNamespace(**settings, overlap_mask=True)
    head = network.model[-1]
    if getattr(head, "one2one_cv2", None) is not None:
        head.end2end = True  # detections are to come from the head whose loss is reported
    if _has_semantic_map(head):
        # Only this module's own flag, none of its layers': it makes the prototypes' forward pass give the
        # semantic map too, which the loss needs.
        head.proto.training = True


def _loss_settings(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """What the criterion reads of the settings the model was trained with, and of the defaults otherwise."""
    trained_with = checkpoint.get("train_args")
    settings = {**DEFAULT_CFG_DICT, **(trained_with if isinstance(trained_with, dict) else {})}
    for name in _LOSS_SETTINGS:
        value = settings[name]
        is_ratio = name == "mask_ratio"
        is_right = type(value) is int and value >= 1 if is_ratio else _is_gain(value)
        if not is_right:
            raise UserError(f"{path} was trained with {name} = {value!r}, which is no such setting")
    return {name: settings[name] for name in _LOSS_SETTINGS}


def _is_gain(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _move(network: torch.nn.Module, device: str) -> torch.device:
    try:
        where = torch.device(device)
        network.to(where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first_line = str(error).partition("\n")[0]
        raise UserError(f"the device {device!r} cannot be used: {first_line}") from error
    return where


def _components(criterion: Any, head: Any) -> tuple[str, ...]:
    """The criterion's own names, without the semantic loss where the model has no semantic map."""
    names = tuple(name.removesuffix("_loss") for name in criterion.loss_names)
    return tuple(name for name in names if name != "sem" or _has_semantic_map(head))


def _has_semantic_map(head: Any) -> bool:
    return getattr(getattr(head, "proto", None), "semseg", None) is not None


def _architecture(network: Any) -> str:
    yaml = getattr(network, "yaml", None)
    file = yaml.get("yaml_file") if isinstance(yaml, dict) else None
    return Path(file).stem if isinstance(file, str) and file else type(network).__name__


def _classes(path: Path, network: Any, count: int) -> tuple[str, ...]:
    """The name of each class index; checkpoints have them as a list or by number."""
    names = getattr(network, "names", None)
    by_number = dict(enumerate(names)) if isinstance(names, list | tuple) else names
    if not isinstance(by_number, dict) or sorted(by_number) != list(range(count)):
        raise UserError(f"{path} does not name each of its {count} classes")
    return tuple(str(by_number[index]) for index in range(count))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
