"""What an embedding run has left in the database, for tests."""

import json
from typing import Any

import numpy as np

from nearsql.udfs import dbapi


def vectors(db: dbapi.Connection, space: str) -> np.ndarray:
    """A space's, by item."""
    rows = db.execute(
        "select v.vector from vectors v join spaces s on s.id = v.space_id where s.name = ?"
        " order by v.item_id",
        (space,),
    ).fetchall()
    return np.array([np.frombuffer(vector, "<f4") for (vector,) in rows])


def model_row(db: dbapi.Connection, space: str) -> tuple[str, str, str, str | None, dict[str, Any]]:
    """Name, family, checkpoint_sha256, licence and parameters of the model that a space is of."""
    row = db.execute(
        "select m.name, m.family, m.checkpoint_sha256, m.licence, m.parameters_json"
        " from spaces s join models m on m.id = s.model_id where s.name = ?",
        (space,),
    ).fetchone()
    return (*row[:4], json.loads(row[4]))
