"""COCO labels: one JSON file of images, categories and annotations (`instances_val2017.json`).

The file is read twice. First each annotation's place in it is noted, image by image; then each
image's annotations are parsed from there. Memory follows the number of annotations, not their size.
"""

import json
import os
import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from nearsql.pipeline import images
from nearsql.pipeline.annotations import json_arrays
from nearsql.pipeline.annotations.coco_objects import (
    BadValue,
    CocoImage,
    Id,
    read_category,
    read_id,
    read_image,
    read_object,
)
from nearsql.pipeline.annotations.objects import ClassName, ImageTruth, Problems
from nearsql.pipeline.annotations.splits import FolderSplits, named_like_a_split
from nearsql.pipeline.console import Progress, UserError, progress
from nearsql.pipeline.ingest.folders import is_within, uri_of

_LISTS = ("images", "annotations", "categories")
_PLACES_SHOWN = 5
_BYTES_OF_PROGRESS = 2**20


class CocoLabels:
    """The labels in a COCO file, its images found among those of a folder by their file_name.

    A file_name is that of the image whose place it is, or ends, or else of the only image with that
    base name. An image of the file without annotations is empty; an image that the file does not name
    is not annotated. The numbers of the categories are kept as they are.
    """

    format = "coco"

    def __init__(self, path: Path, split: str | None = None, *, quiet: bool = True) -> None:
        """Reads all of the file once. split: of all its images.

        Raises UserError when it is no COCO instances file.
        """
        self.path = path
        self.classes: dict[int, ClassName] = {}
        self._uri = uri_of(path)
        self._split = split
        self._images: dict[Id, CocoImage] = {}
        # Where the annotations of each image lie: pairs of offset and length.
        self._spans: dict[Id, array[int]] = defaultdict(lambda: array("q"))
        self._image_of: dict[str, list[Id]] = defaultdict(list)
        self._ambiguous: list[tuple[Id, list[str]]] = []
        self._problems = Problems()
        self._folder_splits: FolderSplits | None = None
        self._n_without_item = 0
        self._open_files = ExitStack()
        try:
            # Held open, so that both readings are of the same file.
            opened = images.open_regular_file(path)
            self._file: BinaryIO = self._open_files.enter_context(opened)
            with progress(f"reading {path.name}", path.stat().st_size, quiet=quiet) as bar:
                self._index(bar)
        except images.UnreadableImage as error:
            raise UserError(f"{self._uri}: {error}") from error
        except json_arrays.NotJson as error:
            raise UserError(f"{self._uri} cannot be read as JSON: {error}") from error
        except OSError as error:
            raise UserError(f"{self._uri} cannot be read: {error.strerror}") from error

    def match(self, places: Sequence[str]) -> None:
        """Finds the images of the file. Raises UserError when none is there."""
        by_name: dict[str, list[str]] = defaultdict(list)
        for place in places:
            by_name[_base_name(place)].append(place)
        for image_id, image in self._images.items():
            found = _matching(image.file_name, by_name.get(_base_name(image.file_name), []))
            if len(found) == 1:
                self._image_of[found[0]].append(image_id)
            elif found:
                self._ambiguous.append((image_id, found))
            else:
                self._n_without_item += 1
        if not self._image_of and not self._ambiguous:
            example = next(iter(self._images.values())).file_name
            raise UserError(
                f"none of the {len(self._images):,} images that {self._uri} names is in the collection;"
                f" the first is {example[:200]!r}"
            )
        self._folder_splits = FolderSplits(places)

    def truth(self, place: str, width: int, height: int) -> ImageTruth | None:
        """The annotations of the image, which must have the size that the file gives it."""
        image_ids = self._image_of.get(place)
        if not image_ids:
            return None
        truth = ImageTruth(self._uri)
        image = self._images[image_ids[0]]
        if len(image_ids) > 1:
            ids = ", ".join(f"{image_id!r:.60}" for image_id in image_ids[:_PLACES_SHOWN])
            truth.problems = [f"{self.path.name}: {place} is {len(image_ids):,} images: {ids}"]
        elif image.width is not None and (image.width, image.height) != (width, height):
            truth.problems.append(
                f"{self.path.name}: {place} is {image.width} x {image.height} pixels there, and the"
                f" image itself, as shown, {width} x {height}"
            )
        else:
            self._read_objects(image_ids[0], truth, width, height)
        return truth

    def split(self, place: str) -> str | None:
        """As given; or the one the file is named after (`instances_val2017.json`); or the folder's."""
        if place not in self._image_of:
            return None
        if self._split:
            return self._split
        for part in reversed(re.split(r"[_.]", self.path.stem)):
            if named_like_a_split(part):
                return part
        return self._folder_splits.split(place) if self._folder_splits is not None else None

    def general_problems(self) -> list[tuple[str, str]]:
        """What in the file belongs to no image of the collection, or to several."""
        sentences = self._problems.sentences(self.path.name)
        ambiguous = Problems()
        for image_id, places in self._ambiguous:
            shown = ", ".join(places[:_PLACES_SHOWN]) + (", ..." if places[_PLACES_SHOWN:] else "")
            ambiguous.add(
                f"{self.path.name}: image {image_id!r:.60}, {self._images[image_id].file_name[:200]!r},"
                f" may be each of {len(places):,}: {shown}"
            )
        return [(self._uri, s) for s in sentences + ambiguous.sentences(self.path.name)]

    def counts(self) -> dict[str, int]:
        """Images of the file that are not among those of the collection."""
        return {
            "labels_without_image": self._n_without_item,
            "ambiguous_images": len(self._ambiguous),
        }

    def close(self) -> None:
        """Closes the file."""
        self._open_files.close()

    def _index(self, bar: Progress) -> None:
        seen: dict[str, int] = dict.fromkeys(_LISTS, 0)
        arrays: set[str] = set()
        n_done = 0
        for element in json_arrays.elements(self._file, arrays):
            if element.offset - n_done > _BYTES_OF_PROGRESS:
                bar.advance(element.offset - n_done)
                n_done = element.offset
            if element.key not in seen:
                continue
            place = f"{self.path.name}: {element.key}[{seen[element.key]}]"
            seen[element.key] += 1
            try:
                self._take(element)
            except BadValue as error:
                self._problems.add(f"{place}: {error}")
        # Without annotations at all (image_info_test2017.json) nobody says that the images are empty.
        for name in _LISTS:
            if name not in arrays or (name != "annotations" and not seen[name]):
                raise UserError(f"{self._uri} is no COCO instances file: it has no `{name}`")
        if not self._images:
            raise UserError(f"{self._uri}: {self._problems.sentences('')[0]}")
        for image_id in self._spans.keys() - self._images.keys():
            n = len(self._spans[image_id]) // 2
            self._problems.add(
                f"{self.path.name}: {n:,} annotation{'' if n == 1 else 's'} of image"
                f" {image_id!r:.60}, which is not among its images"
            )

    def _take(self, element: json_arrays.Element) -> None:
        if element.key == "images":
            image_id, image = read_image(element.value)
            if image_id in self._images:
                raise BadValue(f"its id {image_id!r:.60} is that of another image, too")
            self._images[image_id] = image
        elif element.key == "categories":
            class_id, names = read_category(element.value)
            if class_id in self.classes:
                raise BadValue(f"its id {class_id} is that of another category, too")
            self.classes[class_id] = names
        else:
            if not isinstance(element.value, dict):
                raise BadValue("it is not an object")
            image_id = read_id(element.value.get("image_id"), "image_id")
            self._spans[image_id].extend((element.offset, element.length))

    def _read_objects(self, image_id: Id, truth: ImageTruth, width: int, height: int) -> None:
        problems = Problems()
        spans = self._spans.get(image_id, array("q"))
        seen: set[bytes] = set()
        for offset, length in zip(spans[0::2], spans[1::2], strict=True):
            text = self._read(offset, length)
            if text in seen:
                truth.n_duplicates += 1
                continue
            seen.add(text)
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise UserError(f"{self._uri} has changed while it was read: try again") from None
            try:
                thing, is_clipped = read_object(value, width, height, self.classes)
            except BadValue as error:
                name = f"annotation {value.get('id')!r:.60} of image {image_id!r:.60}"
                problems.add(f"{self.path.name}: {name}: {error}")
                continue
            truth.objects.append(thing)
            truth.n_clipped += is_clipped
        truth.problems = problems.sentences(self.path.name)

    def _read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)


def open_coco(
    root: Path, labels: Path | None, split: str | None, *, quiet: bool = True
) -> CocoLabels:
    """The COCO file given, or the only one in the folder or its folder `annotations`. Raises UserError."""
    if labels is not None:
        return CocoLabels(labels, split, quiet=quiet)
    found = [
        path
        for folder in (root / "annotations", root)
        if folder.is_dir() and is_within(folder, root)
        for path in sorted(folder.glob("*.json"))
        if not path.name.startswith(".") and is_within(path, root)
    ]
    instances = [path for path in found if path.name.startswith("instances")]
    if len(found) != 1 and len(instances) != 1:
        what = f"{len(found):,} JSON files" if found else "no JSON file"
        raise UserError(
            f"{root} has {what} in it or in `annotations`: give the COCO file by --labels"
        )
    return CocoLabels(found[0] if len(found) == 1 else instances[0], split, quiet=quiet)


def _matching(file_name: str, places: list[str]) -> list[str]:
    """Those of the places, all with the right base name, that the file_name means."""
    name = os.path.normpath(file_name.replace("\\", "/")).replace(os.sep, "/")
    exact = [place for place in places if place == name]
    return exact or [place for place in places if place.endswith("/" + name)] or places


def _base_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
