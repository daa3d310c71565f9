"""samples.json, metadata.json and images/: a data set that FiftyOne reads.

fo.Dataset.from_dir("street", dataset_type=fo.types.LegacyFiftyOneDataset)

It is the format that FiftyOne has long had for samples as JSON and still reads, called legacy since its own
exports write the state of its database instead. A sample's fields are named as the columns of a table of
items: label_species, cluster_3_1, map_4, and ground_truth, predictions and vectors besides.
"""

import base64
import io
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nearsql
from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import drawn
from nearsql.pipeline.export.drawn import Drawn
from nearsql.pipeline.export.file_names import file_names
from nearsql.pipeline.export.files import Source, written
from nearsql.pipeline.export.folder import LISTING
from nearsql.pipeline.export.image_sets import Written
from nearsql.pipeline.export.item_files import ItemFiles, named
from nearsql.pipeline.export.rows import Item, batches
from nearsql.udfs.spaces import Space, find_space

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# What FiftyOne calls items of no cluster is up to whoever asks: they have this label.
NOISE = "noise"


def write_fiftyone(
    folder: Path, source: Source, *, predicted_by: int | None, spaces: Sequence[str], images: str
) -> Written:
    """A sample for each image: its labels, places, clusters, ground truth, and what was asked for besides.

    predicted_by: a detector run, whose predictions go out. spaces: whose vectors go out, as fields of their
    names. images: `link` or `copy` them into images/.
    """
    if predicted_by is not None:
        drawn.require_detector_run(source.db, predicted_by)
    vectors = {_field(name): find_space(source.db.apsw, name) for name in spaces}
    if len(vectors) < len(spaces):
        raise UserError(f"the names of --space are the same to FiftyOne: {', '.join(spaces)}")
    names = file_names(
        [
            one
            for batch in batches(source.db, source.chosen)
            for one in named(source, [item for item in batch if item.kind == "image"])
        ]
    )
    if not names:
        raise UserError(
            f"none of the {source.n_items:,} items is an image, and FiftyOne shows images"
        )
    path = folder / "samples.json"
    n, n_texts, separator = 0, 0, ""
    with (
        ItemFiles(folder, source, images) as files,
        path.open("w", encoding="utf-8", newline="\n") as out,
    ):
        out.write('{"samples": [\n')
        for batch in source.batches():
            items = [item for item in batch if item.kind == "image"]
            n_texts += len(batch) - len(items)
            places = {item.id: f"images/{names[item.id]}" for item in items}
            there = files.add("image", places)
            items = [item for item in items if item.id in there]
            for sample in _samples(source, items, places, predicted_by, vectors):
                out.write(separator + _encoded(sample))
                separator = ",\n"
                n += 1
        out.write("\n]}\n")
    if not n:
        raise UserError(
            f"no item's file could be had, and nothing was written: {files.problems[0]}"
        )
    info = {"exported_by": f"nearsql {nearsql.__version__}"}
    about = folder / "metadata.json"
    about.write_text(_ENCODER.encode({"media_type": "image", "info": info}) + "\n", "utf-8")
    counts = files.counts() | ({"texts left out": n_texts} if n_texts else {})
    listing = written(folder / LISTING, files.n_files)
    return Written([written(path, n), written(about, 1), listing], n, counts, files.problems)


def _samples(
    source: Source,
    items: Sequence[Item],
    places: dict[int, str],
    predicted_by: int | None,
    vectors: dict[str, Space],
) -> Iterable[dict[str, Any]]:
    db, ids = source.db, [item.id for item in items]
    known = drawn.annotated(db, ids)
    objects: dict[int, list[Drawn]] = {item: [] for item in known}
    for thing in drawn.annotations(db, ids):
        objects.setdefault(thing.item_id, []).append(thing)
    seen: dict[int, list[Drawn]] = {}
    if predicted_by is not None:
        seen = {item: [] for item in drawn.looked_at(db, predicted_by, ids)}
        for thing in drawn.predictions(db, predicted_by, ids):
            seen.setdefault(thing.item_id, []).append(thing)
    found = {name: _vectors(source, space, ids) for name, space in vectors.items()}
    for item in items:
        sample: dict[str, Any] = {
            "filepath": places[item.id],
            "tags": [],
            "metadata": {"_cls": "ImageMetadata", "width": item.width, "height": item.height},
            "item_id": item.id,
            "collection": item.collection,
            "uri": item.uri,
        }
        for name, value in item.labels.items():
            _add(sample, f"label_{_field(name)}", {"_cls": "Classification", "label": value})
        for run in source.chosen.maps:
            point = item.points.get(run.id)
            if point is not None:
                sample[f"map_{run.id}"] = [point.x, point.y]
        sample |= _clusters(source, item)
        if item.id in objects:
            sample["ground_truth"] = _detections(item, objects[item.id])
        if item.id in seen:
            sample["predictions"] = _detections(item, seen[item.id])
        for name, of_items in found.items():
            if item.id in of_items:
                _add(sample, name, _array(of_items[item.id]))
        yield sample


