"""Class names of YOLO labels: from a dataset's YAML file, or from a list with one name a line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nearsql.pipeline.annotations.files import read_text
from nearsql.pipeline.annotations.objects import LARGEST_CLASS_ID, ClassName
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest.folders import is_within, uri_of

YAML_SUFFIXES = (".yaml", ".yml")

_MOST_BYTES = 2**20  # Objects365, with 365 names, takes 7 kB
_LONGEST_NAME = 500
_LISTS = ("classes.txt", "labels/classes.txt", "obj.names", "classes.names")


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """What a names file says. entries: where a YAML file says that the images of each split lie."""

    path: Path
    classes: dict[int, ClassName]
    base: str | None = None  # its `path`: what the entries are relative to
    entries: dict[str, list[str]] = field(default_factory=dict)


def find(root: Path) -> DatasetFile | None:
    """The names that a folder brings itself: its only YAML file with `names`, or a list of classes.

    Raises UserError when there are several, as the wrong one would name every object wrongly.
    """
    found = []
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in YAML_SUFFIXES and path.is_file() and is_within(path, root):
            document = _load_yaml(path)
            if isinstance(document, dict) and document.get("names"):
                found.append(path)
    if not found:
        paths = [root / name for name in _LISTS]
        found = [path for path in paths if path.is_file() and is_within(path, root)][:1]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(
            f"{root} has several files with class names ({names}): give one by --classes"
        )
    return read(found[0]) if found else None


def read(path: Path) -> DatasetFile:
    """The names in a .yaml file (`names:` a list, or a mapping from number to name) or, one a line, in
    any other. Raises UserError.
    """
    if path.suffix.lower() not in YAML_SUFFIXES:
        lines = [line.strip() for line in read_text(path, _MOST_BYTES).rstrip().splitlines()]
        return DatasetFile(path, _classes(path, dict(enumerate(lines))))
    document = _load_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{uri_of(path)} is no dataset file: it has no `names:`")
    names = document.get("names")
    if isinstance(names, list):
        classes = _classes(path, dict(enumerate(names)))
    elif isinstance(names, dict):
        classes = _classes(path, {_class_id(path, key): name for key, name in names.items()})
    else:
        raise UserError(
            f"{uri_of(path)} must have `names:`, a list or a mapping from number to name"
        )
    base = document.get("path")
    if base is not None and not isinstance(base, str):
        raise UserError(f"{uri_of(path)}: `path:` must be one folder")
    return DatasetFile(path, classes, base or None, _entries(path, document))


def _entries(path: Path, document: dict[Any, Any]) -> dict[str, list[str]]:
    entries = {}
    if "validation" in document and "val" not in document:
        document = {**document, "val": document["validation"]}
    for split in ("train", "val", "test"):
        value = document.get(split) or []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise UserError(f"{uri_of(path)}: `{split}:` must be a folder, or a list of them")
        if any(value):
            entries[split] = [entry for entry in value if entry]
    return entries


def _load_yaml(path: Path) -> Any:
    """The document, in which every scalar is a text.

    BaseLoader builds nothing but lists, mappings and texts: less than safe_load, which would also
    turn a class called `no` into False.
    """
    text = read_text(path, _MOST_BYTES)
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{uri_of(path)} is not valid YAML: {reason}") from error


def _class_id(path: Path, key: Any) -> int:
    if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 12):
        raise UserError(f"{uri_of(path)}: {str(key)[:40]!r} in `names:` is not a class number")
    if int(key) > LARGEST_CLASS_ID:
        raise UserError(f"{uri_of(path)}: the class number {key} in `names:` is too large")
    return int(key)


def _classes(path: Path, names: dict[int, Any]) -> dict[int, ClassName]:
    for class_id, name in names.items():
        if (
            not isinstance(name, str)
            or not 0 < len(name) <= _LONGEST_NAME
            or not _is_storable(name)
        ):
            raise UserError(
                f"{uri_of(path)}: class {class_id} has no name, or one that is no text"
                f" of at most {_LONGEST_NAME} characters"
            )
    if not names:
        raise UserError(f"{uri_of(path)} names no class")
    return {class_id: ClassName(name) for class_id, name in names.items()}


def _is_storable(name: str) -> bool:
    r"""Whether SQLite can hold the name: YAML's "\0" and "\ud800" are none that it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
