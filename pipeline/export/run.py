"""The export itself: one state of the file, read once, into a folder that appears whole."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nearsql
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.export.chosen import Chosen, ExportedRun, choose, choose_pair
from nearsql.pipeline.export.datamapplot_files import write_datamapplot
from nearsql.pipeline.export.files import Source, WrittenFile
from nearsql.pipeline.export.folder import new_folder, write_index
from nearsql.pipeline.export.json_files import write_json
from nearsql.pipeline.export.rows import count_items
from nearsql.pipeline.export.tables import write_tables
from nearsql.udfs import dbapi

FORMATS = ("json", "parquet", "csv", "datamapplot")
PAGE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and of which runs."""

    folder: Path
    format: str
    items: int
    files: tuple[WrittenFile, ...]
    chosen: Chosen


def export(
    db: dbapi.Connection,
    folder: str | os.PathLike[str],
    *,
    runs: Sequence[int] | None = None,
    format: str = "json",
    overwrite: bool = False,
    page_size: int = PAGE_SIZE,
    quiet: bool = True,
) -> ExportResult:
    """Writes items with their places on maps and in clusters to a new folder.

    runs: maps and clusterings, and the items that they hold; by default every item, with the newest runs
    of each kind, method and space. format: one of FORMATS; page_size: items a file, of json. overwrite: an
    earlier export in that folder is replaced. Nothing is written to the database.

    Raises UserError for a folder with anything else in it, runs that cannot be exported, and values that
    the format has no way to say; LookupError for a run that is not there.
    """
    if format not in FORMATS:
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, not {format!r}")
    if page_size < 1:
        raise UserError(f"--page-size must be at least 1, not {page_size}")
    with _one_state(db):
        chosen = choose_pair(db, runs) if format == "datamapplot" else choose(db, runs)
        n_items = count_items(db, chosen)
        with (
            new_folder(Path(folder), overwrite=overwrite) as made,
            progress("items exported", n_items, quiet=quiet) as bar,
        ):
            source = Source(db, chosen, n_items, bar.advance)
            if format == "json":
                files = write_json(made, source, page_size)
            elif format == "datamapplot":
                files = write_datamapplot(made, source)
            else:
                files = write_tables(made, source, format)
            write_index(made, _index(format, n_items, files, chosen))
    return ExportResult(Path(folder), format, n_items, tuple(files), chosen)


@contextmanager
def _one_state(db: dbapi.Connection) -> Iterator[None]:
    """A read transaction: other processes may write meanwhile, and are not seen."""
    if db.in_transaction:
        yield
        return
    db.execute("begin")
    try:
        yield
    finally:
        db.rollback()


def _index(
    format_: str, n_items: int, files: Sequence[WrittenFile], chosen: Chosen
) -> dict[str, Any]:
    """What a viewer needs to know before it loads anything else."""
    return {
        "kind": format_,
        "nearsql": nearsql.__version__,
        "items": n_items,
        "files": [
            {name: value for name, value in asdict(file).items() if value is not None}
            for file in files
        ],
        "maps": [{**_run(run), "points": run.points, "placed": run.placed} for run in chosen.maps],
        "clusterings": [
            {**_run(run), "levels": [asdict(level) for level in run.levels]}
            for run in chosen.clusterings
        ],
    }


def _run(run: ExportedRun) -> dict[str, Any]:
    return {
        "run": run.id,
        "space": run.space,
        "method": run.method,
        "parameters": run.parameters,
        "seed": run.seed,
        "finished_at": run.finished_at,
    }
