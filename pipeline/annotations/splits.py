"""Which split (train, val, test) an image is in: as the data set says, or as its folders are named."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nearsql.pipeline.annotations.class_names import DatasetFile
from nearsql.pipeline.annotations.files import read_text
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest.folders import is_within, uri_of

_MOST_BYTES = 256 * 2**20  # of a list of images; COCO's train2017.txt has 4 MB
_NAMED_LIKE_A_SPLIT = re.compile(
    r"(train|training|val|valid|validation|minival|test|test-dev|dev)\d*"
)


def named_like_a_split(name: str) -> bool:
    """Whether a folder's name is that of a split: train, val2017, test-dev2017, valid."""
    return _NAMED_LIKE_A_SPLIT.fullmatch(name.lower()) is not None


class FolderSplits:
    """Splits by folder: `images/<split>/...`, `<split>/images/...`, or `<split>/...`.

    A folder under `images` is a split when it is named like one or when there are several.
    """

    def __init__(self, places: Sequence[str]) -> None:
        under_images = {_under_images(place) for place in places} - {None}
        self._are_all_splits = len(under_images) > 1

    def split(self, place: str) -> str | None:
        """The split of an image; None when its folders do not tell."""
        folder = _under_images(place)
        if folder is not None and (self._are_all_splits or named_like_a_split(folder)):
            return folder
        folders = place.split("/")[:-1]
        return next((name for name in folders if named_like_a_split(name)), None)


class DatasetSplits:
    """Splits by the entries of a dataset's YAML file: folders, or text files that list images.

    Of an image in several splits the first of train, val and test counts: whatever was trained on
    is no test.
    """

    def __init__(self, dataset: DatasetFile, root: Path) -> None:
        self.problems: list[tuple[str, str]] = []
        self.n_in_several = 0
        self._root = root
        self._folders: list[tuple[str, str]] = []  # (place of the folder, split)
        self._images: dict[str, list[str]] = {}  # place -> splits
        for split, entries in dataset.entries.items():
            for entry in entries:
                try:
                    self._add(split, _resolve(entry, dataset, root))
                except UserError as error:
                    sentence = f"{dataset.path.name}: {split}: {error}"
                    self.problems.append((uri_of(dataset.path), sentence))

    @property
    def is_empty(self) -> bool:
        """Whether no entry leads to any image."""
        return not self._folders and not self._images

    def splits(self, place: str) -> list[str]:
        """All splits that the image is in, without repetition."""
        inside = [split for folder, split in self._folders if place.startswith(folder)]
        return list(dict.fromkeys(inside + self._images.get(place, [])))

    def _add(self, split: str, path: Path) -> None:
        if path.is_dir():
            place = "" if path == self._root else path.relative_to(self._root).as_posix() + "/"
            self._folders.append((place, split))
            return
        n_outside = 0
        for line in read_text(path, _MOST_BYTES).splitlines():
            if not line.strip():
                continue
            # Relative to the list when it says so, as ultralytics has it, and to the folder otherwise.
            line = line.strip()
            image = path.parent / line if line.startswith("./") else self._root / line
            # Only compared with the images that are there: no such path is ever opened.
            place = os.path.relpath(image, self._root).replace(os.sep, "/")
            if not place.startswith("../"):
                self._images.setdefault(place, []).append(split)
            else:
                n_outside += 1
        if n_outside:
            sentence = f"{path.name}: {n_outside:,} of the images it lists are not in {self._root}"
            self.problems.append((uri_of(path), sentence))


def _resolve(entry: str, dataset: DatasetFile, root: Path) -> Path:
    """Where an entry leads, within the folder. Raises UserError when it leads out of it or nowhere."""
    beside = dataset.path.parent
    bases = [beside / dataset.base, root / dataset.base] if dataset.base else []
    # Some exporters write ../train/images for train/images: ultralytics forgives it, too.
    entries = [entry, entry[3:]] if entry.startswith("../") else [entry]
    candidates = [base / name for name in entries for base in (*bases, beside, root)]
    inside = [path for path in candidates if is_within(path, root)]
    for path in inside:
        if os.path.exists(path):  # unlike Path.exists also where no path can be that long
            return path.resolve()
    if not inside:
        raise UserError(f"{entry[:200]!r} leads out of {root}, and nothing outside of it is read")
    raise UserError(f"there is no {entry[:200]!r} in {root}")


def _under_images(place: str) -> str | None:
    """The folder right under the last `images` of the path; None when the image lies in none."""
    folders = place.split("/")[:-1]
    for index in range(len(folders) - 2, -1, -1):
        if folders[index] == "images":
            return folders[index + 1]
    return None
