"""What a detector says of an image as rows of the database: written by a run, hashed by it and its replay."""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any

from nearsql.pipeline.detect.judge import Judged
from nearsql.pipeline.row_hash import RowHash, hash_rows
from nearsql.pipeline.runs import Run, immediate
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi

NOT_ANNOTATED = "nobody annotated this image"

# The columns of each table behind (run_id, item_id), in the order of the rows below.
COLUMNS = {
    "predictions": (
        *("class_id", "class_name", "confidence", "x_min", "y_min", "x_max", "y_max"),
        *("mask_json", "matched_annotation_id", "iou"),
    ),
    "losses": ("component", "value", "reason", "normaliser"),
    "image_metrics": (
        *("n_gt", "n_pred", "tp", "fp", "fn", "mean_iou", "mean_iou_gt", "mean_conf", "hit_freq"),
        *("dice_score", "category_distribution_json", "flag_cat", "flag_supercat", "truth_sha256"),
    ),
    "feature_maps": ("layer", "shape_json", "dtype", "codec", "data"),
}

# What a result's hash leaves out: when annotations are replaced, the file forgets the old ones' ids.
_NOT_HASHED = "matched_annotation_id"

# By what the rows of one item are sorted, in the file as here.
_ORDER = {
    "predictions": "id",
    "losses": "component",
    "image_metrics": "item_id",
    "feature_maps": "layer",
}


@dataclass(frozen=True, slots=True)
class ItemRows:
    """One image's rows, by table, without run and item; and its vectors by layer."""

    item_id: int
    tables: Mapping[str, list[tuple[Any, ...]]]
    vectors: Mapping[str, bytes]


def item_rows(judged: Judged, classes: tuple[str, ...], components: tuple[str, ...]) -> ItemRows:
    """The rows of an image that was judged without a problem."""
    metrics = judged.metrics
    assert metrics is not None
    targets = judged.truth.targets if judged.truth else []
    matched = {found: (targets[target].id, float(iou)) for found, target, iou in metrics.matches}
    predictions = [
        (
            found.class_index,
            classes[found.class_index],
            float(found.confidence),
            *map(_real, found.box),
            json.dumps(found.mask) if found.mask is not None else None,
            *matched.get(number, (None, None)),
        )
        for number, found in enumerate(judged.detections)
    ]
    return ItemRows(
        judged.item_id,
        {
            "predictions": predictions,
            "losses": sorted(_losses(judged, components)),
            "image_metrics": [
                (
                    *(metrics.n_gt, metrics.n_pred, metrics.tp, metrics.fp, metrics.fn),
                    *map(_real, (metrics.mean_iou, metrics.mean_iou_gt, metrics.mean_conf)),
                    *map(_real, (metrics.hit_freq, metrics.dice_score)),
                    json.dumps(metrics.category_distribution, sort_keys=True),
                    *map(_flag, (metrics.flag_cat, metrics.flag_supercat)),
                    judged.truth.sha256 if judged.truth else None,
                )
            ],
            "feature_maps": [
                (layer, json.dumps(list(map_.shape)), "float16", "raw", map_.data)
                for layer, map_ in sorted(judged.feature_maps.items())
            ],
        },
        judged.features,
    )


def forget(run: Run, item_ids: Sequence[int]) -> None:
    """Deletes what a resumed run had said of images that it is to judge again, errors included.

    Their vectors stay: they are of the image and the model alone.
    """
    with immediate(run.db):
        for table in (*COLUMNS, "item_errors"):
            run.db.execute(
                f"delete from {table} where run_id = ?"
                " and item_id in (select value from json_each(?))",
                (run.id, json.dumps(item_ids)),
            )


