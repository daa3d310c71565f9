"""A file to import from: what kind it is, as its bytes say, and the parts that it holds."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, get_args

from nearsql.pipeline.console import UserError
from nearsql.pipeline.images import UnreadableImage, open_regular_file, sha256_of_file
from nearsql.pipeline.importing.coco_results import coco_results_part
from nearsql.pipeline.importing.matrices import csv_part, npy_part, parquet_part
from nearsql.pipeline.importing.parts import DTYPES, Options, Source
from nearsql.pipeline.importing.stores import opened_store, store_parts
from nearsql.pipeline.ingest import tables

KINDS = ("npy", "parquet", *get_args(tables.Format), "sqlite", "coco-results")

_PACKAGES = {"parquet": ("pyarrow",), "sqlite": ("sqlite-vec",), "coco-results": ("pycocotools",)}
_MAGIC = {b"\x93NUMPY": "npy", b"PAR1": "parquet", b"SQLite format 3\0": "sqlite"}


@contextmanager
def opened_source(
    path: str | os.PathLike[str], kind: str | None, options: Options
) -> Iterator[Source]:
    """The source, held open while its parts are read. Raises UserError when nothing in it can be.

    kind: one of KINDS; None: what the first bytes say, or else the name.
    """
    name = os.path.abspath(path)
    if name.encode("utf-8", "replace").decode() != name:
        raise UserError("the file's name is not valid UTF-8: rename it")
    if kind is not None and kind not in KINDS:
        raise UserError(f"--format must be one of {', '.join(KINDS)}, not {kind!r}")
    if options.dtype not in DTYPES:
        raise UserError(f"--dtype must be one of {', '.join(DTYPES)}, not {options.dtype!r}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_regular_file(name))
            sha256 = sha256_of_file(file)
        except UnreadableImage as error:
            raise UserError(f"{name}: {error}") from error
        kind = kind or _kind_of(name, file)
        if options.images is not None and kind != "coco-results":
            raise UserError("--images is for COCO results: leave it out")
        shown = kind
        if kind == "sqlite":
            shown, parts = store_parts(stack.enter_context(opened_store(name)), name, options)
        elif kind == "npy":
            parts = [npy_part(name, file, options)]
        elif kind == "parquet":
            parts = [parquet_part(name, file, options)]
        elif kind == "coco-results":
            parts = [coco_results_part(name, options)]
        else:
            format = next(f for f in tables.FORMATS if f == kind)
            parts = [csv_part(name, options, format)]
        others = {
            other: _sha256(other) for other in (options.ids, options.images) if other is not None
        }
        yield Source(name, shown, sha256, parts, _PACKAGES.get(kind, ()), others)


def _kind_of(path: str, file: BinaryIO) -> str:
    """What the bytes are; text is told apart by the name, and JSON by its first object."""
    start = file.read(4096)
    file.seek(0)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    if start.startswith((b"\x80", b"PK\x03\x04")):
        raise UserError(
            f"{path} is a pickle or an archive, and those are not loaded: save the matrix with numpy.save"
            " as .npy, or as Parquet or CSV"
        )
    if Path(path).suffix.lower() == ".json" and b'"image_id"' in start and b'"score"' in start:
        return "coco-results"
    try:
        return tables.format_of(path)
    except UserError:
        raise UserError(
            f"{path}: neither its first bytes nor its name tell what it is: give --format, one of"
            f" {', '.join(KINDS)}"
        ) from None


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
