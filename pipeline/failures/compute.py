"""All that is found, from what is stored: no model is asked."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from nearsql.pipeline.console import progress
from nearsql.pipeline.failures.findings import FALSE_ALARM, LONELY, MISS, WORST_LOSS, Finding
from nearsql.pipeline.failures.judged import Detector, Image, mistakes_of_images
from nearsql.pipeline.failures.lonely import Compared, Lonely, compare_with_neighbours
from nearsql.pipeline.failures.mistakes import (
    FalseAlarm,
    Miss,
    box_area,
    false_alarms,
    misses,
    size_of,
)
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


class ClassAndSize(NamedTuple):
    """A line of the table of mistakes: of objects by their own size, of false alarms by their box's."""

    class_name: str
    size: str
    objects: int
    missed: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The mistakes in all images. table: the worst lines first. why: how often each reason, of both kinds."""

    findings: list[Finding]
    table: list[ClassAndSize]
    why_missed: Mapping[str, int]
    why_false: Mapping[str, int]


def losses_by_component(
    db: dbapi.Connection, images: Sequence[Image]
) -> dict[str, dict[int, float]]:
    """The defined losses of the images, by component and item; the largest of each component come first."""
    pairs = json.dumps([[image.run_id, image.item_id] for image in images])
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    for component, item, value in db.execute(
        read_sql(__package__, "losses_of_images"), {"images": pairs}
    ):
        losses[component][item] = value
    return losses


def worst_losses(
    images: Sequence[Image], losses: Mapping[str, Mapping[int, float]], worst: int
) -> list[Finding]:
    """The images with the largest losses, so many of each component. losses: of losses_by_component."""
    by_item = {image.item_id: image for image in images}
    findings = []
    for component, values in losses.items():
        typical = statistics.median(values.values())
        for rank, (item, value) in enumerate(islice(values.items(), worst), 1):
            evidence = {
                "component": component,
                "loss": value,
                "rank": rank,
                "of_images": len(values),
                "median": typical,
                **_in_brief(by_item[item]),
            }
            findings.append(Finding(WORST_LOSS + component, item, value, evidence))
    return findings


def find_mistakes(
    db: dbapi.Connection, detector: Detector, images: Sequence[Image], *, quiet: bool = True
) -> Mistakes:
    """The objects that were missed and the detections that are false, a finding of each kind an image.

    The score of a miss is how many are missed; of a false alarm, how sure the detector is of the surest.
    """
    findings = []
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    why_missed, why_false = Counter[str](), Counter[str]()
    with progress("images looked at", len(images), quiet=quiet) as bar:
        for image, objects, predictions in mistakes_of_images(db, detector, images):
            missed, false = misses(objects, predictions), false_alarms(objects, predictions)
            for each in objects:
                if not each.is_crowd:
                    counts[each.class_name, size_of(each.area)]["objects"] += 1
            for miss in missed:
                counts[miss.object.class_name, size_of(miss.object.area)]["missed"] += 1
                why_missed[miss.why] += 1
            for alarm in false:
                prediction = alarm.prediction
                counts[prediction.class_name, size_of(box_area(prediction.box))]["false"] += 1
                why_false[alarm.why] += 1
            if missed:
                told = {**_in_brief(image), "misses": [_miss(miss) for miss in missed]}
                findings.append(Finding(MISS, image.item_id, float(len(missed)), told))
            if false:
                told = {**_in_brief(image), "alarms": [_alarm(alarm) for alarm in false]}
                surest = max(alarm.prediction.confidence for alarm in false)
                findings.append(Finding(FALSE_ALARM, image.item_id, surest, told))
            bar.advance()
    table = [
        ClassAndSize(name, size, of["objects"], of["missed"], of["false"])
        for (name, size), of in counts.items()
    ]
    table.sort(key=lambda line: (-line.missed - line.false_alarms, line.class_name, line.size))
    return Mistakes(findings, table, _by_count(why_missed), _by_count(why_false))


def lonely_failures(
    db: dbapi.Connection, images: Sequence[Image], space: str, metric: str, k: int, *, called: str
) -> tuple[Lonely, list[Finding]]:
    """The images that do badly by a metric while their neighbours in a space do well.

    called: the name of the space in the evidence, which a space that was renamed may have had.
    """
    values = {i.item_id: value for i in images if (value := i.metrics[metric]) is not None}
    by_item = {image.item_id: image for image in images}
    found = compare_with_neighbours(db, space, values, k)
    findings = [
        Finding(
            LONELY,
            each.item_id,
            -each.difference,
            {
                "metric": metric,
                "space": called,
                "k": k,
                **_beside(each),
                "low": found.low,
                "high": found.high,
                **_in_brief(by_item[each.item_id]),
            },
        )
        for each in found.failures
    ]
    return found, findings


def _in_brief(image: Image) -> dict[str, Any]:
    return {
        "detector_run": image.run_id,
        "objects": image.objects,
        "found": image.found,
        "missed": image.missed,
        "false_alarms": image.false_alarms,
        "mean_iou": image.metrics["mean_iou"],
    }


def _miss(miss: Miss) -> dict[str, Any]:
    told = {
        "annotation_id": miss.object.id,
        "class": miss.object.class_name,
        "size": size_of(miss.object.area),
        "area": miss.object.area,
        "why": miss.why,
    }
    if miss.prediction is not None:
        told |= {
            "prediction_id": miss.prediction.id,
            "predicted": miss.prediction.class_name,
            "confidence": miss.prediction.confidence,
        }
    return told


def _alarm(alarm: FalseAlarm) -> dict[str, Any]:
    told = {
        "prediction_id": alarm.prediction.id,
        "class": alarm.prediction.class_name,
        "confidence": alarm.prediction.confidence,
        "size": size_of(box_area(alarm.prediction.box)),
        "area": box_area(alarm.prediction.box),
        "why": alarm.why,
    }
    if alarm.object is not None:
        told |= {"annotation_id": alarm.object.id, "annotated": alarm.object.class_name}
    return told


def _beside(compared: Compared) -> dict[str, Any]:
    return {
        "value": compared.value,
        "expected": compared.expected,
        "neighbors": [
            {"item_id": item, "distance": distance, "value": value}
            for item, distance, value in compared.neighbours
        ],
    }


def _by_count(counts: Counter[str]) -> dict[str, int]:
    return dict(counts.most_common())
