"""The ground truth of items, in the words of a model: which of its classes is where."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from nearsql.pipeline.detect.truth import Target
from nearsql.udfs import dbapi


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
    index_of = {name: index for index, name in enumerate(classes)}
    ids = json.dumps(list(item_ids))
    truths = {
        item_id: GroundTruth(sha256, [], [])
        for item_id, sha256 in db.execute(
            "select item_id, truth_sha256 from annotated_items"
            " where item_id in (select value from json_each(?))",
            (ids,),
        )
    }
    sql = files(__package__ or "").joinpath("ground_truth.sql").read_text("utf-8")
    for item_id, annotation_id, class_id, name, *box, mask, polygons, is_crowd in db.execute(
        sql, (ids,)
    ):
        truth = truths[item_id]
        index = _index(index_of, class_id, name, len(classes))
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


def _index(
    index_of: Mapping[str, int], class_id: int, name: str | None, n_classes: int
) -> int | None:
    """The model's number of a class of the data set; None when it has no such class."""
    if name is not None:
        return index_of.get(name)
    return class_id if class_id < n_classes else None
