"""What the columns of an older store's tables mean.

Such stores have BLOB tables (`embeddings`, with losses and metrics in columns beside the vector;
`umap_<hash>` and `tsne_<hash>` with comp_0, comp_1, ... or x, y) and sqlite-vec's tables (`vec_projections`,
`vec_metrics`, ...), and a table `metadata` that gives each run_id its parameters.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearsql.pipeline.importing.matrices import ID_COLUMNS, VECTOR_COLUMNS
from nearsql.pipeline.ingest.writer import as_json

MODEL_COLUMNS = ("model", "model_name", "encoder")
RUN_COLUMNS = ("run_id", "run")
TEXT_COLUMNS = ("content", "text", "body")
COUNTS = ("n_gt", "n_pred", "tp", "fp", "fn")
SHARES = ("mean_iou", "mean_iou_gt", "mean_conf", "hit_freq", "dice_score")
FLAGS = ("flag_cat", "flag_supercat")
DISTRIBUTIONS = ("category_distribution", "category_distribution_json")
METRICS = (*COUNTS, *SHARES, *FLAGS, *DISTRIBUTIONS)
_PARAMETERS = ("params", "params_json", "parameters", "parameters_json", "config")

# Older stores have this number where there is none: a loss without targets, a metric without matches.
UNDEFINED = 424242.0

_MAP = re.compile(r"(umap|tsne|t_sne|pca|projection)_(\w+)", re.IGNORECASE)
_LOSS = re.compile(r"(?:(\w+)_loss|loss_(\w+)|(loss))", re.IGNORECASE)
_VEC0 = re.compile(r"\busing\s+vec0\s*\(", re.IGNORECASE)
_VEC0_VECTOR = re.compile(
    r"(?:^|[(,])\s*[\"`\[]?(\w+)[\"`\]]?\s+(\w+)\s*\[\s*(\d+)\s*\]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a table is what.

    id: None for the row's number. losses: component by column. others: kept as metadata of new items.
    space_kind: of what the table's vectors make. dimensions: when the table's declaration says it.
    """

    id: str | None
    run: str | None = None
    model: str | None = None
    text: str | None = None
    vector: str | None = None
    coordinates: tuple[str, ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    space_kind: str = "embedding"
    dimensions: int | None = None

    def names(self) -> list[str]:
        """All columns that are read, but the run's and the model's."""
        single = [name for name in (self.id, self.text, self.vector) if name is not None]
        return [*single, *self.coordinates, *self.losses, *self.metrics, *self.others]


def columns_of(
    table: str, sql: str, names: Sequence[str], asked: Mapping[str, str | None]
) -> Columns | None:
    """What a table's columns mean; None when it holds neither vectors nor coordinates.

    sql: its declaration. asked: id, text and vector, where the user names the columns.
    """
    is_vec0 = _VEC0.search(sql) is not None
    declared = vec0_vectors(sql) if is_vec0 else {}
    mapped = _MAP.fullmatch(table)
    coordinates = () if is_vec0 else _coordinates(names)
    vector = _first(names, asked["vector"], tuple(declared) if is_vec0 else VECTOR_COLUMNS)
    if vector is None and not (mapped and coordinates):
        return None
    if vector is not None:
        coordinates = ()
    losses = {name: component for name in names if (component := _component(name))}
    columns = Columns(
        id=_first(names, asked["id"], ID_COLUMNS),
        run=_first(names, None, RUN_COLUMNS),
        model=_first(names, None, MODEL_COLUMNS),
        text=_first(names, asked["text"], TEXT_COLUMNS),
        vector=vector,
        coordinates=coordinates,
        losses={} if vector is None else losses,
        metrics=() if vector is None else tuple(name for name in names if name in METRICS),
        space_kind=_space_kind(table, bool(mapped)),
        dimensions=declared.get(vector or ""),
    )
    known = {*columns.names(), columns.run, columns.model, "distance", "k"}
    others = () if vector is None else tuple(name for name in names if name not in known)
    return Columns(
        **{name: getattr(columns, name) for name in Columns.__slots__} | {"others": others}
    )


def vec0_vectors(sql: str) -> dict[str, int]:
    """The float columns of a vec0 table with their dimensions."""
    return {
        name: int(dimensions)
        for name, kind, dimensions in _VEC0_VECTOR.findall(sql)
        if kind.lower() in ("float", "f32") and int(dimensions) > 0
    }


def hash_of_map(table: str) -> tuple[str, str] | None:
    """Method and hash of a table like umap_1f3a; None for another."""
    found = _MAP.fullmatch(table)
    return None if found is None else (found[1].lower().replace("t_sne", "tsne"), found[2])


def run_parameters(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each run's parameters, from the rows of `metadata`: the JSON of its params, and its other columns."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells = {name: storable(value) for name, value in row.items()}
        run_id = next((str(cells.pop(name)) for name in RUN_COLUMNS if name in cells), None)
        if run_id is None:
            continue
        parameters: dict[str, Any] = {}
        for name in _PARAMETERS:
            if name in cells:
                value = parsed(cells.pop(name))
                parameters |= value if isinstance(value, dict) else {name: value}
        for name, value in cells.items():
            parameters.setdefault(name, value)
        found[run_id] = parameters
    return found


def defined(value: Any) -> Any:
    """The value, or None where the store says by its number that there is none."""
    return None if value == UNDEFINED else value


def parsed(value: Any) -> Any:
    """A text that is JSON as what it says; another one, and what JSON cannot give back, as it is."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
        as_json({"value": found})
    except (ValueError, RecursionError):
        return value
    return found


def storable(value: Any) -> Any:
    """A cell as JSON can hold it; bytes in hexadecimal."""
    return value.hex() if isinstance(value, bytes) else value


def _component(column: str) -> str | None:
    found = _LOSS.fullmatch(column)
    if found is None:
        return None
    component = (found[1] or found[2] or "total").lower()
    return "seg" if component in ("mask", "segmentation") else component


def _coordinates(names: Sequence[str]) -> tuple[str, ...]:
    """comp_0, comp_1, ... as far as they go, or x, y and z."""
    found: list[str] = []
    while f"comp_{len(found)}" in names:
        found.append(f"comp_{len(found)}")
    if not found and "x" in names and "y" in names:
        found = [name for name in ("x", "y", "z") if name in names]
    return tuple(found)


def _space_kind(table: str, is_map: bool) -> str:
    if is_map or "projection" in table.lower():
        return "projection"
    return "metric" if "metric" in table.lower() else "embedding"


def _first(names: Sequence[str], asked: str | None, candidates: Sequence[str]) -> str | None:
    if asked is not None and asked in names:
        return asked
    return next((name for name in candidates if name in names), None)
