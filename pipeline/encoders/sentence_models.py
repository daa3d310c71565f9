"""`text:NAME`: text embeddings by sentence-transformers, from a local folder or from the hub.

A model is a folder: modules.json, which names what the text goes through, configurations, a tokenizer and
weights. It is known by the SHA-256 of all its files that count, and whoever asks SQL for a text's vector
gets it from the very same files: from there nothing is fetched. What the folder says is data. Modules
other than the library's own are refused, since to load one is to run it, and weights are safetensors.

On the CPU one text is computed at a time, for the reason that torch_encoder.py gives: its vector then does
not depend, in its last bits, on what else was in its batch. A short text of MiniLM took 25 ms of CPU time
that way and 15 ms in batches of 32.
"""

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import (
    Batch,
    CannotEncode,
    Columns,
    Corpus,
    Kind,
    Model,
    Option,
    Vectors,
)
from nearsql.pipeline.encoders.checkpoints import (
    Checkpoint,
    fetching,
    first_line,
    recorded_checkpoint,
)
from nearsql.udfs.spaces import Metric

KIND: Kind = "text"
OPTIONS: Mapping[str, Option] = {"checkpoint": None, "title": "title"}
DEVICES = devices.DEVICES
BATCH_SIZE = 32
PACKAGES = ("torch", "transformers", "sentence-transformers")

# The files of a folder that a text's vector may depend on, by their suffixes.
_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin")
# Copies of the weights for other programs.
_OTHER_FORMATS = ("onnx", "openvino")
# Bounds on what is looked through when a database file names a folder.
_MOST_FILES, _MOST_DEPTH, _MOST_JSON_BYTES = 1000, 3, 2**20

_FROM_THE_HUB = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.safetensors",
    "*_Dense/pytorch_model.bin",
)
_NOT_FROM_THE_HUB = tuple(f"{folder}/*" for folder in _OTHER_FORMATS)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)

# What the library calls a similarity, and what the space's metric is then.
_METRICS: Mapping[str, Metric] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}

# Some models want a few words before a text, which say what it is; these are the names they go by.
_ITEM_PROMPTS, _QUERY_PROMPTS = ("document", "passage", "corpus"), ("query",)


def split_path(name: str) -> tuple[str, str | None]:
    """`text:models/MiniLM` as (`text:MiniLM`, `models/MiniLM`), where that is a folder or looks like one."""
    family, _, path = name.partition(":")
    expanded = os.path.expanduser(path)
    if path and (os.path.isdir(expanded) or os.path.isabs(expanded) or path.startswith("./")):
        return f"{family}:{Path(os.path.abspath(expanded)).name}", path
    return name, None


def full_name(name: str) -> str:
    """The name as it is. Raises UserError when there is none behind the colon."""
    if not name.partition(":")[2]:
        raise UserError(
            "give the model's folder or its name on the hub, as in text:FOLDER or text:NAME"
        )
    return name


def check(options: Mapping[str, Any]) -> None:
    """Nothing to refuse: the checkpoint is looked at by `fit`."""


def fit(name: str, space: str, options: Mapping[str, Any], corpus: Corpus) -> Model:
    """The model of a local folder, or of that name on the hub. Nothing is learned from the corpus.

    Raises UserError when there is no such model.
    """
    folder = options["checkpoint"]
    checkpoint = find_checkpoint(_fetch(name) if folder is None else folder)
    _check_modules(checkpoint.path)
    parameters = {
        "model": name,
        "options": {"title": options["title"]},
        "checkpoint": checkpoint.as_parameter(),
    }
    return Model(name, "text", parameters, {}, checkpoint.sha256, _licence(checkpoint.path))


def load(model: Model, device: str = "auto") -> "SentenceEncoder":
    """The encoder from the recorded folder. Raises UserError and ValueError."""
    title = model.parameters["options"]["title"]
    if not isinstance(title, str):
        raise TypeError(f"its title is {title!r}, no name")
    return SentenceEncoder(*_network(model, devices.pick(device)), title)


def load_text_tower(model: Model) -> "SentenceTower":
    """The same model for queries, on the CPU. Raises UserError and ValueError."""
    return SentenceTower(_network(model, "cpu")[0])


