"""Replays of what networks make: each recorded parameter counts, and each argument is on record."""

import inspect
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from detectors import CLASSES, random_image, save_detector
from PIL import Image
from replayed import Replayed, changed, leaves, nothing_differs, record

from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.failures import failures
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.pipeline.loss_distance.run import loss_distance
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi

OTHER_HASH = "0" * 64
QUICK: dict[str, Any] = {"imgsz": 64, "batch": 2, "conf": 0.05, "device": "cpu"}
SPACE = "small/gap/p5"
FOUND_BY_ID = "found by its id, for it may be called otherwise by now"
BY_OTHERS = "who computes it makes no difference: see test_ray_detect.py"
SAID = "what was computed with is compared with what is now, and said"

CHANGED: dict[str, dict[str, Any]] = {
    "detect": {
        "computation.device": "cuda:77",
        "settings.autocast": "float16",
        "settings.checkpoint_sha256": OTHER_HASH,
        "settings.conf": 0.2,
        "settings.feature_maps": [],
        "settings.imgsz": 96,
        "settings.iou": 0.2,
        "settings.layers": ["9"],
        "settings.max_det": 2,
        "settings.metrics_conf": 0.6,
        "settings.multi_label": True,
        "settings.supercategories": {f"class {n}": "all" for n in range(CLASSES)},
        "batch": 1,  # the last bits of the features
        "weights": "/gone.pt",
    },
    "loss-distance": {
        "checkpoint_sha256": OTHER_HASH,
        "components": ["cls"],
        "conf": 0.6,
        "imgsz": 96,
        "pairs": "all",
        "pairs_sha256": OTHER_HASH,
        "predictions_sha256": OTHER_HASH,
        "run": 1,
        "k": 1,
    },
    "failures": {
        "detector_runs": [1],
        "k": 1,
        "metric": "hit_freq",
        "truth_sha256": OTHER_HASH,
        "worst": 1,
    },
}
WITHOUT_EFFECT: dict[str, dict[str, tuple[Any, str]]] = {
    "detect": {
        "collection": (None, "only which images were looked at, and these are stored"),
        "model": ("other", FOUND_BY_ID),
        "computation.dtype": ("float64", SAID),
        "computation.autocast": ("bfloat16", SAID),
        "computation.threads": (77, SAID),
        "computation.deterministic_algorithms": (True, SAID),
        "computation.float32_matmul_precision": ("medium", SAID),
        "computation.cudnn_benchmark": (True, SAID),
    },
    "loss-distance": {"space": ("other", FOUND_BY_ID)},
    "failures": {},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replayed]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("detectors")
    weights = save_detector(folder / "small.pt", "yolov8n")
    path = folder / "detected.db"
    connection.create(path).close()
    db = connection.connect(path)
    save_detector(folder / "other.pt", "yolov8n", seed=1)
    (folder / "super.json").write_text(json.dumps({"class 0": "all", "class 1": "all"}))
    add_images(db, "a", range(6))
    add_images(db, "b", range(6, 10))
    runs = {}
    detected = detect(db, weights, **QUICK, collection="a", feature_maps=["p5"])
    runs["detect"] = detected.run_id or 0
    runs["detect b"] = detect(db, weights, **QUICK, collection="b").run_id or 0
    runs["loss-distance"] = loss_distance(
        db, runs["detect"], pairs="candidates", space=SPACE, k=2, device="cpu"
    ).run_id
    runs["failures"] = failures(db, runs["detect"], worst=3, space=SPACE, k=2).run_id
    other = detect(db, folder / "other.pt", **QUICK, collection="b")
    runs["other detector"] = other.run_id or 0
    db.execute("drop trigger runs_finished_never_change")
    db.commit()
    yield Replayed(db, runs)
    db.close()
    torch.set_num_threads(before)


def add_images(db: dbapi.Connection, collection: str, seeds: range) -> None:
    """Images with one object each."""
    rows = []
    for seed in seeds:
        buffer = io.BytesIO()
        Image.fromarray(random_image(seed, 120, 100)).save(buffer, "PNG")
        rows.append((f"memory:{seed}", buffer.getvalue(), {}, {}))
    ingest_image_bytes(db, rows, collection=collection, source="test")
    sql = "select id from items where collection = ?"
    for (item_id,) in db.execute(sql, (collection,)).fetchall():
        db.execute(
            "insert into annotations (item_id, class_id, class_name, x_min, y_min, x_max, y_max,"
            " source) values (?, ?, ?, 5, 5, ?, 80, 'test')",
            (item_id, item_id % 3, f"class {item_id % 3}", 40 + 10 * item_id),
        )
        db.execute(
            "insert into annotated_items (item_id, source, truth_sha256) values (?, 'test', ?)",
            (item_id, f"{item_id:064x}"),
        )
    db.commit()


def cases(of: Any) -> list[Any]:
    return [
        pytest.param(run, path, value, id=f"{run}: {path}")
        for run, values in of.items()
        for path, value in values.items()
    ]


