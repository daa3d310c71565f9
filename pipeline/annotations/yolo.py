"""YOLO labels: a text file an image, found by ultralytics' rule, beside the image, or in a folder given."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from nearsql.pipeline.annotations import class_names, yolo_lines
from nearsql.pipeline.annotations.class_names import DatasetFile
from nearsql.pipeline.annotations.files import UnreadableFile, read_file
from nearsql.pipeline.annotations.objects import ClassName, ImageTruth
from nearsql.pipeline.annotations.splits import DatasetSplits, FolderSplits
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest.folders import list_files, uri_of

# A thousand outlines of two hundred points take 4 MB. A larger file is refused without being read.
MOST_BYTES = 8 * 2**20

_NOT_LABELS = frozenset({"classes.txt"})  # labelImg leaves it among the labels


class YoloLabels:
    """The labels of a folder of images.

    The label of `a/images/b/c.jpg` is `a/labels/b/c.txt` (the last folder `images` counts), or else
    `c.txt` beside the image. With a folder of labels given, it is there: below it at the image's own
    place, at its place under `images`, or, when only one image has that name, right in it.

    An image without a label file is background when other images have theirs in the folder where its
    own would be; otherwise nobody has labelled it.
    """

    format = "yolo"

    def __init__(
        self,
        root: Path,
        labels: Path | None = None,
        dataset: DatasetFile | None = None,
        split: str | None = None,
    ) -> None:
        """root: the folder of images, resolved. labels: a folder of labels. split: of all the images.

        Raises UserError when there are no label files.
        """
        self.dataset = dataset
        self.labels_root = labels or root
        self._split = split
        self._is_elsewhere = labels is not None
        self.classes: dict[int, ClassName] = dataset.classes if dataset else {}
        self._dataset_splits = DatasetSplits(dataset, root) if dataset else None
        listing = list_files(self.labels_root)
        self._unlisted = [(problem.uri, problem.message) for problem in listing.problems]
        start = len(str(self.labels_root).rstrip(os.sep)) + 1
        self._files = {
            str(path)[start:].replace(os.sep, "/")
            for path in listing.files
            if path.suffix == ".txt" and path.name not in _NOT_LABELS
        }
        if not self._files:
            raise UserError(
                f"{self.labels_root} has no label files (.txt) in it: give their folder by --labels"
            )
        self._label_of: dict[str, str] = {}
        self._background: dict[str, str] = {}
        self._refused: dict[str, str] = {}  # there, but not among the files that may be read
        self._names: Counter[str] = Counter()
        self._folder_splits: FolderSplits | None = None
        self._n_left_over = 0

    @property
    def n_files(self) -> int:
        """How many files may be labels."""
        return len(self._files)

    def match(self, places: Sequence[str]) -> None:
        """Finds each image's label file. Raises UserError when no image has one."""
        self._names = Counter(PurePosixPath(place).stem for place in places)
        without = []
        for place in places:
            label = next((name for name in self._candidates(place) if name in self._files), None)
            if label is not None:
                self._label_of[place] = label
            else:
                without.append(place)
        if not self._label_of:
            raise UserError(
                f"none of the {len(self._files):,} text files in {self.labels_root} is the label of an"
                " image: a/images/b.jpg has a/labels/b.txt, or b.txt beside it, or give --labels FOLDER"
            )
        labels = set(self._label_of.values())
        labelled = {_parent(label) for label in labels}
        for place in without:
            for name in self._candidates(place):
                if os.path.lexists(os.path.join(self.labels_root, name)):
                    self._refused[place] = name
                    break
                if _parent(name) in labelled:
                    self._background[place] = name
                    break
        self._n_left_over = sum(_parent(name) in labelled for name in self._files - labels)
        self._folder_splits = FolderSplits(places)

    def truth(self, place: str, width: int, height: int) -> ImageTruth | None:
        """Reads the image's label file."""
        label = self._label_of.get(place)
        if label is None:
            if (refused := self._refused.get(place)) is not None:
                problem = f"{refused}: it leads out of {self.labels_root}, or is no file"
                return ImageTruth(uri_of(self.labels_root / refused), problems=[problem])
            if (missing := self._background.get(place)) is not None:
                return ImageTruth(uri_of(self.labels_root / missing), is_background=True)
            return None
        path = os.path.join(self.labels_root, label)
        uri = uri_of(path)
        try:
            data = read_file(path, MOST_BYTES)
        except UnreadableFile as error:
            return ImageTruth(uri, problems=[f"{os.path.basename(uri)}: {error}"])
        return yolo_lines.parse(data, uri, width, height, self.classes)

    def split(self, place: str) -> str | None:
        """As given; or from the dataset's YAML file if that leads to any image; or from the folders."""
        if self._split:
            return self._split
        if self._dataset_splits is not None and not self._dataset_splits.is_empty:
            splits = self._dataset_splits.splits(place)
            self._dataset_splits.n_in_several += len(splits) > 1
            return splits[0] if splits else None
        return self._folder_splits.split(place) if self._folder_splits is not None else None

    def general_problems(self) -> list[tuple[str, str]]:
        """Folders that cannot be listed, and what is wrong with the dataset's YAML file."""
        splits = self._dataset_splits.problems if self._dataset_splits is not None else []
        return self._unlisted + splits

    def counts(self) -> dict[str, int]:
        """Label files that lie among the others and belong to no image."""
        counts = {"labels_without_image": self._n_left_over}
        if self._dataset_splits is not None:
            counts["in_several_splits"] = self._dataset_splits.n_in_several
        return counts

    def close(self) -> None:
        """Nothing is held open."""

    def _candidates(self, place: str) -> list[str]:
        """Where the image's label may be, below the folder of labels, best first."""
        image = PurePosixPath(place)
        folders, name = image.parts[:-1], f"{image.stem}.txt"
        last = max((i for i, folder in enumerate(folders) if folder == "images"), default=None)
        if not self._is_elsewhere:
            beside = "/".join((*folders, name))
            if last is None:
                return [beside]
            return ["/".join((*folders[:last], "labels", *folders[last + 1 :], name)), beside]
        found = ["/".join((*folders, name))]
        if last is not None:
            found.append("/".join((*folders[last + 1 :], name)))
        if self._names[image.stem] == 1:
            found.append(name)
        return list(dict.fromkeys(found))


def open_yolo(
    root: Path, labels: Path | None, classes: Path | None, split: str | None
) -> YoloLabels:
    """The labels of a folder, with the class names given or found in it. Raises UserError."""
    if labels is not None and not labels.is_dir():
        raise UserError(f"{labels} is no folder: for yolo, --labels is a folder of label files")
    dataset = class_names.read(classes) if classes is not None else class_names.find(root)
    return YoloLabels(root, labels, dataset, split)


def _parent(place: str) -> str:
    return place.rpartition("/")[0]
