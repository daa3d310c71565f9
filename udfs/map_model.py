"""What places vectors on the map of a finished run, read from the database."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.map_places import MemberPlaces
from nearsql.udfs.projection import FEWEST_POINTS, Axes, Coordinates, Settings
from nearsql.udfs.run_members import finished_run, members_of_run
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.space_points import normalized
from nearsql.udfs.spaces import Space, find_space
from nearsql.udfs.sql_files import read_sql

Poll = Callable[[], None]


@dataclass(frozen=True, slots=True)
class MapRun:
    """A finished run of `nearsql project`."""

    id: int
    space: Space  # that it read
    settings: Settings  # effective ones
    fingerprint: tuple[Any, ...]  # what tells it from a later run of its id


@dataclass(frozen=True, slots=True)
class _Placer:
    """Places vectors of the space that a map is of."""

    run: MapRun
    by: Axes | MemberPlaces

    def place(self, rows: NDArray[np.float32], poll: Poll = lambda: None) -> Coordinates:
        """The coordinates, (m, n_components), of vectors (m, d) as the space would store them."""
        if isinstance(self.by, MemberPlaces):
            return self.by.place(rows, poll)
        return self.by.place(normalized(rows) if self.run.space.metric == "cosine" else rows)


def find_map(db: apsw.Connection, run: int) -> _Placer:
    """What places vectors on the map of a run.

    Raises SqlFunctionError when there is no such run, when it made no map, or, unless PCA made it, when
    its members' vectors are no longer those that it read.
    """
    found = map_run(db, run)
    if found.settings.method == "pca":
        return _Placer(found, _axes(db, found))
    matrix = load_matrix(db, found.space)
    with _lock:
        models = _models.setdefault(matrix, {})
        model = models.get(run)
    if model is None or model[0] != found.fingerprint:
        model = (found.fingerprint, _member_places(db, found, matrix))
        with _lock:
            models[run] = model
    return _Placer(found, model[1])


# Models by the matrix they stand on: when the cache of matrices lets go of one, they go with it.
_models: weakref.WeakKeyDictionary[Matrix, dict[int, tuple[Any, MemberPlaces]]] = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


def map_run(db: apsw.Connection, run: int) -> MapRun:
    """The run that made a map; raises SqlFunctionError for any other."""
    asked, space, fingerprint = finished_run(db, run, "project", called="maps", lacks="no map")
    if space is None:
        raise SqlFunctionError(f"the space that run {run} mapped is deleted")
    known = {name: asked[name] for name in Settings.__dataclass_fields__ if name in asked}
    return MapRun(run, find_space(db, space), Settings(**known), fingerprint)


def made_space(db: apsw.Connection, run: MapRun) -> tuple[int, str]:
    """Id and name of the space that a map of more than 2 components made."""
    row = db.execute(
        "select id, name from spaces where run_id = ? and kind = 'projection' and dimensions = ?",
        (run.id, run.settings.n_components),
    ).fetchone()
    if row is None:
        raise SqlFunctionError(f"the space that run {run.id} made is deleted: project again")
    return cast(Any, row)


def _axes(db: apsw.Connection, run: MapRun) -> Axes:
    rows = cast(
        Any,
        db.execute(
            "select axis, vector, variance_share from projection_axes where run_id = ? order by axis",
            (run.id,),
        ).fetchall(),
    )
    vectors = [np.frombuffer(vector, "<f8") for _, vector, _ in rows]
    shares = np.array([share for _, _, share in rows[1:]], np.float64)  # None becomes NaN
    if [axis for axis, _, _ in rows] != list(range(run.settings.n_components + 1)) or any(
        vector.shape != (run.space.dimensions,) or not np.isfinite(vector).all()
        for vector in vectors
    ):
        raise SqlFunctionError(
            f"run {run.id} has not stored the axes of its map: project the space again"
        )
    return Axes(vectors[0], np.stack(vectors[1:]), shares)


def _member_places(db: apsw.Connection, run: MapRun, matrix: Matrix) -> MemberPlaces:
    if run.settings.n_components == 2:
        rows = cast(Any, db.execute(read_sql(__package__, "map_members"), {"run": run.id}))
        ids, places = _points(rows)
    else:
        space_id, _ = made_space(db, run)
        rows = cast(
            Any,
            db.execute(
                "select item_id, vector from vectors where space_id = ? and run_id = ?"
                " order by item_id",
                (space_id, run.id),
            ),
        )
        ids, places = _vectors(rows, run.settings.n_components)
    if len(ids) < FEWEST_POINTS or not np.isfinite(places).all():
        raise SqlFunctionError(f"run {run.id} has lost the places of its items: project again")
    there = members_of_run(db, run.id, matrix, ids, "project")
    # A copy that shares the arrays: `_models` must not hold on to its own keys.
    return MemberPlaces(replace(there), places, run.settings)


def _points(rows: Any) -> tuple[NDArray[np.int64], Coordinates]:
    found = np.fromiter(rows, np.dtype([("id", np.int64), ("x", np.float32), ("y", np.float32)]))
    return found["id"].copy(), np.column_stack([found["x"], found["y"]])


def _vectors(rows: Any, dimensions: int) -> tuple[NDArray[np.int64], Coordinates]:
    ids, vectors = [], []
    for item, vector in rows:
        ids.append(item)
        vectors.append(np.frombuffer(vector, "<f4"))
    return np.array(ids, np.int64), np.array(vectors, np.float32).reshape(-1, dimensions)
