"""What a detect run's result depends on, as the run records it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nearsql.pipeline.console import UserError

# Predictions below this are stored when --conf asks for them, but do not count as detections.
METRICS_CONF = 0.25

LARGEST_IMGSZ = 4096
SMALLEST_STEP = 32  # of imgsz; a model with a P6 head takes steps of 64


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective settings of a detect run. The names are ultralytics' own.

    Two runs of the same model with equal settings give the same rows for the same image and truth.
    """

    checkpoint_sha256: str
    imgsz: int = 640  # side of the square that every image is letterboxed into, in pixels
    conf: float = 0.25  # predictions below it are not stored
    iou: float = 0.7  # non-maximum suppression drops a box that overlaps a better one by more
    max_det: int = 300
    multi_label: bool = False  # one box may be predicted as several classes, as in ultralytics' val
    metrics_conf: float = METRICS_CONF
    layers: tuple[str, ...] = ()  # besides p3, p4, p5: layers whose averages become spaces
    feature_maps: tuple[str, ...] = ()  # layers whose whole maps are stored
    supercategories: Mapping[str, str] | None = (
        None  # class -> supercategory; None: the collection's
    )
    autocast: str | None = None  # the type of a forward pass on a GPU; losses are always float32

    def check(self, stride: int = SMALLEST_STEP) -> None:
        """Raises UserError for a value that makes no sense. stride: the model's largest."""
        step = max(stride, SMALLEST_STEP)
        if not 0 < self.imgsz <= LARGEST_IMGSZ or self.imgsz % step:
            raise UserError(
                f"--imgsz must be a multiple of {step} up to {LARGEST_IMGSZ},"
                f" such as 640, not {self.imgsz}"
            )
        for name in ("conf", "iou", "metrics_conf"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be from 0 to 1, not {value}")
        if self.max_det < 1:
            raise UserError(f"--max-det must be at least 1, not {self.max_det}")
        if self.conf > self.metrics_conf:
            raise UserError(
                f"--conf {self.conf} stores fewer predictions than the metrics count"
                f" (--metrics-conf {self.metrics_conf}): give a lower --conf or a higher --metrics-conf"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, for a run's parameters."""
        values = asdict(self)
        values["layers"], values["feature_maps"] = list(self.layers), list(self.feature_maps)
        values["supercategories"] = dict(self.supercategories) if self.supercategories else None
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Settings":
        """The settings that a run recorded."""
        plain = dict(values)
        plain["layers"], plain["feature_maps"] = (
            tuple(plain["layers"]),
            tuple(plain["feature_maps"]),
        )
        return cls(**plain)

    def as_text(self) -> str:
        """JSON with sorted keys: what equal settings have in common."""
        return json.dumps(self.as_json(), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Parameters:
    """All that a detect run records: the settings, and what only says where and how fast."""

    weights: str  # path of the checkpoint when the run was made
    model: str
    collection: str | None
    batch: int
    settings: Settings
    computation: Mapping[str, Any] = field(default_factory=dict)  # see devices.computation

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "settings": self.settings.as_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Parameters":
        return cls(**{**values, "settings": Settings.from_json(values["settings"])})
