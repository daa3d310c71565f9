"""A row or two for every table that any schema version had, sound enough for `nearsql check`.

By table, in an order in which each finds what it refers to. A golden file of an older version takes the
columns that the version has; what a column was called before, or before it went, stands here, too. A migration
that adds a table adds rows here: `make` refuses to leave a table empty.
"""

import struct
from typing import Any

Row = dict[str, Any]

T = "2025-01-02T03:04:05.678Z"
SHA = "ab" * 32


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def _run(id: int, kind: str, **values: Any) -> Row:
    # It ends after all is written: what has ended never changes.
    return {
        "id": id,
        "kind": kind,
        "parameters_json": '{"label": "kind", "of": "é"}',
        "seed": 7,
        "versions_json": '{"nearsql": "0.1.0"}',
        "device": "cpu",
        "counts_json": '{"items": 2}',
        "timings_json": '{"read": 1.5}',
        "process": "host 1",
        "started_at": T,
        **values,
    }


ROWS: list[tuple[str, Row]] = [
    ("metadata", {"key": "database_id", "value": "0123456789abcdef0123456789abcdef"}),
    (
        "models",
        {
            "id": 1,
            "name": "yolov8n-seg",
            "family": "yolo",
            "checkpoint_sha256": SHA,
            "licence": "AGPL-3.0",
            "parameters_json": '{"imgsz": 640}',
            "created_at": T,
        },
    ),
    ("models", {"id": 2, "name": "tfidf", "family": "text", "created_at": T}),
    ("model_arrays", {"model_id": 2, "name": "vocabulary", "data": b'{"a": 0}'}),
    ("runs", _run(1, "ingest")),
    ("runs", _run(2, "detect", model_id=1)),
    ("runs", _run(3, "embed", model_id=2)),
    ("runs", _run(4, "neighbors")),
    ("runs", _run(5, "cluster", parent_run_id=None)),
    ("runs", _run(6, "project", parameters_json='{"method": "pca"}')),
    ("runs", _run(7, "evaluate")),
    ("runs", _run(8, "find")),
    ("runs", _run(9, "label")),
    ("runs", _run(10, "index")),
    ("runs", _run(11, "loss-distance", model_id=1, parent_run_id=2)),
    (
        "items",
        {
            "id": 1,
            "kind": "image",
            "collection": "photos",
            "sha256": "01" * 32,
            "uri": "/photos/a.jpg",
            "width": 40,
            "height": 20,
            "sequence_number": 0,
            "run_id": 1,
            "created_at": T,
            "metadata_json": '{"camera": "x"}',
        },
    ),
    (
        "items",
        {
            "id": 2,
            "kind": "image",
            "collection": "photos",
            "sha256": "02" * 32,
            "width": 40,
            "height": 20,
            "sequence_number": 1,
            "created_at": T,
        },
    ),
    (
        "items",
        {
            "id": 3,
            "kind": "text",
            "collection": "words",
            "sha256": "03" * 32,
            "content": "a text, with 'quotes'\nand two lines",
            "sequence_number": 0,
            "created_at": T,
        },
    ),
    ("item_images", {"item_id": 2, "media_type": "image/png", "data": b"\x89PNG\r\n\x1a\n\0"}),
    ("item_labels", {"item_id": 1, "name": "kind", "value": "cat", "source": "folder"}),
    ("item_labels", {"item_id": 2, "name": "kind", "value": "dog", "source": "folder"}),
    (
        "annotations",
        {
            "id": 1,
            "item_id": 1,
            "run_id": 1,
            "class_id": 0,
            "class_name": "cat",
            "x_min": 1.0,
            "y_min": 2.0,
            "x_max": 3.5,
            "y_max": 4.0,
            "mask_json": '{"size": [20, 40], "counts": [800]}',
            "area": 5.0,
            "is_crowd": 0,
            "source": "coco",
            "polygons_json": "[[1, 2, 3.5, 2, 3.5, 4]]",
        },
    ),
    ("annotations", {"id": 2, "item_id": 2, "class_id": 1, "source": "hand"}),
    (
        "annotated_items",
        {"item_id": 1, "run_id": 1, "source": "coco", "truth_sha256": SHA},
    ),
    (
        "classes",
        {"collection": "photos", "class_id": 0, "name": "cat", "supercategory": "animal"},
    ),
    (
        "run_inputs",
        {"id": 1, "run_id": 1, "kind": "file", "name": "/photos", "rows": 2, "sha256": SHA},
    ),
    (
        "run_inputs",
        {"id": 2, "run_id": 11, "kind": "run", "name": "run 2", "input_run_id": 2},
    ),
    (
        "item_errors",
        {"id": 1, "run_id": 1, "uri": "/photos/b.jpg", "stage": "read", "message": "it is no image"}
        | {"created_at": T},
    ),
    (
        "item_errors",
        {"id": 2, "run_id": 2, "item_id": 2, "stage": "detect", "message": "too large"}
        | {"created_at": T},
    ),
    (
        "spaces",
        {
            "id": 1,
            "name": "photos/features",
            "kind": "feature",
            "model_id": 1,
            "run_id": 2,
            "dimensions": 3,
            "metric": "l2",
            "created_at": T,
        },
    ),
    (
        "spaces",
        {
            "id": 2,
            "name": "words/tfidf",
            "kind": "embedding",
            "model_id": 2,
            "run_id": 3,
            "dimensions": 2,
            "metric": "cosine",
            "created_at": T,
        },
    ),
    (
        "run_inputs",
        {"id": 3, "run_id": 4, "kind": "space", "name": "photos/features", "space_id": 1, "rows": 2}
        | {"generation": 2, "generation_token": 1002},
    ),
    ("vectors", {"id": 1, "space_id": 1, "item_id": 1, "run_id": 2, "vector": floats(1, 2, 3)}),
    ("vectors", {"id": 2, "space_id": 1, "item_id": 2, "run_id": 2, "vector": floats(1, 2, 4)}),
    ("vectors", {"id": 3, "space_id": 2, "item_id": 3, "run_id": 3, "vector": floats(0.5, -1)}),
    (
        "feature_maps",
        {
            "run_id": 2,
            "item_id": 1,
            "layer": "p5",
            "shape_json": "[1, 1, 1]",
            "dtype": "float16",
            "codec": "raw",
            "data": b"\0\x3c",
        },
    ),
    (
        "predictions",
        {
            "id": 1,
            "run_id": 2,
            "item_id": 1,
            "class_id": 0,
            "class_name": "cat",
            "confidence": 0.75,
            "x_min": 1.0,
            "y_min": 2.0,
            "x_max": 3.0,
            "y_max": 4.0,
            "mask_json": '{"size": [20, 40], "counts": [800]}',
            "matched_annotation_id": 1,
            "iou": 0.8,
        },
    ),
    (
        "losses",
        {"run_id": 2, "item_id": 1, "component": "box", "value": 1.25, "normaliser": 4.0},
    ),
    (
        "losses",
        {"run_id": 2, "item_id": 2, "component": "box", "reason": "no ground truth"},
    ),
    (
        "image_metrics",
        {
            "run_id": 2,
            "item_id": 1,
            "n_gt": 1,
            "n_pred": 1,
            "tp": 1,
            "fp": 0,
            "fn": 0,
            "mean_iou": 0.8,
            "mean_iou_gt": 0.8,
            "mean_conf": 0.75,
            "hit_freq": 1.0,
            "dice_score": 0.9,
            "category_distribution_json": '{"cat": 1}',
            "flag_cat": 0,
            "flag_supercat": 0,
            "truth_sha256": SHA,
        },
    ),
    (
        "loss_distances",
        {
            "run_id": 11,
            "target_item_id": 1,
            "image_item_id": 2,
            "component": "cls",
            "distance": 3.5,
            "normaliser": 2.0,
            "n_foreground": 8,
        },
    ),
    (
        "loss_distances",
        {"run_id": 11, "target_item_id": 2, "image_item_id": 1, "component": "cls"}
        | {"reason": "no targets", "n_foreground": 0},
    ),
    (
        "vector_indexes",
        {
            "id": 1,
            "space_id": 1,
            "run_id": 10,
            "engine": "hnsw",
            "parameters_json": '{"M": 16, "search": {"1": [16, 2]}}',
            "seed": 1,
            "generation": 0,
            "generation_token": 0,
            "n": 2,
            "recall_json": '{"1": 1.0}',
            "min_recall": 0.95,
            "build_ms": 2.5,
            "bytes": 3,
            "head_sha256": SHA,
            "sha256": SHA,
            "created_at": T,
            "is_ready": 0,
        },
    ),
    (
        "vector_index_chunks",
        {"index_id": 1, "part": 0, "chunk_number": 0, "data": b"\1\2\3"},
    ),
    (
        "neighbors",
        {"run_id": 4, "item_id": 1, "rank": 1, "neighbor_id": 2, "distance": 1.0},
    ),
    (
        "neighbors",
        {"run_id": 4, "item_id": 2, "rank": 1, "neighbor_id": 1, "distance": 1.0},
    ),
    (
        "clusters",
        {
            "id": 1,
            "run_id": 5,
            "level": 1,
            "label": 0,
            "size": 1,
            "centroid": floats(1, 2, 3),
            "exemplar_item_id": 1,
            "birth_lambda": 0.5,
            "max_lambda": 2.0,
        },
    ),
    ("clusters", {"id": 2, "run_id": 5, "level": 2, "label": 0, "parent_id": 1, "size": 1}),
    (
        "memberships",
        {
            "run_id": 5,
            "level": 1,
            "item_id": 1,
            "cluster_id": 1,
            "probability": 1.0,
            "outlier_score": 0.25,
            "core_distance": 1.5,
        },
    ),
    ("memberships", {"run_id": 5, "level": 2, "item_id": 1, "cluster_id": 2, "probability": 0.5}),
    ("memberships", {"run_id": 5, "level": 1, "item_id": 2}),
    ("runs", _run(12, "assign")),
    (
        "memberships",
        {"run_id": 5, "level": 1, "item_id": 3, "cluster_id": 1, "probability": 0.25}
        | {"is_assigned": 1, "assigned_by_run_id": 12},
    ),
    (
        "llm_responses",
        {
            "id": 1,
            "run_id": 9,
            "request_sha256": SHA,
            "model": "m",
            "options_json": "{}",
            "system": "be short",
            "prompt": "name it",
            "schema_json": '{"type": "object"}',
            "attachments_json": '["' + SHA + '"]',
            "is_cached": 1,
            "response": '{"name": "cats"}',
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "duration_ms": 1.5,
            "created_at": T,
        },
    ),
    (
        "cluster_labels",
        {
            "id": 1,
            "cluster_id": 1,
            "run_id": 9,
            "name": "cats",
            "description": "what purrs",
            "category": "animal",
            "strength": 0.5,
            "method": "llm",
            "model": "m",
            "prompt": "name it",
            "shown_item_ids_json": "[1]",
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "held_out_precision": 0.75,
            "created_at": T,
            "keywords_json": '[["cat", 1.0, 0.5]]',
            "response_id": 1,
            "held_out_recall": 0.5,
            "held_out_json": '{"members": [[1, 1]], "others": []}',
            "held_out_response_id": 1,
        },
    ),
    (
        "cluster_labels",
        {"id": 2, "cluster_id": 2, "name": "é", "method": "hand", "created_at": T, "author": "anna"}
        | {"held_out_reason": "no items were left"},
    ),
    ("projection_points", {"run_id": 6, "item_id": 1, "x": 0.5, "y": -1.25}),
    ("projection_points", {"run_id": 6, "item_id": 3, "x": 0.5, "y": 2.0, "placed_by_run_id": 12}),
    (
        "projection_axes",
        {"run_id": 6, "axis": 0, "vector": struct.pack("<3d", 1, 2, 3.5), "variance_share": 0.5},
    ),
    ("folds", {"run_id": 7, "item_id": 1, "fold": 0, "group_key": "a"}),
    ("folds", {"run_id": 7, "item_id": 2, "fold": 1}),
    (
        "cv_predictions",
        {
            "run_id": 7,
            "space_id": 1,
            "k": 1,
            "weighting": "uniform",
            "item_id": 1,
            "fold": 0,
            "y_true": "cat",
            "y_pred": "dog",
            "score": 1.0,
            "neighbors_json": "[[2, 1.0]]",
        },
    ),
    (
        "cv_neighbors",
        {
            "run_id": 7,
            "space_id": 1,
            "item_id": 1,
            "neighbor_ids": struct.pack("<q", 2),
            "distances": struct.pack("<d", 1.0),
        },
    ),
    (
        "cv_metrics",
        {
            "id": 1,
            "run_id": 7,
            "space_id": 1,
            "k": 1,
            "weighting": "uniform",
            "metric": "accuracy",
            "value": 0.0,
        },
    ),
    (
        "cv_metrics",
        {
            "id": 2,
            "run_id": 7,
            "space_id": 1,
            "k": 1,
            "weighting": "uniform",
            "fold": 0,
            "metric": "r2",
            "reason": "one value only",
        },
    ),
    (
        "findings",
        {
            "id": 1,
            "run_id": 8,
            "kind": "duplicate",
            "item_id": 1,
            "other_item_id": 2,
            "score": 1.0,
            "evidence_json": '{"distance": 1.0}',
            "decision": "keep",
            "decided_at": T,
        },
    ),
    (
        "selections",
        {"id": 1, "name": "some", "how": "ids", "note": "by hand", "created_at": T},
    ),
    (
        "selections",
        {
            "id": 2,
            "name": "drawn",
            "how": "polygon",
            "polygon_json": "[[0, 0], [1, 0], [1, 1]]",
            "projection_run_id": 6,
            "created_at": T,
        },
    ),
    (
        "selections",
        {"id": 3, "name": "asked", "how": "sql", "sql": "select 1", "created_at": T},
    ),
    ("selection_items", {"selection_id": 1, "item_id": 1}),
    ("selection_items", {"selection_id": 2, "item_id": 3}),
]

# Written by triggers, or by the program itself.
FILLED_BY_OTHERS = ("vector_changes", "_sqlite_migrations")
