"""data.yaml and labels/: YOLO's text files, one an image, with boxes or with outlines.

All coordinates are parts of the image's width and height. YOLO has no crowds: they are left out.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import drawn
from nearsql.pipeline.export.categories import Categories
from nearsql.pipeline.export.drawn import Drawn
from nearsql.pipeline.export.files import ImageBatch, Source, WrittenFile, written
from nearsql.pipeline.export.item_files import ItemFiles

# The splits that a data.yaml has, in its order.
SPLITS = ("train", "val", "test")


@dataclass
class YoloWriter:
    """Writes the labels of images, a batch at a time: of ground truth, or of what a detector run saw.

    outlines: polygons instead of boxes.
    """

    source: Source
    files: ItemFiles
    categories: Categories
    predicted_by: int | None
    outlines: bool
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, batch: ImageBatch) -> None:
        """A label file for each image of the batch, empty where nothing is to be seen."""
        db, ids = self.source.db, list(batch.places)
        things = (
            drawn.annotations(db, ids)
            if self.predicted_by is None
            else drawn.predictions(db, self.predicted_by, ids)
        )
        lines: dict[int, list[str]] = {item: [] for item in ids}
        items = {item.id: item for item in batch.items}
        for thing in things:
            item = items[thing.item_id]
            if thing.is_crowd:
                self.counts["crowds left out"] += 1
                continue
            line = _line(thing, item.width or 1, item.height or 1, self.outlines)
            if line is None:
                self.counts["without area"] += 1
                continue
            self.counts["objects"] += 1
            lines[thing.item_id].append(f"{self.categories.of(thing, item.collection)} {line}")
        for item_id, place in batch.places.items():
            label = PurePosixPath("labels", *PurePosixPath(place).parts[1:]).with_suffix(".txt")
            self.files.write(str(label), item_id, lines[item_id])

    def finish(self, folders: set[str], n_images: int) -> list[WrittenFile]:
        """Writes data.yaml. folders: those that the images are in, such as images/train."""
        import yaml

        path = self.files.root / "data.yaml"
        found = {split: f"images/{split}" for split in SPLITS if f"images/{split}" in folders}
        anywhere = min(found.values(), default="images")
        # ultralytics wants both of these.
        entries = {"train": anywhere, "val": anywhere} | found
        document = {**entries, "names": {n: name for name, n in self.categories.numbers.items()}}
        with path.open("w", encoding="utf-8", newline="\n") as out:
            yaml.safe_dump(document, out, sort_keys=False, allow_unicode=True)
        return [written(path, n_images)]


def _line(thing: Drawn, width: int, height: int, outlines: bool) -> str | None:
    """The object's coordinates; None for one that has no area on the image."""
    if outlines:
        return _polygon_line(thing, width, height)
    x_min, x_max = (_share(x, width) for x in thing.box[0::2])
    y_min, y_max = (_share(y, height) for y in thing.box[1::2])
    if x_min >= x_max or y_min >= y_max:
        return None
    return _text((x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min)


def _polygon_line(thing: Drawn, width: int, height: int) -> str | None:
    polygons = thing.polygons
    if polygons is None and thing.mask is not None:
        polygons = _traced(thing)
    elif polygons is None:
        raise UserError(
            f"{'annotation' if thing.score is None else 'prediction'} {thing.id} of item"
            f" {thing.item_id} has a box and no outline: --format yolo writes boxes"
        )
    if not polygons:
        return None
    points = one_outline(polygons)
    shares = [(_share(x, width), _share(y, height)) for x, y in points]
    if any(max(side) <= min(side) for side in zip(*shares, strict=True)):
        return None
    return _text(*(share for point in shares for share in point))


def _share(value: float, size: int) -> float:
    return min(max(value / size, 0.0), 1.0)


def _text(*shares: float) -> str:
    return " ".join(f"{share:.9g}" for share in shares)


def one_outline(polygons: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """The polygons, [x, y, x, y, ...] each, as one: from part to part along a line there and back.

    YOLO has one outline an object. The line joins the corners of two parts that are nearest to each other,
    and, walked both ways, encloses nothing.
    """
    parts = [list(zip(polygon[0::2], polygon[1::2], strict=True)) for polygon in polygons]
    joined = parts[0]
    for part in parts[1:]:
        here, there = min(
            ((i, j) for i in range(len(joined)) for j in range(len(part))),
            key=lambda pair: math.dist(joined[pair[0]], part[pair[1]]),
        )
        around = [*part[there:], *part[:there], part[there]]
        joined = [*joined[: here + 1], *around, *joined[here:]]
    return joined


def _traced(thing: Drawn) -> list[list[float]]:
    """The outer outlines of a mask, around the pixels' centres; those of a pixel or a line have none."""
    try:
        import cv2
    except ImportError:
        raise UserError(
            f"object {thing.id} of item {thing.item_id} has a mask and no polygons; to draw its outline"
            " takes OpenCV: `pip install nearsql[vision]`, or use --format yolo or coco"
        ) from None
    from nearsql.udfs import rle

    bitmap = rle.read("its mask", thing.mask).bitmap()
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return list(_outlines(contours))


def _outlines(contours: Sequence[object]) -> Iterator[list[float]]:
    import numpy as np

    for contour in contours:
        points = np.asarray(contour, np.float64).reshape(-1, 2)
        if len(points) >= 3:
            yield [float(value) for value in points.ravel()]
