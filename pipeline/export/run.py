"""The export itself: one state of the file, read once, into a folder that appears whole."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nearsql
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.export.atlas_files import write_atlas
from nearsql.pipeline.export.chosen import (
    Chosen,
    ExportedRun,
    choose,
    choose_map,
    choose_pair,
)
from nearsql.pipeline.export.datamapplot_files import write_datamapplot
from nearsql.pipeline.export.fiftyone_files import write_fiftyone
from nearsql.pipeline.export.files import Source, WrittenFile
from nearsql.pipeline.export.folder import new_folder, write_index
from nearsql.pipeline.export.image_sets import FORMATS as OF_IMAGES
from nearsql.pipeline.export.image_sets import Written, write_image_set, write_links
from nearsql.pipeline.export.item_files import IMAGES
from nearsql.pipeline.export.json_files import write_json, write_json_lines
from nearsql.pipeline.export.rows import count_items
from nearsql.pipeline.export.tables import write_tables
from nearsql.pipeline.within import within_ids, within_parameters
from nearsql.udfs import dbapi

FORMATS = ("json", "jsonl", "parquet", "csv", "datamapplot", "atlas", "fiftyone", *OF_IMAGES)
_WITH_PREDICTIONS = ("coco", "yolo", "yolo-seg", "fiftyone")
# Which --images go with the formats that have any.
_IMAGES = {
    "links": ("link", "copy"),
    "fiftyone": ("link", "copy"),
    "atlas": ("link", "none"),
    **{name: IMAGES for name in ("coco", "yolo", "yolo-seg")},
}
PAGE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written, and of which runs.

    Of COCO, YOLO and links also counts by name, and problems: a sentence for each item left out because its
    file could not be had.
    """

    folder: Path
    format: str
    items: int
    files: tuple[WrittenFile, ...]
    chosen: Chosen
    counts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def export(
    db: dbapi.Connection,
    folder: str | os.PathLike[str],
    *,
    runs: Sequence[int] | None = None,
    within: str | None = None,
    format: str = "json",
    predictions: int | None = None,
    images: str = "link",
    spaces: Sequence[str] = (),
    overwrite: bool = False,
    page_size: int = PAGE_SIZE,
    quiet: bool = True,
) -> ExportResult:
    """Writes items with their places on maps and in clusters to a new folder; or images, as a data set.

    runs: maps and clusterings, and the items that they hold; by default every item, with the newest runs
    of each kind, method and space. within: only these of them, as `--within` has it. format: one of
    FORMATS; page_size: items a file, of json. overwrite: an earlier export in that folder is replaced.

    predictions: of coco, yolo and fiftyone, the detector run whose predictions go out. images: one of IMAGES;
    of coco, yolo, links and fiftyone, what is put into the folder; of atlas, `none` leaves out the pictures in
    its table. spaces: of fiftyone, whose vectors go out. Nothing is written to the database.

    Raises UserError for a folder with anything else in it, runs that cannot be exported, and values that
    the format has no way to say; LookupError for a run that is not there.
    """
    if format not in FORMATS:
        raise UserError(f"--format must be one of {', '.join(FORMATS)}, not {format!r}")
    if page_size < 1:
        raise UserError(f"--page-size must be at least 1, not {page_size}")
    if runs is not None and format in OF_IMAGES:
        raise UserError(f"--run names maps and clusterings, and --format {format} has none of them")
    if predictions is not None and format not in _WITH_PREDICTIONS:
        raise UserError(
            f"--predictions goes with --format {', '.join(_WITH_PREDICTIONS)}, not {format}"
        )
    if spaces and format != "fiftyone":
        raise UserError(f"--space goes with --format fiftyone, not {format}")
    if images not in IMAGES:
        raise UserError(f"--images must be one of {', '.join(IMAGES)}, not {images!r}")
    if images not in _IMAGES.get(format, ("link",)):
        raise UserError(f"--images {images} does not go with --format {format}")
    with _one_state(db):
        if format in OF_IMAGES:
            chosen = Chosen((), (), only_their_items=False)
        else:
            choose_them = {"datamapplot": choose_pair, "atlas": choose_map}.get(format, choose)
            chosen = choose_them(db, runs)
        chosen = replace(chosen, within=within_ids(db, within))
        n_items = count_items(db, chosen)
        with (
            new_folder(Path(folder), overwrite=overwrite) as made,
            progress("items exported", n_items, quiet=quiet) as bar,
        ):
            source = Source(db, chosen, n_items, bar.advance)
            counts: dict[str, Any] = {}
            problems: list[str] = []
            if format in OF_IMAGES:
                found = _images(made, source, format, predictions, images)
                files, n_items = found.files, found.items
                counts, problems = found.counts, found.problems
            elif format == "fiftyone":
                found = write_fiftyone(
                    made, source, predicted_by=predictions, spaces=spaces, images=images
                )
                files, n_items = found.files, found.items
                counts, problems = found.counts, found.problems
            elif format == "atlas":
                files, n_items, counts, problems = write_atlas(made, source, images)
            elif format == "json":
                files = write_json(made, source, page_size)
            elif format == "jsonl":
                files = write_json_lines(made, source)
            elif format == "datamapplot":
                files = write_datamapplot(made, source)
            else:
                files = write_tables(made, source, format)
            write_index(made, _index(format, n_items, files, chosen, predictions))
    return ExportResult(
        Path(folder), format, n_items, tuple(files), chosen, counts, tuple(problems)
    )


def _images(
    made: Path, source: Source, format_: str, predictions: int | None, images: str
) -> Written:
    if format_ == "links":
        return write_links(made, source, images)
    return write_image_set(made, source, format_, predicted_by=predictions, images=images)


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
    format_: str,
    n_items: int,
    files: Sequence[WrittenFile],
    chosen: Chosen,
    predictions: int | None,
) -> dict[str, Any]:
    """What a viewer needs to know before it loads anything else."""
    only = {} if chosen.within is None else within_parameters(chosen.within)
    return {
        "kind": format_,
        "nearsql": nearsql.__version__,
        "items": n_items,
        **only,
        **({} if predictions is None else {"predictions_of_run": predictions}),
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