def find_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The folder of a model, hashed: the SHA-256 of its files' names and of their SHA-256s.

    Raises UserError when it is no such folder.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"there is no folder {path}")
    digest, size = hashlib.sha256(), 0
    names = sorted(_files(folder))
    if not {"modules.json", "config.json"} & set(names):
        raise UserError(f"{path} is no model of sentence-transformers: it has no modules.json")
    for name in names:
        try:
            with images.open_regular_file(folder / name) as file:
                digest.update(f"{images.sha256_of_file(file)}  {name}\n".encode())
                size += os.fstat(file.fileno()).st_size
        except images.UnreadableImage as error:
            raise UserError(f"{folder / name} cannot be used: {error}") from error
    return Checkpoint(str(folder), digest.hexdigest(), size)


def _files(folder: Path) -> Iterator[str]:
    """The files that count, by their paths below the folder with slashes. Raises UserError."""
    found = 0
    waiting = [(folder, "")]
    while waiting:
        where, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(where), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{where} cannot be read: {error.strerror}") from error
        has_safetensors = any(entry.name.endswith(".safetensors") for entry in entries)
        for entry in entries:
            found += 1
            if found > _MOST_FILES:
                raise UserError(
                    f"{folder} has more than {_MOST_FILES:,} files: it is no model's folder"
                )
            name = prefix + entry.name
            if entry.name.startswith(".") or name in _OTHER_FORMATS:
                continue
            if entry.is_dir():
                if name.count("/") < _MOST_DEPTH:
                    waiting.append((Path(entry.path), name + "/"))
            elif entry.name.endswith(_SUFFIXES) and not (
                has_safetensors and entry.name.endswith(".bin")
            ):
                yield name


def _check_modules(folder: str) -> None:
    """Raises UserError unless every module is the library's own and lies in the folder."""
    path = Path(folder, "modules.json")
    if not path.exists():
        return  # a plain transformer, of which the library takes the mean over the tokens
    try:
        with images.open_regular_file(path) as file:
            modules = json.loads(file.read(_MOST_JSON_BYTES))
        named = [(str(module["type"]), str(module["path"])) for module in modules]
    except (images.UnreadableImage, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path} does not list modules: {first_line(error)}") from error
    for kind, place in named:
        if not kind.startswith("sentence_transformers."):
            raise UserError(
                f"{folder} is refused: it asks for the module {kind!r}, which is no part of"
                " sentence-transformers, and to load it could run any program"
            )
        if os.path.isabs(place) or ".." in Path(place).parts:
            raise UserError(f"{folder} is refused: its module {place!r} lies elsewhere")


def _licence(folder: str) -> str | None:
    """What the head of the model's README says of it."""
    try:
        with images.open_regular_file(Path(folder, "README.md")) as file:
            head = file.read(4096).decode("utf-8", "replace")
    except images.UnreadableImage:
        return None
    found = re.search(r"\A---\n(?:.*\n)*?license: *([\w.-]+) *\n", head)
    return found[1] if found else None


def _fetch(name: str) -> str:
    """The model's folder, from the hub's cache on this machine or from the hub itself."""
    from huggingface_hub import snapshot_download

    hub_name = name.partition(":")[2]
    if not _HUB_NAME.fullmatch(hub_name):
        raise UserError(f"there is no folder {hub_name!r}, and it is no name of a model on the hub")
    if "/" not in hub_name:
        hub_name = f"sentence-transformers/{hub_name}"
    asked: dict[str, Any] = {
        "allow_patterns": list(_FROM_THE_HUB),
        "ignore_patterns": list(_NOT_FROM_THE_HUB),
    }
    try:
        folder = snapshot_download(hub_name, local_files_only=True, **asked)
        if any(found.endswith(".safetensors") for found in _files(Path(folder))):
            return folder
    except Exception:  # noqa: BLE001, S110 - whatever is wrong with the cache, the hub may know better
        pass
    try:
        with fetching(name), _bars_on_terminals():
            return snapshot_download(hub_name, **asked)
    except Exception as error:  # whatever a network can do wrong
        raise UserError(
            f"{name} is no folder, and no model {hub_name} could be fetched from the hub: give the"
            f" folder of one ({first_line(error)})"
        ) from error


