"""Matrices with ids: numpy's `.npy`, Parquet and CSV; a row is the vector of an item."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing.numbers import (
    BadNumbers,
    check_number_type,
    matrix_rows,
    npy_header,
    one_vector,
    vector_of,
)
from nearsql.pipeline.importing.parts import Id, Options, Part, Row
from nearsql.pipeline.ingest import tables

# Of a matrix, so many bytes are read at once; and of a Parquet file's column, which may be all of it.
BYTES_A_READ = 2**23
_PARQUET_BUFFER = 2**20
MOST_IDS_BYTES = 2**30

ID_COLUMNS = (
    *("id", "item_id", "image_id", "issue_id", "key", "uri", "path", "image_path", "file_name"),
    *("filename", "image", "name"),
)
VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "vectors", "features", "feature")


def npy_part(path: str, file: BinaryIO, options: Options) -> Part:
    """A matrix in numpy's format, with its ids from another file; without one, they are the row numbers."""
    _refuse(path, options, "id", "text", "vector")
    try:
        shape, is_fortran, dtype = npy_header(file)
        check_number_type(dtype)
    except BadNumbers as error:
        raise UserError(f"{path}: {error}") from error
    if len(shape) != 2 or 0 in shape:
        raise UserError(
            f"{path}: its shape is {shape}; a matrix has rows and columns, at least one"
        )
    n, dimensions = shape
    offset = file.tell()
    there, needed = os.fstat(file.fileno()).st_size - offset, n * dimensions * dtype.itemsize
    if there != needed:
        raise UserError(
            f"{path}: {n:,} x {dimensions:,} {dtype} are {needed:,} bytes, not {there:,}"
        )
    ids = range(n) if options.ids is None else read_ids(options.ids)
    if len(ids) != n:
        raise UserError(f"{options.ids} has {len(ids):,} ids, and {path} {n:,} rows")
    order = "F" if is_fortran else "C"

    def rows() -> Iterator[Row]:
        matrix = np.memmap(file, dtype, "r", offset, (n, dimensions), order)  # type: ignore[call-overload]
        n_read = _rows_a_read(dimensions)
        for start in range(0, n, n_read):
            some = ids[start : start + n_read]
            yield from matrix_rows(matrix[start : start + len(some)], some, start)

    return Part("matrix", ("vectors",), rows, n, dimensions)


