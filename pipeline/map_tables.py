"""What a map is made of, as it is stored and as a replay computes it: points, vectors, axes."""

from collections.abc import Iterable, Sequence

import numpy as np

from nearsql.pipeline.result_tables import ResultTable, Row
from nearsql.udfs import dbapi
from nearsql.udfs.projection import Axes

# item, x, y, vector: what the SQL functions of maps give
Point = tuple[int, float, float, bytes]


def points_table(stored: Iterable[Row], again: Sequence[Point]) -> ResultTable:
    """The coordinates, by item."""
    columns = ("item_id", "x", "y")
    return ResultTable("projection_points", columns, 1, stored, (row[:3] for row in again))


def stored_points(db: dbapi.Connection, run_id: int) -> Iterable[Row]:
    """(item, x, y) of those that the run saw, and not of those placed among them later."""
    return db.execute(
        "select item_id, x, y from projection_points"
        " where run_id = ? and placed_by_run_id is null order by item_id",
        (run_id,),
    ).fetchall()


def vectors_table(db: dbapi.Connection, run_id: int, again: Sequence[Point]) -> ResultTable:
    """The vectors that the run wrote into the space that a map of more than two components is."""
    stored = db.execute(
        "select item_id, vector from vectors where run_id = ? order by item_id", (run_id,)
    ).fetchall()
    found = ((item, vector) for item, _, _, vector in again)
    return ResultTable("vectors", ("item_id", "vector"), 1, stored, found, {"vector": "<f4"})


def axes_table(db: dbapi.Connection, run_id: int, axes: Axes) -> ResultTable:
    """What a map by PCA keeps to place other vectors by."""
    stored = db.execute(
        "select axis, vector, variance_share from projection_axes where run_id = ? order by axis",
        (run_id,),
    ).fetchall()
    columns = ("axis", "vector", "variance_share")
    return ResultTable("projection_axes", columns, 1, stored, axes_rows(axes), {"vector": "<f8"})


def axes_rows(axes: Axes) -> list[Row]:
    """The mean as axis 0, then the axes, with what share of the variance each has."""
    shares = [None if np.isnan(share) else share for share in axes.variance_shares.tolist()]
    vectors = np.vstack([axes.mean, axes.directions]).astype("<f8")
    return [
        (axis, vector.tobytes(), share)
        for axis, (vector, share) in enumerate(zip(vectors, [None, *shares], strict=True))
    ]
