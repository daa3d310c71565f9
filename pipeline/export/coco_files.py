"""instances.json, and with a detector run predictions.json: COCO, as pycocotools and torchvision read it.

truth = COCO("instances.json")
seen = truth.loadRes("predictions.json")
COCOeval(truth, seen, "bbox").evaluate()
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import nearsql
from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import drawn
from nearsql.pipeline.export.categories import Categories
from nearsql.pipeline.export.drawn import Drawn
from nearsql.pipeline.export.files import ImageBatch, Source, WrittenFile, written

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@dataclass
class CocoWriter:
    """Writes the images and what is drawn on them, a batch at a time. predicted_by: a detector run.

    Image ids are item ids, and annotation ids those of the database.
    """

    source: Source
    folder: Path
    categories: Categories
    predicted_by: int | None

    def __enter__(self) -> Self:
        self.counts = {"annotations": 0}
        names = ["images", "annotations"]
        if self.predicted_by is not None:
            self.counts["predictions"] = 0
            names.append("predictions")
        self._begun: set[str] = set()
        # Each array has a file of its own until all are at their ends.
        self._parts: dict[str, TextIO] = {}
        for name in names:
            path = self.folder / f".{name}.partial"
            self._parts[name] = path.open("w+", encoding="utf-8", newline="\n")
        return self

    def __exit__(self, *_: object) -> None:
        for name, file in self._parts.items():
            file.close()
            (self.folder / f".{name}.partial").unlink()

    def add(self, batch: ImageBatch) -> None:
        """The images of the batch, their ground truth, and the predictions."""
        for item in batch.items:
            image = {
                "id": item.id,
                "file_name": batch.places[item.id].removeprefix("images/"),
                "width": item.width,
                "height": item.height,
            }
            self._put("images", image)
        ids = [item.id for item in batch.items]
        collections = {item.id: item.collection for item in batch.items}
        db = self.source.db
        for thing in drawn.annotations(db, ids):
            values = self._values(thing, collections[thing.item_id])
            values = {"id": thing.id, **values, "iscrowd": int(thing.is_crowd)}
            values["area"] = _area(thing) if thing.area is None else thing.area
            self._put("annotations", values)
            self.counts["annotations"] += 1
        if self.predicted_by is None:
            return
        for thing in drawn.predictions(db, self.predicted_by, ids):
            values = self._values(thing, collections[thing.item_id])
            self._put("predictions", {**values, "score": thing.score})
            self.counts["predictions"] += 1

    def finish(self, folders: set[str], n_images: int) -> list[WrittenFile]:
        """Puts the arrays together. folders: those that the images are in."""
        path = self.folder / "instances.json"
        with path.open("w", encoding="utf-8", newline="\n") as out:
            info = {"description": "Exported by nearsql", "version": nearsql.__version__}
            out.write(f'{{"info": {_ENCODER.encode(info)},\n"licenses": [],\n"images": [\n')
            _copy(self._parts["images"], out)
            out.write('],\n"annotations": [\n')
            _copy(self._parts["annotations"], out)
            out.write('],\n"categories": [\n')
            out.write(",\n".join(map(_ENCODER.encode, self._categories())))
            out.write("\n]}\n")
        files = [written(path, n_images)]
        if self.predicted_by is not None:
            path = self.folder / "predictions.json"
            with path.open("w", encoding="utf-8", newline="\n") as out:
                out.write("[\n")
                _copy(self._parts["predictions"], out)
                out.write("]\n")
            files.append(written(path, self.counts["predictions"]))
        return files

    def _categories(self) -> Iterator[dict[str, Any]]:
        for name, number in self.categories.numbers.items():
            category: dict[str, Any] = {"id": number, "name": name}
            if name in self.categories.supercategories:
                category["supercategory"] = self.categories.supercategories[name]
            yield category

    def _values(self, thing: Drawn, collection: str) -> dict[str, Any]:
        x_min, y_min, x_max, y_max = thing.box
        values: dict[str, Any] = {
            "image_id": thing.item_id,
            "category_id": self.categories.of(thing, collection),
            "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
        }
        if thing.polygons is not None and not thing.is_crowd:
            values["segmentation"] = thing.polygons
        elif thing.mask is not None:
            values["segmentation"] = thing.mask
        return values

    def _put(self, part: str, values: dict[str, Any]) -> None:
        try:
            text = _ENCODER.encode(values)
        except ValueError:
            raise UserError(
                f"{part[:-1]} {values.get('id', '')} has an infinite number, and JSON has none"
            ) from None
        self._parts[part].write(f",\n{text}" if part in self._begun else text)
        self._begun.add(part)


def _area(thing: Drawn) -> float:
    x_min, y_min, x_max, y_max = thing.box
    return (x_max - x_min) * (y_max - y_min)


def _copy(part: TextIO, out: TextIO) -> None:
    part.seek(0)
    while text := part.read(1 << 20):
        out.write(text)
    out.write("\n")
