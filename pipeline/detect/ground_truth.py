"""The ground truth of items, in the words of a model: which of its classes is where."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from nearsql.pipeline.detect.truth import Target
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What is known to be in one image.

    targets: the objects of classes that the model has. unknown: the names of the other objects'
    classes, one an object: no loss can be computed for them, and no prediction can find them.
    """

    sha256: str
    targets: list[Target]
    unknown: list[str]


def read_truth(
    db: dbapi.Connection, item_ids: Sequence[int], classes: Sequence[str]
) -> dict[int, GroundTruth]:
    """The ground truth of those of the items that have been annotated.

    classes: the model's, in the order of their indices. A class is known by its name, whatever number
    the data set gives it (COCO counts to 90, its 80 classes from 0); without a name, by its number.
    """
    truths: dict[int, GroundTruth] = {}
    sql = read_sql(__package__, "ground_truth")
    for (
        item_id,
        sha256,
        annotation_id,
        class_id,
        name,
        *box,
        mask,
        polygons,
        is_crowd,
    ) in db.execute(sql, (json.dumps(list(item_ids)),)):
        truth = truths.setdefault(item_id, GroundTruth(sha256, [], []))
        if annotation_id is None:
            continue  # nothing is there
        index = _index(classes, class_id, name)
        if index is None:
            truth.unknown.append(name if name is not None else f"number {class_id}")
            continue
        truth.targets.append(
            Target(
                class_index=index,
                box=(box[0], box[1], box[2], box[3]),
                mask=json.loads(mask) if mask is not None else None,
                polygons=json.loads(polygons) if polygons is not None else None,
                is_crowd=bool(is_crowd),
                id=annotation_id,
            )
        )
    return truths


def _index(classes: Sequence[str], class_id: int, name: str | None) -> int | None:
    """The model's number of a class of the data set; None when it has no such class.

    Of several classes of the model by that name it is the one of the data set's number, else the first.
    """
    is_number = class_id < len(classes)
    if name is None:
        return class_id if is_number else None
    if is_number and classes[class_id] == name:
        return class_id
    return classes.index(name) if name in classes else None
