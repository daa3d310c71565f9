"""Which supercategory a class belongs to: COCO's own, a user's file, or what the database says."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

_CLASSES_OF = {
    "person": ("person",),
    "vehicle": (*("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),),
    "outdoor": ("traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    "animal": (
        *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    ),
    "accessory": ("backpack", "umbrella", "handbag", "tie", "suitcase"),
    "sports": (
        *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
        *("skateboard", "surfboard", "tennis racket"),
    ),
    "kitchen": ("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    "food": (
        *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza"),
        *("donut", "cake"),
    ),
    "furniture": ("chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    "electronic": ("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    "appliance": ("microwave", "oven", "toaster", "sink", "refrigerator"),
    "indoor": (*("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),),
}

# The 80 classes of the COCO dataset and its 12 supercategories (cocodataset.org).
COCO: Mapping[str, str] = MappingProxyType(
    {name: supercategory for supercategory, names in _CLASSES_OF.items() for name in names}
)


def read_mapping(path: str | os.PathLike[str]) -> dict[str, str]:
    """The mapping in a JSON file, {"class": "supercategory", ...}. Raises UserError, or OSError."""
    path = Path(path)
    wanted = 'an object {"class": "supercategory", ...}'
    try:
        mapping = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON, and must be {wanted}: {error}") from None
    if not isinstance(mapping, dict) or not mapping:
        raise UserError(f"{path} must hold {wanted}, not {json.dumps(mapping)[:60]}")
    for name, supercategory in mapping.items():
        if not name or not isinstance(supercategory, str) or not supercategory:
            raise UserError(
                f"{path} must give each class a supercategory, a text, and gives {name!r}"
                f" {json.dumps(supercategory)[:60]}"
            )
    return mapping


def of_classes(
    db: dbapi.Connection, own: Mapping[str, str] | None, collection: str | None
) -> dict[str, str]:
    """Class -> supercategory: a run's own mapping, else the collection's, else COCO's."""
    return for_collection(db, collection) if own is None else dict(own)


def for_collection(db: dbapi.Connection, collection: str | None) -> dict[str, str]:
    """The supercategories known for the classes of a collection: the database's, else COCO's.

    A collection whose classes table names any supercategory is described by it alone, since the
    same class may belong elsewhere than in COCO. None means no collection in particular.
    """
    stored = dict(
        db.execute(
            "select name, supercategory from classes"
            " where collection = ? and supercategory is not null order by class_id",
            (collection,),
        ).fetchall()
    )
    return stored or dict(COCO)
