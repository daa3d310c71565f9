"""COCO results: a JSON array of detections, by image_id, as detectors write them for pycocotools."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from nearsql.pipeline.annotations import json_arrays
from nearsql.pipeline.annotations.coco_objects import BadValue, read_category, read_id, read_image
from nearsql.pipeline.annotations.objects import LARGEST_CLASS_ID
from nearsql.pipeline.console import UserError
from nearsql.pipeline.images import UnreadableImage, open_regular_file
from nearsql.pipeline.importing.parts import Detection, Id, Options, Part, Row
from nearsql.pipeline.ingest import tables


def coco_results_part(path: str, options: Options) -> Part:
    """The detections of a results file, those of an image together.

    With options.images the images are known by the file names that this COCO file gives them, and the
    classes by its categories. Raises UserError when nothing in the file is a detection.
    """
    for name in ("ids", "id", "text", "vector"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} does not go with COCO results: leave it out")
    names: dict[Id, str] = {}
    classes: dict[int, str] = {}
    if options.images is not None:
        names, classes = _images_and_classes(options.images)
    by_image: dict[Id, list[Detection]] = {}
    problems: list[tuple[str, Id, str]] = []
    n = 0
    with open(path, "rb") as file:
        for record in tables.read_records(tables.Source(path, file), "json")[1]:
            image_id: Id = ""
            try:
                if record.problem is not None:
                    raise BadValue(record.problem)
                image_id = read_id(record.cells.get("image_id"), "image_id")
                found = _detection(record.cells)
                if options.images is not None and image_id not in names:
                    raise BadValue(f"{options.images} has no image {image_id!r:.60}")
            except BadValue as error:
                problems.append((record.place, image_id, str(error)))
                continue
            n += 1
            by_image.setdefault(image_id, []).append(found)
    if not n:
        why = f": {problems[0][0]}: {problems[0][2]}" if problems else ""
        raise UserError(f"{path} holds no detections{why}")
    rows = partial(_rows, by_image, names, problems)
    return Part(
        "detections",
        ("predictions",),
        rows,
        len(by_image) + len(problems),
        parameters={"detections": n},
        class_names=classes,
    )


def _rows(
    by_image: dict[Id, list[Detection]],
    names: dict[Id, str],
    problems: list[tuple[str, Id, str]],
) -> Iterator[Row]:
    for image_id, found in by_image.items():
        yield Row(names.get(image_id, image_id), f"image {image_id!r:.60}", detections=found)
    for place, image_id, problem in problems:
        yield Row(image_id, place, problem=problem)


def _detection(cells: dict[str, Any]) -> Detection:
    """One result. Raises BadValue."""
    class_id = cells.get("category_id")
    if type(class_id) is not int or not 0 <= class_id <= LARGEST_CLASS_ID:
        raise BadValue(f"its category_id is {class_id!r:.40}, not a whole number from 0 on")
    score: Any = cells.get("score")
    if type(score) not in (int, float) or not 0 <= score <= 1:
        raise BadValue(f"its score is {score!r:.40}, not a number from 0 to 1")
    box = cells.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise BadValue(f"its bbox is {box!r:.60}, not [x, y, width, height]")
    if box[2] < 0 or box[3] < 0:
        raise BadValue(f"its bbox is {box[2]:.6g} wide and {box[3]:.6g} high")
    outline = cells.get("segmentation")
    if outline is not None and outline != [] and not isinstance(outline, list | dict):
        raise BadValue(f"its segmentation is {outline!r:.40}, neither polygons nor an RLE")
    text = json.dumps(outline) if outline else None
    x, y, width, height = map(float, box)
    return Detection(class_id, float(score), (x, y, width, height), text)


def _is_number(value: Any) -> bool:
    # Neither NaN nor infinity, nor a whole number that is too large for a float.
    return type(value) in (int, float) and abs(value) < 2**31


def _images_and_classes(path: str) -> tuple[dict[Id, str], dict[int, str]]:
    """File names by image id, and class names by category id, of a COCO instances file."""
    names: dict[Id, str] = {}
    classes: dict[int, str] = {}
    try:
        with open_regular_file(path) as file:
            for element in json_arrays.elements(file, set()):
                if element.key == "images":
                    image_id, image = read_image(element.value)
                    names[image_id] = image.file_name
                elif element.key == "categories":
                    class_id, name = read_category(element.value)
                    classes[class_id] = name.name
    except (json_arrays.NotJson, BadValue, UnreadableImage) as error:
        raise UserError(f"{path} cannot be read as a COCO file: {error}") from error
    if not names:
        raise UserError(f"{path} names no images: give the COCO file that the results are of")
    return names, classes
