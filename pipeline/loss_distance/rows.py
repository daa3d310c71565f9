"""The rows of loss_distances: computed for one image after the other, written, and hashed."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import Outputs, forward
from nearsql.pipeline.detect.losses import OF_OBJECTS
from nearsql.pipeline.detect.weights import Detector
from nearsql.pipeline.loss_distance.detect_run import StoredPredictions
from nearsql.pipeline.loss_distance.image_side import ImageSide
from nearsql.pipeline.loss_distance.mask_losses import assigns_by_masks
from nearsql.pipeline.loss_distance.target_side import target_side
from nearsql.pipeline.row_hash import RowHash
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Rows in one INSERT.
_ROWS_PER_STATEMENT = 500

_INSERT = (
    "insert into loss_distances (run_id, target_item_id, image_item_id, component, distance, reason,"
    " normaliser, n_foreground) values "
)

# INDEXED BY, because SQLite would read all of the run instead.
_OF_AN_IMAGE = (
    "select target_item_id, component, distance, reason, normaliser, n_foreground"
    " from loss_distances indexed by loss_distances_image"
    " where image_item_id = ? and run_id = ? order by target_item_id, component"
)

# What the hash and a replay compare, row by row.
COLUMNS = (
    *("image_item_id", "target_item_id", "component"),
    *("distance", "reason", "normaliser", "n_foreground"),
)

# target item, component, distance, reason, normaliser, foreground anchors
Row = tuple[int, str, float | None, str | None, float | None, int | None]


class Evaluator:
    """A detector and the targets that images are held against."""

    def __init__(
        self,
        detector: Detector,
        predictions: StoredPredictions,
        item_ids: Sequence[int],
        targets: npt.NDArray[np.int64],
        components: Sequence[str],
    ) -> None:
        """targets: numbers, among the item ids, of those that are targets, ascending.

        Raises UserError when a stored prediction cannot be a target.
        """
        self.detector = detector
        self._components = sorted(components)
        self._numbers = targets
        self._ids = [item_ids[number] for number in targets]
        chosen = [predictions.targets[number] for number in targets]
        self._n_objects = [len(objects) for objects in chosen]
        self._n_without_mask = [sum(not o.has_mask for o in objects) for objects in chosen]
        try:
            self._targets = target_side(
                detector, chosen, [predictions.frames[number] for number in targets]
            )
        except ValueError as error:
            raise UserError(f"the stored predictions cannot be targets: {error}") from error

    def forward(self, square: npt.NDArray[np.uint8]) -> Outputs:
        """One forward pass of one image, as `letterbox` makes it."""
        return forward(self.detector, [square])

    def rows(self, outputs: Outputs, targets: npt.NDArray[np.int64]) -> list[Row]:
        """The distances of the image of that forward pass to the targets of these numbers.

        Ordered by target and component.
        """
        places = np.searchsorted(self._numbers, targets)
        chosen = torch.from_numpy(places).to(self.detector.device)
        losses = ImageSide(self.detector, outputs).losses(self._targets, chosen, self._components)
        columns = zip(
            places.tolist(),
            losses.normaliser.tolist(),
            losses.n_foreground.tolist(),
            *(losses.values[name].tolist() for name in self._components),
            strict=True,
        )
        rows: list[Row] = []
        for place, normaliser, n_foreground, *values in columns:
            target = self._ids[place]
            unassigned = self._why_unassigned(place)
            for component, value in zip(self._components, values, strict=True):
                if unassigned is not None:
                    rows.append((target, component, None, unassigned, None, None))
                    continue
                reason = self._why_undefined(component, place, value, n_foreground)
                distance = None if reason else value
                rows.append((target, component, distance, reason, normaliser, n_foreground))
        return rows

    def _why_unassigned(self, place: int) -> str | None:
        """Why no component is defined for a target: its objects cannot be given to anchors."""
        if self._n_without_mask[place] and assigns_by_masks(self.detector.criterion):
            return (
                f"{self._without_mask(place)}, and this model assigns predictions to anchors by"
                " their masks"
            )
        return None

    def _why_undefined(
        self, component: str, place: int, value: float, n_foreground: int
    ) -> str | None:
        if component in OF_OBJECTS:
            if not self._n_objects[place]:
                return "the target has no predictions"
            if not n_foreground:
                return "no anchor of the image was given to a prediction of the target"
        if component == "seg" and self._n_without_mask[place]:
            return self._without_mask(place)
        if not math.isfinite(value):
            return f"the criterion gives {value}"
        return None

    def _without_mask(self, place: int) -> str:
        n, of_all = self._n_without_mask[place], self._n_objects[place]
        return f"{n} of the target's {of_all} predictions have no mask"


def insert_rows(db: dbapi.Connection, run_id: int, image_item_id: int, rows: Sequence[Row]) -> None:
    """Writes one image's rows in the caller's transaction."""
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        part = rows[start : start + _ROWS_PER_STATEMENT]
        places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(part))
        db.execute(
            _INSERT + places,
            [value for row in part for value in (run_id, row[0], image_item_id, *row[1:])],
        )


def rows_sha256(images: Iterable[tuple[int, Iterable[Row]]]) -> str:
    """The SHA-256 of a run's rows: image by image in the order of ids, each by target and component."""
    digest = RowHash()
    for image_item_id, rows in images:
        for row in rows:
            digest.add((image_item_id, *row))
    return digest.hexdigest()


def stored_rows(db: dbapi.Connection, run_id: int) -> Iterator[tuple[int, list[Row]]]:
    """The rows that a run has in the file, image by image."""
    for image_item_id in images_done(db, run_id):
        yield image_item_id, db.execute(_OF_AN_IMAGE, (image_item_id, run_id)).fetchall()


def images_done(db: dbapi.Connection, run_id: int) -> list[int]:
    """The images that a run has rows of, ascending."""
    sql = read_sql(__package__, "images_done")
    return [item_id for (item_id,) in db.execute(sql, {"run": run_id})]