def _losses(judged: Judged, components: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    losses = judged.losses
    for component in components:
        if losses is None:
            yield component, None, NOT_ANNOTATED, None
        else:
            value = losses.values[component]
            reason = losses.reasons.get(component)
            yield component, _real(value), reason, _real(losses.normaliser)


def write_rows(run: Run, rows: Iterable[ItemRows], spaces: Mapping[str, int]) -> None:
    """Writes images' rows in the caller's transaction. spaces: layer -> space id."""
    rows = list(rows)
    for table, columns in COLUMNS.items():
        names = ", ".join(("run_id", "item_id", *columns))
        places = ", ".join("?" * (2 + len(columns)))
        run.db.executemany(
            f"insert into {table} ({names}) values ({places})",
            [(run.id, one.item_id, *row) for one in rows for row in one.tables[table]],
        )
    for layer, space_id in spaces.items():
        # An earlier run may have given the item its vector: the image and the model are the same.
        insert_vectors(
            run.db, space_id, run.id, [(one.item_id, one.vectors[layer]) for one in rows]
        )


class ResultHash:
    """The SHA-256 of what a run says, in item order: the same from the images and from the file.

    written: the (item id, layer) whose vector is this run's. An item that got its vector from an
    earlier run keeps it, and it is that run's result.
    """

    def __init__(self, written: Collection[tuple[int, str]]) -> None:
        self._written = written
        self._digests = {table: RowHash() for table in (*COLUMNS, "vectors")}

    def add(self, rows: ItemRows) -> None:
        """One image's rows; images come in the order of their ids."""
        for table, found in rows.tables.items():
            for row in found:
                self._digests[table].add((rows.item_id, *hashed_row(table, row)))
        for layer, vector in sorted(rows.vectors.items()):
            if (rows.item_id, layer) in self._written:
                self._digests["vectors"].add((rows.item_id, layer, vector))

    def hexdigest(self) -> str:
        """Of all tables together."""
        return _together(self._digests)


def hashed_columns(table: str) -> tuple[str, ...]:
    """The columns behind the item that a result's hash takes in."""
    return tuple(column for column in COLUMNS[table] if column != _NOT_HASHED)


def hashed_row(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of a row of ItemRows, the values of `hashed_columns`."""
    return tuple(v for c, v in zip(COLUMNS[table], row, strict=True) if c != _NOT_HASHED)


def stored_sql(table: str, *, of_one: bool = False) -> str:
    """Asks for item and hashed columns of what :run says, in order; of one :item, or of all."""
    return (
        f"select item_id, {', '.join(hashed_columns(table))} from {table} where run_id = :run"
        f"{' and item_id = :item' if of_one else ''} order by item_id, {_ORDER[table]}"
    )


def stored_sha256(db: dbapi.Connection, run_id: int) -> str:
    """The ResultHash of what the file has of a run."""
    digests = {table: RowHash() for table in (*COLUMNS, "vectors")}
    for table in COLUMNS:
        for row in db.execute(stored_sql(table), {"run": run_id}):
            digests[table].add(row)
    # Each space in item order by its index, and merged: sorting would copy every vector.
    spaces = db.execute(_SPACES_SQL, (run_id,)).fetchall()
    by_space = [db.execute(_VECTORS_SQL, (layer, space_id, run_id)) for space_id, layer in spaces]
    for row in merge(*by_space, key=lambda row: row[:2]):
        digests["vectors"].add(row)
    return _together(digests)


def written_vectors(db: dbapi.Connection, run_id: int) -> list[tuple[int, str]]:
    """The (item id, layer) of the feature vectors that a run wrote, in order."""
    return db.execute(_WRITTEN_SQL, (run_id,)).fetchall()


def _together(digests: Mapping[str, RowHash]) -> str:
    return hash_rows((table, digest.hexdigest()) for table, digest in sorted(digests.items()))


# A feature space is called MODEL/gap/LAYER.
_LAYER = "substr(s.name, instr(s.name, '/gap/') + 5)"
_WRITTEN_SQL = (
    f"select v.item_id, {_LAYER} as layer from vectors v join spaces s on s.id = v.space_id"
    " where v.run_id = ? and s.kind = 'feature' order by v.item_id, layer"
)
_SPACES_SQL = (
    f"select s.id, {_LAYER} from spaces s where s.kind = 'feature'"
    " and exists (select 1 from vectors v where v.run_id = ? and v.space_id = s.id)"
)
# The + keeps SQLite from finding the run by its index, and sorting then.
_VECTORS_SQL = (
    "select item_id, ?, vector from vectors where space_id = ? and +run_id = ? order by item_id"
)

VECTORS_OF_RUN = (
    "select count(*) from vectors v join spaces s on s.id = v.space_id"
    " where v.run_id = ? and s.kind = 'feature'"
)


def _real(value: float | None) -> float | None:
    """As SQLite stores it: a REAL column gives back 1.0 for 1, 0.0 for -0.0, and NULL for NaN."""
    return None if value is None or math.isnan(value) else float(value) + 0.0


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)