def _add(sample: dict[str, Any], name: str, value: Any) -> None:
    if name in sample:
        raise UserError(
            f"two of what goes out are both called {name!r} in FiftyOne: rename a label or a space"
        )
    sample[name] = value


def _clusters(source: Source, item: Item) -> dict[str, Any]:
    found = {}
    for run in source.chosen.clusterings:
        for level in run.levels:
            place = item.memberships.get((run.id, level.level))
            if place is None:
                continue
            label = NOISE if place.cluster is None else place.name or f"Cluster {place.cluster}"
            found[f"cluster_{run.id}_{level.level}"] = {
                "_cls": "Classification",
                "label": label,
                "confidence": place.probability,
                "cluster": place.cluster,
                "is_assigned": place.is_assigned,
            }
    return found


def _detections(item: Item, things: Sequence[Drawn]) -> dict[str, Any]:
    """Boxes as shares of the image, as FiftyOne has them, with masks of what is in the box."""
    if not item.width or not item.height:
        raise UserError(f"item {item.id} has no size, and boxes are shares of it")
    shown = []
    for thing in things:
        x_min, y_min, x_max, y_max = thing.box
        detection: dict[str, Any] = {
            "_cls": "Detection",
            "label": thing.class_name or f"class {thing.class_id}",
            "bounding_box": [
                x_min / item.width,
                y_min / item.height,
                (x_max - x_min) / item.width,
                (y_max - y_min) / item.height,
            ],
        }
        if thing.score is not None:
            detection["confidence"] = thing.score
        else:
            detection["iscrowd"] = thing.is_crowd
        mask = _mask(item, thing)
        if mask is not None:
            detection["mask"] = _array(mask)
        shown.append(detection)
    return {"_cls": "Detections", "detections": shown}


def _mask(item: Item, thing: Drawn) -> NDArray[np.bool_] | None:
    """What of the box's pixels is the object's: (height, width) of the box; None without an outline."""
    from pycocotools import mask as coco

    size = item.height, item.width
    if thing.mask is not None:
        if tuple(thing.mask["size"]) != size:
            raise UserError(
                f"the mask of an object of item {item.id} is not of the image's size: the file is damaged"
            )
        rle = {**thing.mask, "counts": thing.mask["counts"].encode()}
    elif thing.polygons is not None:
        rle = coco.merge(coco.frPyObjects(thing.polygons, *size))
    else:
        return None
    x_min, y_min, x_max, y_max = thing.box
    whole = coco.decode([rle])[..., 0]
    cut = whole[
        max(0, int(y_min)) : max(int(y_min) + 1, round(y_max)),
        max(0, int(x_min)) : max(int(x_min) + 1, round(x_max)),
    ]
    return cut.astype(bool) if cut.size else None


def _vectors(source: Source, space: Space, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    rows = source.db.execute(
        "select item_id, vector from vectors where space_id = ?"
        " and item_id in (select value from json_each(?))",
        (space.id, json.dumps(list(ids))),
    )
    return {item: np.frombuffer(vector, "<f4") for item, vector in rows}


def _array(values: NDArray[Any]) -> dict[str, Any]:
    """An array as FiftyOne has it in JSON: numpy's own format, compressed, in base64."""
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    packed = base64.b64encode(zlib.compress(out.getvalue())).decode("ascii")
    return {"$binary": {"base64": packed, "subType": "00"}}


def _field(name: str) -> str:
    """A name that a field may have: letters, digits and _, and no _ at its beginning."""
    return re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "unnamed"


def _encoded(sample: dict[str, Any]) -> str:
    try:
        return _ENCODER.encode(sample)
    except ValueError:
        raise UserError(
            f"item {sample['item_id']} has an infinite number, and JSON has none"
        ) from None