def test_every_run_replays_to_the_same_rows(world: Replayed) -> None:
    for name, run_id in world.runs.items():
        outcome = replay(world.db, run_id)
        assert nothing_differs(outcome), (name, outcome)
        assert not outcome.changes, (name, outcome.changes)
        assert sum(table.rows for table in outcome.tables) > 0, name


def test_each_parameter_is_in_a_list(world: Replayed) -> None:
    for name, others in CHANGED.items():
        listed = {*others, *WITHOUT_EFFECT[name]}
        recorded = set(leaves(world.parameters(name)))
        if name == "failures":
            recorded -= {"space", "cluster_run", "label_run"}  # see tests/vision/test_failures.py
        assert recorded == listed, name


@pytest.mark.parametrize(("name", "path", "value"), cases(CHANGED))
def test_a_recorded_parameter_counts(world: Replayed, name: str, path: str, value: Any) -> None:
    other = changed(world.parameters(name), path, value)
    with world.recorded(name, other) as run_id, suppress(CannotReplay):
        assert not nothing_differs(replay(world.db, run_id))


@pytest.mark.parametrize(("name", "path", "value"), cases(WITHOUT_EFFECT))
def test_what_is_said_to_have_no_effect_has_none(
    world: Replayed, name: str, path: str, value: tuple[Any, str]
) -> None:
    other = changed(world.parameters(name), path, value[0])
    with world.recorded(name, other) as run_id:
        outcome = replay(world.db, run_id)
    assert nothing_differs(outcome), value[1]
    if value[1] is SAID:
        name_of = path.partition(".")[2]
        now = world.parameters(name)["computation"][name_of]
        told = [(change.what, change.then, change.now) for change in outcome.changes]
        assert told == [(name_of.replace("_", " "), value[0], now)]


# For each function the arguments of a call, another value of each or what two calls differ in, and what
# need not be on record.
CALLS: dict[str, tuple[Any, dict[str, Any], dict[str, Any], dict[str, str]]] = {
    "detect": (
        detect,
        {**QUICK, "weights": "small.pt", "collection": "a", "name": "more"},
        {
            "weights": ({}, {"weights": "other.pt", "name": "another"}),
            "collection": "b",
            "name": "most",
            "imgsz": 96,
            "conf": 0.1,
            "iou": 0.5,
            "max_det": 7,
            "multi_label": True,
            "metrics_conf": 0.4,
            "layers": ["9"],
            "feature_maps": ["p4"],
            "supercategories": "super.json",
            "batch": 3,
        },
        {
            "device": "on record as the device and the computation",
            "engine": BY_OTHERS,
            "quiet": "it only says less",
        },
    ),
    "loss_distance": (
        loss_distance,
        {"detect_run": "detect", "pairs": "candidates", "space": SPACE, "k": 3, "device": "cpu"},
        {
            "detect_run": "detect b",
            "pairs": ({}, {"pairs": "all", "space": None, "k": None}),
            "components": ["cls"],
            "space": "small/gap/p4",
            "k": 1,
            "landmarks": (
                {"pairs": "landmarks", "space": None, "k": None, "landmarks": 2},
                {"pairs": "landmarks", "space": None, "k": None, "landmarks": 3},
            ),
            "seed": (
                {"pairs": "landmarks", "space": None, "k": None, "landmarks": 2},
                {"pairs": "landmarks", "space": None, "k": None, "landmarks": 2, "seed": 5},
            ),
            "conf": 0.5,
        },
        {
            "weights": "the checkpoint's hash is on record, wherever it lies",
            "device": "on record as the device",
            "engine": BY_OTHERS,
            "yes": "it only agrees to many rows",
            "quiet": "it only says less",
        },
    ),
    "failures": (
        failures,
        {"detector_run": "detect", "space": SPACE},
        {
            "detector_run": "other detector",
            "worst": 2,
            "space": "small/gap/p4",
            "metric": "hit_freq",
            "k": 3,
        },
        {
            "cluster": "it makes a clustering and a run of names, which are on record",
            "min_cluster_size": "of that clustering, which has it on record",
            "quiet": "it only says less",
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(name, argument, id=f"{name}: {argument}")
        for name, (_, _, others, _) in CALLS.items()
        for argument in others
    ],
)
def test_an_argument_is_on_record(
    world: Replayed,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    argument: str,
) -> None:
    function, arguments, others, _ = CALLS[name]
    value = others[argument]
    (path,) = (Path(row[2]) for row in world.db.execute("pragma database_list"))

    def meant(values: dict[str, Any]) -> dict[str, Any]:
        found = dict(values)
        for key, text in values.items():
            if key in ("weights", "supercategories"):
                found[key] = path.parent / text
            if key in ("detect_run", "detector_run"):
                found[key] = world.runs[text]
        return found

    both = value if isinstance(value, tuple) else ({}, {argument: value})
    one, other = (
        record(world.db, monkeypatch, function, meant({**arguments, **each})) for each in both
    )
    assert one != other


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_is_tried(name: str) -> None:
    function, _, others, elsewhere = CALLS[name]
    assert set(inspect.signature(function).parameters) - {"db"} == {*others, *elsewhere}
