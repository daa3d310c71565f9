"""Numbers as sources store them, as float32 vectors: what would not fit is a sentence, what is rounded is told."""

import json
import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.importing.parts import Id, Row

_MAGIC = b"\x93NUMPY"


class BadNumbers(Exception):
    """The value is no vector; the sentence says why."""


def npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype of an array in numpy's format; reads up to its data.

    Raises BadNumbers for arrays of objects, which only pickle could load, and for what is no such array.
    """
    try:
        version = np.lib.format.read_magic(file)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise BadNumbers(f"its format version {version[0]}.{version[1]} is not 1.0 or 2.0")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Reading `.npy`")  # to save it anew: no need of ours
            shape, is_fortran, dtype = readers[version](file)
    except BadNumbers:
        raise
    except Exception as error:  # numpy tokenizes the header as Python, with all the errors of that
        raise BadNumbers("it is no array in numpy's format: its header cannot be read") from error
    if dtype.hasobject:
        raise BadNumbers(
            "it holds Python objects, which only pickle could load: save it as numbers"
        )
    if any(side < 0 for side in shape):
        raise BadNumbers(f"its shape is {shape}")
    return shape, is_fortran, dtype


def check_number_type(dtype: np.dtype[Any]) -> None:
    """Raises BadNumbers for anything but real numbers."""
    if dtype.kind not in "fiu":
        raise BadNumbers(f"it holds {dtype}, not real numbers")


def vector_of(value: Any, dtype: str) -> NDArray[Any]:
    """A stored vector, (d,), of whatever number type it has.

    A BLOB is bare little-endian numbers of the dtype, or an array in numpy's format; a text is a JSON array.
    Nothing is unpickled. Raises BadNumbers.
    """
    if isinstance(value, bytes):
        if value.startswith(_MAGIC):
            return _npy_blob(value)
        size = np.dtype(dtype).itemsize
        if not value or len(value) % size:
            raise BadNumbers(
                f"its BLOB has {len(value):,} bytes, which is no number of {dtype} numbers"
            )
        return np.frombuffer(value, np.dtype(dtype).newbyteorder("<"))
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadNumbers(f"{value[:40]!r} is no JSON array of numbers") from None
    if not isinstance(value, list) or not value:
        raise BadNumbers(
            "it has no vector" if value is None else "its vector is no list of numbers"
        )
    if not all(type(number) in (int, float) for number in value):
        raise BadNumbers("its vector holds something that is no number")
    try:
        return np.array(value, np.float64)
    except OverflowError:
        raise BadNumbers("its vector holds a number that is too large") from None


def _npy_blob(value: bytes) -> NDArray[Any]:
    file = BytesIO(value)
    shape, _, dtype = npy_header(file)
    check_number_type(dtype)
    n = int(np.prod(shape, dtype=object)) if shape else 1
    # The length is checked before numpy believes the header.
    if n == 0 or n * dtype.itemsize != len(value) - file.tell():
        raise BadNumbers(f"its array of shape {shape} is not as long as it says")
    return np.frombuffer(value, dtype, offset=file.tell())


def as_float32(numbers: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[int]]:
    """A matrix (n, d) as float32, which rows (n,) were rounded, and the rows with what is no finite float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = numbers.astype("<f4", copy=False)
    is_finite = np.isfinite(found).all(axis=1)
    if numbers.dtype.kind == "f" and numbers.dtype.itemsize <= 4:
        is_rounded = np.zeros(len(found), bool)
    elif numbers.dtype.kind == "f":
        is_rounded = ~(found.astype(numbers.dtype) == numbers).all(axis=1) & is_finite
    else:
        # Float64 holds what the integers of float32 are compared by, but for those beyond 2^53.
        wide = numbers.astype(np.longdouble)
        is_rounded = ~(found.astype(np.longdouble) == wide).all(axis=1)
    return found, is_rounded, np.flatnonzero(~is_finite).tolist()


def one_vector(value: Any, dimensions: int, dtype: str) -> tuple[bytes, bool]:
    """A stored vector as a float32 BLOB, and whether it was rounded. Raises BadNumbers."""
    numbers = vector_of(value, dtype)
    if len(numbers) != dimensions:
        raise BadNumbers(
            f"its vector has {len(numbers):,} dimensions, the first one {dimensions:,}"
        )
    found, is_rounded, bad = as_float32(numbers.reshape(1, -1))
    if bad:
        raise BadNumbers("its vector holds NaN, infinity, or what float32 cannot hold")
    return found[0].tobytes(), bool(is_rounded[0])


def matrix_rows(
    matrix: NDArray[Any],
    ids: Sequence[Id],
    first_place: int,
    texts: Sequence[str | None] | None = None,
) -> Iterator[Row]:
    """The rows of a matrix (n, d), in one go over the numbers. first_place: the number of its first row."""
    found, is_rounded, bad = as_float32(np.asarray(matrix))
    data = np.ascontiguousarray(found).data.cast("B")
    width = found.shape[1] * 4
    rounded = is_rounded.tolist()
    wrong = set(bad)
    for number, id in enumerate(ids):
        row = Row(
            id,
            f"row {first_place + number}",
            bytes(data[number * width : (number + 1) * width]),
            rounded[number],
            text=None if texts is None else texts[number],
        )
        if number in wrong:
            row.problem = "its vector holds NaN, infinity, or what float32 cannot hold"
        yield row
