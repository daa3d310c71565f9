"""Where the time of a detect run goes: `python -m benchmarks.vision --weights W.pt --images FOLDER`.

Three figures from one run over the same images: decoding alone (reading, hashing, decoding, upright RGB,
letterbox, in as many threads as a run uses), writing alone (the rows of every image, with their hash
checks and triggers), and the whole run with the share of each part. Prints images a minute.
"""

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

from nearsql.pipeline.devices import share_cores

share_cores()  # as the command does, before torch is imported

from nearsql.pipeline import images
from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.annotations.annotate import annotate
from nearsql.pipeline.console import table
from nearsql.pipeline.detect import judge as judging
from nearsql.pipeline.detect.judge import Judge
from nearsql.pipeline.detect.model_and_spaces import feature_spaces, save_detector
from nearsql.pipeline.detect.rows import item_rows, write_rows
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.settings import Settings
from nearsql.pipeline.detect.supercategories import COCO
from nearsql.pipeline.detect.weights import load_detector
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.item_contents import read_items
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

BATCH = 8


def item_ids(db: dbapi.Connection) -> list[int]:
    return [i for (i,) in db.execute("select id from items order by id")]


def decoding(db: dbapi.Connection, imgsz: int, rounds: int) -> float:
    """Seconds to have every image ready for the model."""
    started = time.perf_counter()
    for _ in range(rounds):
        with images.quiet_decoders():
            for one in map_ahead(
                partial(judging._prepare, imgsz), read_items(db, item_ids(db), "image")
            ):
                assert one.problem is None, one.problem
    return (time.perf_counter() - started) / rounds


def writing(db: dbapi.Connection, weights: str, imgsz: int) -> float:
    """Seconds to write every row of every image, judged beforehand."""
    detector = load_detector(weights)
    settings = Settings(detector.sha256, imgsz=imgsz)
    model_id = save_detector(db, detector, "write only")
    judge = Judge(detector, settings, dict(COCO))
    batches = list(judge.judge_items(db, item_ids(db), BATCH))
    widths = {layer: len(v) // 4 for layer, v in batches[0][0].features.items()}
    with run(
        db, "detect", parameters={"settings": settings.as_json()}, model_id=model_id
    ) as current:
        spaces = feature_spaces(current, "write only", model_id, widths, settings)
        started = time.perf_counter()
        for batch in batches:
            with immediate(db):
                rows = [item_rows(one, detector.classes, detector.components) for one in batch]
                write_rows(current, rows, spaces)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True, help="a folder, with images/ and labels/ in it")
    parser.add_argument("--classes", help="its YAML; with it, losses and metrics are computed, too")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3, help="of decoding")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        db = connection.create(Path(folder) / "vision.db")
        ingest_images(db, options.images, collection="photos")
        if options.classes:
            annotate(db, "photos", "yolo", options.images, classes=options.classes)
        n = len(item_ids(db))
        seconds = {
            "decoding alone": decoding(db, options.imgsz, options.rounds),
            "writing alone": writing(db, options.weights, options.imgsz),
        }
        seconds["decoding and writing"] = sum(seconds.values())
        result = detect(db, options.weights, name="whole run", imgsz=options.imgsz, batch=BATCH)
        for part, milliseconds in result.timings.items():
            seconds[f"whole run: {part}"] = milliseconds / 1000
        seconds["whole run"] = sum(result.timings.values()) / 1000
        db.close()
    whole = seconds["whole run"]
    print(
        f"{n} images, {os.cpu_count()} cores, {Path(options.weights).name}, imgsz {options.imgsz}\n"
    )
    rows = [
        (part, s, f"{60 * n / s:,.0f}", f"{100 * s / whole:.0f}%") for part, s in seconds.items()
    ]
    print(table(["", "seconds", "images a minute", "of the whole run"], rows))
    share = 1 - seconds["whole run: model"] / whole
    print(f"\nnot the model: {100 * share:.0f}% of the run")


if __name__ == "__main__":
    main()
