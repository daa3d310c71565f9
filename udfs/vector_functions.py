"""SQL functions that make, read and compare single vectors. Beside them stand sqlite-vec's vec_*."""

from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.arguments import json_value, one_of, shown, shown_json, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.spaces import find_space

METRICS = ("cosine", "l2", "ip")


def parse_vector(name: str, value: Any, dimensions: int | None = None) -> NDArray[np.float32]:
    """The float32 vector in a BLOB or a JSON array: (d,), finite, of the wanted length if one is given."""
    if isinstance(value, bytes):
        if not value or len(value) % 4:
            raise SqlFunctionError(
                f"{name} must be a vector of float32 numbers, 4 bytes each, not {shown(value)}"
            )
        vector = np.frombuffer(value, "<f4").astype(np.float32)
    elif isinstance(value, str):
        vector = _from_json(name, value)
    else:
        raise SqlFunctionError(f"{name} must be a vector BLOB or a JSON array, not {shown(value)}")
    if not np.isfinite(vector).all():
        raise SqlFunctionError(
            f"{name} must hold finite float32 numbers, and number {int(np.isfinite(vector).argmin()) + 1} "
            f"is not"
        )
    if dimensions is not None and len(vector) != dimensions:
        raise SqlFunctionError(f"{name} has {len(vector)} dimensions, not {dimensions}")
    return vector


def _from_json(name: str, text: str) -> NDArray[np.float32]:
    return from_numbers(name, json_value(name, text))


def from_numbers(name: str, numbers: Any) -> NDArray[np.float32]:
    """The float32 vector of a list of numbers."""
    if not isinstance(numbers, list) or not numbers:
        raise SqlFunctionError(
            f"{name} must be a JSON array of at least one number, not {shown_json(numbers)}"
        )
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise SqlFunctionError(f"{name} must hold only numbers, and holds {shown_json(number)}")
    try:
        wide = np.array([float(number) for number in numbers])
    except OverflowError:  # an integer of hundreds of digits
        raise SqlFunctionError(
            f"{name} must hold finite float32 numbers, and one has hundreds of digits"
        ) from None
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused
        return wide.astype(np.float32)


def to_blob(vector: NDArray[Any]) -> bytes:
    """The vector as `vectors.vector` stores it: float32, little-endian."""
    return vector.astype("<f4").tobytes()


@sql_function(example="select hex(vector('[1, 0.5]'))")
def vector(value: bytes | str | None) -> bytes | None:
    """A vector as a float32 BLOB, from a JSON array or a BLOB, which is checked.

    Every number must be finite. NULL gives NULL.
    """
    return None if value is None else to_blob(parse_vector("value", value))


@sql_function(example="select vector_json(vector('[1, 0.1]'))")
def vector_json(vector: bytes | str | None) -> str | None:
    """A vector as a JSON array, each number written as short as it reads back to the same float32."""
    if vector is None:
        return None
    return "[" + ", ".join(str(number) for number in parse_vector("vector", vector)) + "]"


@sql_function(example="select vector_dimensions(vector('[1, 2, 3]'))")
def vector_dimensions(vector: bytes | str | None) -> int | None:
    """How many numbers a vector holds."""
    return None if vector is None else len(parse_vector("vector", vector))


@sql_function(example="select vector_norm('[3, 4]')")
def vector_norm(vector: bytes | str | None) -> float | None:
    """The Euclidean length of a vector."""
    if vector is None:
        return None
    return float(np.linalg.norm(parse_vector("vector", vector).astype(np.float64)))


@sql_function(example="select vector_distance('[1, 0]', '[0, 1]', 'cosine')")
def vector_distance(
    a: bytes | str | None, b: bytes | str | None, metric: str = "cosine"
) -> float | None:
    """The distance between two vectors, computed in float64, as `knn` measures it.

    metric: cosine (1 - cos; a vector of zeros is at 1 from everything), l2 (the Euclidean distance), or
    ip (minus the inner product). NULL if either vector is.
    """
    one_of("metric", metric, METRICS)
    if a is None or b is None:
        return None
    x = parse_vector("a", a).astype(np.float64)
    y = parse_vector("b", b, len(x)).astype(np.float64)
    if metric == "l2":
        return float(np.sqrt(((x - y) * (x - y)).sum()))
    product = float((x * y).sum())
    if metric == "ip":
        return 0.0 - product
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip(1 - product / size, 0, 2)) if size > 0 else 1.0


@sql_function(example="select vector_dimensions(vector_of('digits/pixels', 1))")
def vector_of(db: apsw.Connection, space: str, item: int | None) -> bytes | None:
    """The vector of an item in a space, NULL if it has none."""
    found = find_space(db, space)
    if item is None:
        return None
    whole_number("item", item, at_least=-(2**63))
    row = db.execute(
        "select vector from vectors where space_id = ? and item_id = ?", (found.id, item)
    ).fetchone()
    return None if row is None else cast(bytes, row[0])


@sql_function(
    kind="aggregate",
    example='select vector_json(centroid(value)) from json_each(\'["[0, 1]", "[1, 0]"]\')',
)
class Centroid:
    """The mean of vectors, summed up in float64; NULL if there are none. NULLs do not count.

    Refuses vectors of different lengths.
    """

    def __init__(self) -> None:
        self.sum: NDArray[np.float64] | None = None
        self.count = 0

    def step(self, vector: bytes | str | None) -> None:
        """Adds the vector of one row."""
        if vector is None:
            return
        if self.sum is None:
            self.sum = parse_vector("vector", vector).astype(np.float64)
        else:
            self.sum += parse_vector("vector", vector, len(self.sum))
        self.count += 1

    def final(self) -> bytes | None:
        """The mean as a float32 BLOB."""
        return None if self.sum is None else to_blob(self.sum / self.count)