@contextmanager
def _bars_on_terminals() -> Iterator[None]:
    """The hub's bars are for who watches."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its bars and its remarks on files, which are none of the reader's business."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _network(model: Model, device: str) -> tuple[Any, str]:
    """The network of the recorded folder on the device, in float32, ready to be used and never trained."""
    checkpoint = recorded_checkpoint(model.parameters, model.checkpoint_sha256, find_checkpoint)
    _check_modules(checkpoint.path)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            f"{model.name} needs {error.name}, which is not installed: pip install 'nearsql[text]'"
        ) from error
    try:
        with _quiet_transformers():
            network: Any = SentenceTransformer(
                checkpoint.path,
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as error:  # whatever a library makes of a folder that nobody vouches for
        raise UserError(
            f"{checkpoint.path} cannot be loaded by sentence-transformers: {first_line(error)}"
        ) from error
    return network.float().eval().requires_grad_(False), device


def _prompt(network: Any, names: Sequence[str]) -> str:
    """The words that the model wants before such a text, mostly none."""
    prompts = network.prompts or {}
    name = next((name for name in names if prompts.get(name)), network.default_prompt_name)
    return str(prompts.get(name) or "") if name else ""


class SentenceEncoder:
    """Vectors of texts, as the model itself gives them: normalised where one of its modules does so."""

    def __init__(self, network: Any, device: str, title: str) -> None:
        """title: what titles are called in the metadata, "" for none. Raises UserError."""
        if network.similarity_fn_name not in _METRICS:
            raise UserError(
                f"the model compares by {network.similarity_fn_name}, which no space does: they compare"
                f" by {', '.join(_METRICS.values())}"
            )
        self.metric: Metric = _METRICS[network.similarity_fn_name]
        self.title = title or None
        self.device = devices.describe(device)
        self.computation: Mapping[str, Any] = devices.computation(device, uses_autocast=False)
        self._network, self._is_on_cpu = network, device == "cpu"
        self._prompt = _prompt(network, _ITEM_PROMPTS)
        self._most_tokens: int | None = network.max_seq_length
        self.dimensions = int(self._encode(["a"]).shape[1])

    def prepare(self, content: bytes | str) -> str:
        """The text itself: the library splits it into tokens, in one thread."""
        assert isinstance(content, str)
        return content

    def __call__(self, batch: Batch) -> Columns:
        """The vectors of a batch, float32. Raises torch.OutOfMemoryError."""
        texts = batch["prepared"]
        return {
            "item_id": batch["item_id"],
            "vector": self._encode(texts),
            "problem": [None] * len(texts),
            "truncated": [self._truncated(text) for text in texts],
        }

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._network.encode_document(
            list(texts),
            prompt=self._prompt or None,
            batch_size=1 if self._is_on_cpu else len(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)

    def _truncated(self, text: str) -> str | None:
        """How much of the text the model does not read, or None: it reads all."""
        most = self._most_tokens
        text = self._prompt + text
        # No token is of less than a byte; there are at most a few besides those of the text.
        if most is None or len(text.encode()) + 8 <= most:
            return None
        tokenizer = self._network.tokenizer
        if not callable(tokenizer):
            return None  # word vectors have no limit
        found = tokenizer(text, truncation=False, add_special_tokens=True, verbose=False)
        tokens = len(found["input_ids"])
        return (
            f"it has {tokens:,} tokens, of which the model reads {most:,}"
            if tokens > most
            else None
        )


class SentenceTower:
    """Texts that are looked for, in the space of those that are there."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._prompt = _prompt(network, _QUERY_PROMPTS)
        self._one_at_a_time = threading.Lock()  # its tokenizer keeps a state
        self.dimensions = self.embed("a").shape[0]

    def embed(self, text: str) -> Vectors:
        """The vector of one text, of which as many tokens count as of an item. Raises CannotEncode."""
        with self._one_at_a_time:
            found = self._network.encode_query(
                [text], prompt=self._prompt or None, show_progress_bar=False, convert_to_numpy=True
            )
        vector: Vectors = np.asarray(found[0], dtype=np.float32)
        if not np.isfinite(vector).all():
            raise CannotEncode("the model gave a vector with a value that is no finite number")
        return vector