def read_ids(path: str) -> Sequence[Id]:
    """Ids in the order of a matrix: a text file with one a line, or a `.npy` of whole numbers or texts."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is not a regular file: give one with an id a line, or a .npy")
    if os.path.getsize(path) > MOST_IDS_BYTES:
        raise UserError(f"{path} is larger than {MOST_IDS_BYTES:,} bytes: is it a file of ids?")
    with open(path, "rb") as file:
        data = file.read()
    if not data.startswith(b"\x93NUMPY"):
        try:
            return data.decode().removeprefix("\ufeff").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: byte {error.start:,} is not utf-8") from error
    try:
        reader = io.BytesIO(data)
        shape, _, dtype = npy_header(reader)
        if dtype.kind not in "iuU" or len(shape) != 1:
            raise BadNumbers(f"it holds {dtype} of shape {shape}, not one list of ids")
        if shape[0] * dtype.itemsize != len(data) - reader.tell():
            raise BadNumbers("it is not as long as it says")
    except BadNumbers as error:
        raise UserError(f"{path}: {error}") from error
    found: list[Id] = np.frombuffer(data, dtype, offset=reader.tell()).tolist()
    return found


def parquet_part(path: str, file: BinaryIO, options: Options) -> Part:
    """A Parquet file: a column of ids, and a column of lists or many of numbers."""
    _refuse(path, options, "ids")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("reading Parquet needs pyarrow: pip install 'nearsql[parquet]'") from error
    try:
        # Its own handle, since the columns are read while the file is hashed and read elsewhere.
        opened = parquet.ParquetFile(path, buffer_size=_PARQUET_BUFFER)
        schema = opened.schema_arrow
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {_short(error)}") from error
    columns = _distinct(path, schema.names)
    id_column = _id_column(path, options.id, columns)
    _check_column(path, options.text, columns)
    types = {name: schema.field(name).type for name in columns}

    def is_list(kind: Any) -> bool:
        is_one = pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)
        return (is_one or pyarrow.types.is_fixed_size_list(kind)) and _is_number(kind.value_type)

    def _is_number(kind: Any) -> bool:
        return pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)

    lists = [name for name in columns if is_list(types[name])]
    chosen = _vector_column(path, options.vector, lists, columns)
    used = [name for name in (id_column, options.text) if name is not None]
    if chosen is not None and not is_list(types[chosen]):
        raise UserError(f"{path}: the column {chosen!r} is {types[chosen]}, not lists of numbers")
    wide = [] if chosen else [c for c in columns if c not in used and _is_number(types[c])]
    if chosen is None and not wide:
        raise UserError(f"{path} has no column of lists of numbers: {_list(columns)}")
    reading = [*used, *([chosen] if chosen else wide)]

    def batches(n_rows: int) -> Iterator[Any]:
        try:
            yield from opened.iter_batches(n_rows, columns=reading, use_threads=False)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as Parquet: {_short(error)}") from error

    n = opened.metadata.num_rows
    dimensions = len(wide)
    if chosen is not None:
        dimensions = getattr(types[chosen], "list_size", 0) or next(
            (width for batch in batches(100) if (width := _width(batch.column(chosen)))), 0
        )
    if not n or not dimensions:
        raise UserError(f"{path} holds no vectors")

    def rows() -> Iterator[Row]:
        start = 0
        for batch in _ahead(batches(_rows_a_read(dimensions))):
            ids = _cells(path, batch, id_column)
            texts = None if options.text is None else _cells(path, batch, options.text)
            matrix = _arrow_matrix(batch, chosen, wide, dimensions)
            if matrix is not None:
                yield from matrix_rows(matrix, ids, start, texts)
            else:
                columns = [batch.column(name).to_pylist() for name in reading[len(used) :]]
                for number, cells in enumerate(zip(*columns, strict=True)):
                    row = Row(ids[number], f"row {start + number}")
                    row.text = None if texts is None else texts[number]
                    _fill(row, cells[0] if chosen else list(cells), dimensions)
                    yield row
            start += len(ids)

    return Part("matrix", ("vectors",), rows, n, dimensions, has_texts=options.text is not None)


def _cells(path: str, batch: Any, column: str) -> list[Any]:
    """A column's values. Raises UserError for texts that are none."""
    try:
        return list(batch.column(column).to_pylist())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the column {column!r} has a text that is not UTF-8") from error


def _width(column: Any) -> int:
    """Of the first list that there is."""
    return next((len(value) for value in column if value.is_valid), 0)


