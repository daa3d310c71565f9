"""Project: a space as a map of two coordinates for each item, or as a space of fewer dimensions.

    project_space(db, "digits/pixels", method="umap")
    project_space(db, "digits/pixels", method="umap", n_components=5)   # also digits/pixels/umap-5d

What computes is the SQL function `project`, with no transaction open; then one short transaction writes.
Of a map by PCA the axes are kept, too. Items that come later are placed by pipeline/place.py.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.map_forecast import tell
from nearsql.pipeline.map_tables import (
    axes_rows,
    axes_table,
    points_table,
    stored_points,
    vectors_table,
)
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import add_runs_read, refuse_if_changed, space_read_by
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.pipeline.vectors import insert_vectors
from nearsql.pipeline.within import (
    Within,
    items_in_space,
    recorded_within,
    within_ids,
    within_parameters,
)
from nearsql.udfs import dbapi
from nearsql.udfs.projection import Axes, Projection, Settings, effective
from nearsql.udfs.projection_functions import (
    Row,
    checked_settings,
    decided_neighbors,
    point_rows,
    projected,
)
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.spaces import find_space

PACKAGES = {
    "umap": ("umap-learn", "numba", "scipy", "scikit-learn", "faiss-cpu"),
    "tsne": ("openTSNE", "scipy", "scikit-learn", "faiss-cpu"),
    "pca": ("scipy", "scikit-learn"),
}


@dataclass(frozen=True, slots=True)
class ProjectResult:
    """How a projection went. made_space: the name of the new space, when there are over 2 components.

    parameters: the effective ones, which on few items may be less than those asked for. graph_run: whose
    stored neighbours were read, None when they were computed.
    """

    run_id: int
    space: str
    made_space: str | None
    parameters: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int | float] = field(default_factory=dict)
    graph_run: int | None = None


def project_space(
    db: dbapi.Connection,
    space: str,
    *,
    method: str = "umap",
    n_components: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    perplexity: float = 30.0,
    random_state: int | None = 42,
    neighbors: str = "auto",
    within: str | None = None,
    name: str | None = None,
    quiet: bool = True,
) -> ProjectResult:
    """Makes a map of the space, as a run; with more than 2 components, a space of kind projection too.

    The parameters are those of the SQL function `project`, within as `--within` has it. name: of the new
    space, by default `<space>/<method>-<n_components>d`. quiet: say nothing of the time and the
    memory it will take. Raises UserError when the name is taken, or the
    space changes while it is projected; SqlFunctionError for parameters that cannot be.
    """
    settings = checked_settings(
        method, n_components, n_neighbors, min_dist, perplexity, random_state, neighbors
    )
    source = space_input(db, space)
    dimensions, model_id = db.execute(
        "select dimensions, model_id from spaces where id = ?", (source.space_id,)
    ).fetchone()
    only = within_ids(db, within)
    n_items = items_in_space(db, source, only)
    settings = effective(settings, n_items, dimensions)
    way = decided_neighbors(
        db.apsw, find_space(db.apsw, space), settings, n_items, is_whole=only is None
    )
    parameters = {
        "space": space,
        **replace(settings, neighbors=way or settings.neighbors).parameters(),
        **within_parameters(only),
    }
    seed = parameters.get("random_state")
    made = None
    if n_components > 2:
        made = name or f"{space}/{method}-{n_components}d"
        _refuse_taken(db, made)
        parameters["name"] = made
    elif name is not None:
        raise UserError(
            "a map of 2 components is not made a space: give --name with more --n-components"
        )
    if not quiet:
        tell(db, space, n_items, parameters, settings.neighbors_needed)
    with run(
        db, "project", parameters=parameters, seed=seed, inputs=[source], packages=PACKAGES[method]
    ) as current:
        with current.timed("compute"), noting_graph_runs() as graphs:
            rows, found = _compute(db, space, parameters, only)
        axes = found.axes
        current.counts["items"] = len(rows)
        if axes is not None and np.isfinite(axes.variance_shares).all():
            current.counts["variance_share"] = round(float(axes.variance_shares.sum()), 4)
        if found.recall is not None:
            current.counts["graph_recall"] = round(found.recall, 4)
        current.result_sha256 = hash_rows(rows)
        with immediate(db):
            with current.timed("write"):
                refuse_if_changed(db, source)
                add_runs_read(current, graphs, "neighbors")
                db.executemany(
                    "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
                    ((current.id, item, x, y) for item, x, y, _ in rows),
                )
                if axes is not None:
                    _write_axes(db, current.id, axes)
                if made is not None:
                    _refuse_taken(db, made)
                    _write_space(db, current.id, made, n_components, model_id, rows)
            current.finish()
    return ProjectResult(
        current.id, space, made, parameters, dict(current.counts), max(graphs, default=None)
    )


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A map, computed anew."""
    if recorded.parameters.get("random_state", 0) is None:
        raise CannotReplay(
            f"run {recorded.id} was made without a seed: no other map is the same, "
            "so make it with --seed to be able to repeat it"
        )
    only = recorded_within(db, recorded)
    # Runs of before there was a choice took the true neighbours.
    parameters = {"neighbors": "exact", **recorded.parameters}
    rows, found = _compute(db, space_read_by(db, recorded), parameters, only)
    tables = [points_table(stored_points(db, recorded.id), rows)]
    if recorded.parameters["n_components"] > 2:
        tables.append(vectors_table(db, recorded.id, rows))
    if found.axes is not None:
        tables.append(axes_table(db, recorded.id, found.axes))
    return Again(tables, lambda: hash_rows(rows))


def _compute(
    db: dbapi.Connection, space: str, parameters: dict[str, Any], only: Within | None
) -> tuple[list[Row], Projection]:
    # A run records what its method looks at; the rest may be anything, and is the default.
    known = {name: parameters[name] for name in Settings.__dataclass_fields__ if name in parameters}
    ids = None if only is None else only.ids
    ids, found = projected(db.apsw, space, Settings(**known), ids)
    return list(point_rows(ids, found.coordinates)), found


def _write_axes(db: dbapi.Connection, run_id: int, axes: Axes) -> None:
    db.executemany(
        "insert into projection_axes (run_id, axis, vector, variance_share) values (?, ?, ?, ?)",
        ((run_id, *row) for row in axes_rows(axes)),
    )


def _refuse_taken(db: dbapi.Connection, name: str) -> None:
    row = db.execute("select run_id from spaces where name = ?", (name,)).fetchone()
    if row is not None:
        owner = f"made by run {row[0]}" if row[0] is not None else "there already"
        raise UserError(
            f"the space '{name}' is {owner}, and a run never overwrites: choose another with --name"
        )


def _write_space(
    db: dbapi.Connection,
    run_id: int,
    name: str,
    dimensions: int,
    model_id: int | None,
    rows: list[Row],
) -> None:
    """The projection as a space. Its coordinates are Euclidean, whatever the source's metric was."""
    space_id = db.execute(
        "insert into spaces (name, kind, model_id, run_id, dimensions, metric)"
        " values (?, 'projection', ?, ?, ?, 'l2')",
        (name, model_id, run_id, dimensions),
    ).lastrowid
    assert space_id is not None
    insert_vectors(db, space_id, run_id, [(item, vector) for item, _, _, vector in rows])
