"""Ground truth: boxes, outlines and classes of images, from YOLO label files or COCO JSON."""

from nearsql.pipeline.annotations.annotate import (
    FORMATS,
    AnnotateResult,
    Format,
    Labels,
    annotate,
    annotate_with,
    open_labels,
    recompute,
)

__all__ = [
    "FORMATS",
    "AnnotateResult",
    "Format",
    "Labels",
    "annotate",
    "annotate_with",
    "open_labels",
    "recompute",
]