def _arrow_matrix(batch: Any, chosen: str | None, wide: list[str], dimensions: int) -> Any:
    """The batch's vectors (n, d) at once; None where a list is missing, or of another length."""
    if chosen is None:
        columns = [batch.column(name) for name in wide]
        if any(column.null_count for column in columns):
            return None
        return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
    column = batch.column(chosen)
    if column.null_count:
        return None
    # The numbers of these lists alone, without a copy.
    if hasattr(column.type, "list_size"):
        first = column.offset * dimensions
    else:
        offsets = np.array(column.offsets.to_pylist())
        if (np.diff(offsets) != dimensions).any():
            return None
        first = int(offsets[0])
    numbers = column.values.slice(first, len(column) * dimensions)
    if numbers.null_count:
        return None
    # From its buffer: to_numpy imports pandas, where there is one, which takes a second.
    dtype = np.dtype(numbers.type.to_pandas_dtype())
    data = np.frombuffer(numbers.buffers()[1], dtype, len(numbers), numbers.offset * dtype.itemsize)
    return data.reshape(-1, dimensions)


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches, each decoded while what is done with the one before is on."""
    with ThreadPoolExecutor(1, thread_name_prefix="nearsql-parquet") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _rows_a_read(dimensions: int) -> int:
    return max(1, BYTES_A_READ // (4 * dimensions))


def csv_part(path: str, options: Options, format: tables.Format) -> Part:
    """A table with a header: ids, and a column of JSON arrays or many of numbers."""
    _refuse(path, options, "ids")

    def records() -> Iterator[tables.Record]:
        with open(path, "rb") as file:
            yield from tables.read_records(tables.Source(path, file), format)[1]

    first = next((record for record in records() if record.problem is None), None)
    if first is None:
        raise UserError(f"{path} holds no rows")
    columns = list(first.cells)
    id_column = _id_column(path, options.id, columns)
    _check_column(path, options.text, columns)
    others = [name for name in columns if name not in (id_column, options.text)]
    lists = [name for name in others if str(first.cells[name]).lstrip().startswith("[")]
    chosen = _vector_column(path, options.vector, lists, columns)
    wide = [] if chosen else [name for name in others if _number(first.cells[name]) is not None]
    if chosen is None and not wide:
        raise UserError(f"{path} has no columns of numbers: {_list(columns)}")
    try:
        value = first.cells[chosen] if chosen else [_number(first.cells[name]) for name in wide]
        dimensions = len(vector_of(value, "float32"))
    except BadNumbers as error:
        raise UserError(f"{path}: {first.place}: {error}") from error
    rest = [name for name in others if name != chosen and name not in wide]

    def rows() -> Iterator[Row]:
        for record in records():
            row = Row(record.cells.get(id_column, ""), record.place, problem=record.problem)
            if record.problem is None:
                if options.text is not None:
                    row.text = record.cells.get(options.text)
                row.metadata = {name: record.cells.get(name) for name in rest}
                cells = record.cells
                value = cells.get(chosen) if chosen else [_number(cells.get(c)) for c in wide]
                _fill(row, value, dimensions)
            yield row

    n = sum(1 for _ in records())
    has_texts = options.text is not None
    return Part("matrix", ("vectors",), rows, n, dimensions, has_texts=has_texts)


def _fill(row: Row, value: Any, dimensions: int) -> None:
    try:
        row.vector, row.is_rounded = one_vector(value, dimensions, "float32")
    except BadNumbers as error:
        row.problem = str(error)


def _number(value: Any) -> float | None:
    """A cell as a number; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _id_column(path: str, asked: str | None, columns: Sequence[str]) -> str:
    _check_column(path, asked, columns)
    found = asked or next((name for name in ID_COLUMNS if name in columns), None)
    if found is None:
        raise UserError(f"{path}: no column is called like an id; give --id: {_list(columns)}")
    return found


def _vector_column(
    path: str, asked: str | None, lists: Sequence[str], columns: Sequence[str]
) -> str | None:
    """The column with the vectors; None when they are spread over many columns."""
    _check_column(path, asked, columns)
    named = [name for name in VECTOR_COLUMNS if name in lists]
    if asked is None and len(lists) > 1 and len(named) != 1:
        raise UserError(f"{path}: more than one column has lists; give --vector: {_list(lists)}")
    return asked or next(iter([*named, *lists]), None)


def _check_column(path: str, asked: str | None, columns: Sequence[str]) -> None:
    if asked is not None and asked not in columns:
        raise UserError(f"{path} has no column {asked!r}: {_list(columns)}")


def _distinct(path: str, columns: list[str]) -> list[str]:
    if len(set(columns)) < len(columns):
        raise UserError(f"{path}: more than one column has the same name: {_list(columns)}")
    return columns


def _refuse(path: str, options: Options, *names: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise UserError(f"--{name} does not go with {Path(path).name}: leave it out")


def _list(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in columns[:20])
    return f"its columns are {shown}" + (", ..." if columns[20:] else "")


def _short(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a name in it is not UTF-8"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
