"""What models learned, kept in the database: arrays in numpy's .npy format, never a pickle."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nearsql.udfs import dbapi

# SQLite's limit for one BLOB.
_MAX_BYTES = 1_000_000_000


def to_npy(array: npt.NDArray[Any]) -> bytes:
    """The array as the bytes of a .npy file. Raises ValueError for an array of Python objects."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes, *, dtype: Any, ndim: int) -> npt.NDArray[Any]:
    """The array from the bytes of a .npy file, if it has that type and number of dimensions.

    Raises ValueError for anything else; nothing in the bytes is ever executed.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, EOFError, SyntaxError) as error:
        raise ValueError(f"it is not a .npy array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype) or array.ndim != ndim:
        raise ValueError(f"it is not a .npy array of {np.dtype(dtype)} with {ndim} axes")
    return array


def save_arrays(db: dbapi.Connection, model_id: int, arrays: Mapping[str, bytes]) -> None:
    """Writes a model's arrays, in the caller's transaction. Raises ValueError for one too large."""
    for name, data in arrays.items():
        if len(data) > _MAX_BYTES:
            raise ValueError(
                f"the model's {name} takes {len(data):,} bytes, more than the {_MAX_BYTES:,} that one"
                " value of a database can have: ask for fewer features or dimensions"
            )
        db.execute(
            "insert into model_arrays (model_id, name, data) values (?, ?, ?)",
            (model_id, name, data),
        )


def load_arrays(db: dbapi.Connection, model_id: int) -> dict[str, bytes]:
    """A model's arrays by name; empty for a model that learned nothing."""
    return dict(db.execute("select name, data from model_arrays where model_id = ?", (model_id,)))
