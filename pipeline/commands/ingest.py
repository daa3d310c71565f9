"""`nearsql ingest`: images or texts into a collection."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import UserError, command_line, say, summary
from nearsql.pipeline.ingest.tables import FORMATS
from nearsql.udfs import connection, dbapi

if TYPE_CHECKING:
    from nearsql.pipeline.annotations import Labels
    from nearsql.pipeline.ingest import IngestResult

_ONLY_FOR_TABLES = ("text", "sequence", "format", "delimiter", "encoding")
_ONLY_FOR_ANNOTATIONS = ("labels", "classes", "split")
_PROBLEMS_SHOWN = 5

# Counts whose own names leave open what they count.
_IN_WORDS = {
    "skipped": "other files",
    "incomplete": "with mistakes",
    "background": "without labels: nothing there",
    "unlabelled": "without labels: not annotated",
    "in_several_splits": "in several splits, the first counts",
}


@click.command("ingest")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("source", type=click.Path(allow_dash=True))
@click.option("--collection", metavar="NAME", help="Default: the name of the folder or table.")
@click.option(
    "--label",
    metavar="NAME",
    is_flag=False,
    flag_value="class",
    help="Folder: give each image a label NAME (`class` if left out), the first-level folder it lies"
    " in. Table: the column with the labels.",
)
@click.option("--store", is_flag=True, help="Folder: keep the images' bytes in FILE, too.")
@click.option(
    "--annotations",
    type=click.Choice(["yolo", "coco"]),
    help="Folder: bring the boxes, outlines and classes of its images, too: YOLO label files, or a"
    " COCO file. See docs/annotations.md.",
)
@click.option(
    "--labels",
    metavar="PATH",
    help="Annotations: the folder of YOLO label files, or the COCO file. Default: looked for in SOURCE.",
)
@click.option(
    "--classes",
    metavar="PATH",
    help="Annotations: the names of YOLO classes: a data.yaml, or a file with one name a line.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Annotations: the split of all these images. Default: what the labels or folders say.",
)
@click.option("--text", metavar="COLUMN", help="Table: the column with the texts.")
@click.option("--sequence", metavar="COLUMN", help="Table: the column with sequence numbers.")
@click.option(
    "--format", type=click.Choice(FORMATS), help="Table: its format, if its name does not tell."
)
@click.option("--delimiter", metavar="CHARACTER", help="CSV: what stands between the cells.")
@click.option("--encoding", help="Table: its encoding; default utf-8.")
def command(file: str, source: str, **options: Any) -> None:
    """Bring images or texts into a collection of FILE, which is made when it is not there.

    SOURCE is a folder of images, with or without annotations, or a table of texts: CSV, TSV, JSON lines, JSON, or - for standard
    input. Running it again adds only what is new; nothing is ever written to SOURCE.

    \b
      nearsql ingest photos.db birds/ --label species
      nearsql ingest street.db coco128/ --annotations yolo --classes coco128.yaml
      nearsql ingest reviews.db reviews.csv --text body --label stars
      zcat log.jsonl.gz | nearsql ingest log.db - --format jsonl --text message --collection log
    """
    if source != "-" and not Path(source).exists():
        raise UserError(f"there is no file or folder {source!r}")
    if source != "-" and Path(source).is_dir():
        _ingest_folder(file, source, options)
    else:
        _ingest_table(file, source, options)


def _ingest_folder(file: str, source: str, options: dict[str, Any]) -> None:
    from nearsql.pipeline.ingest import ingest_images

    for name in _ONLY_FOR_TABLES:
        if options[name] is not None:
            raise UserError(f"--{name} is for tables, and {source} is a folder: leave it out")
    _refuse_without_annotations(options)
    with ExitStack() as stack:
        labels = None
        if options["annotations"] is not None:
            from nearsql.pipeline.annotations import open_labels

            # Before anything is written: labels that are not there are better missed at once.
            labels = stack.enter_context(
                closing(
                    open_labels(
                        options["annotations"],
                        source,
                        labels=options["labels"],
                        classes=options["classes"],
                        split=options["split"],
                        quiet=False,
                    )
                )
            )
        db = stack.enter_context(_created(file))
        result = ingest_images(
            db,
            source,
            collection=options["collection"],
            label=options["label"],
            store=options["store"],
            quiet=False,
        )
        next_step = command_line(
            "nearsql", "embed", file, "--model", "pixels", "--collection", result.collection
        )
        if labels is None:
            _report(db, file, result, next_step)
        else:
            _report(db, file, result, None)
            _annotate(db, file, result.collection, labels)


def _refuse_without_annotations(options: dict[str, Any]) -> None:
    for name in _ONLY_FOR_ANNOTATIONS:
        if options["annotations"] is None and options[name] is not None:
            raise UserError(f"--{name} goes with --annotations yolo or --annotations coco")


def _annotate(db: dbapi.Connection, file: str, collection: str, labels: "Labels") -> None:
    """Brings the ground truth in and says how much of it there is."""
    from nearsql.pipeline.annotations import annotate_with

    result = annotate_with(db, collection, labels, quiet=False)
    show_problems(db, file, result.run_id)
    n_objects, n_outlines = db.execute(
        "select count(*), count(mask_json) from annotations a join items i on i.id = a.item_id"
        " where i.collection = ?",
        (collection,),
    ).fetchone()
    weights = "yolov8n-seg.pt" if n_outlines else "yolov8n.pt"
    summary(
        f"run {result.run_id}: the collection {collection!r} has {n_objects:,} annotated"
        f" object{'' if n_objects == 1 else 's'}, {n_outlines:,} with an outline",
        _facts(result.counts, ("items", "annotated")),
        next_step=command_line(
            "nearsql", "detect", file, "--weights", weights, "--collection", collection
        ),
    )


def _ingest_table(file: str, source: str, options: dict[str, Any]) -> None:
    from nearsql.pipeline.images import SUFFIXES
    from nearsql.pipeline.ingest import ingest_texts

    if Path(source).suffix.lower() in SUFFIXES:
        raise UserError(f"{source} is an image: give the folder that it lies in")
    if options["annotations"] is not None:
        raise UserError(f"--annotations is for folders of images, and {source} is a table")
    _refuse_without_annotations(options)
    if options["store"]:
        raise UserError("--store is for folders of images; the texts of a table are always kept")
    if options["text"] is None:
        raise UserError(
            f"{source} is read as a table: say with --text which column has the texts"
            " (for images, give a folder)"
        )
    with _created(file) as db:
        result = ingest_texts(
            db,
            source,
            text=options["text"],
            label=options["label"],
            sequence=options["sequence"],
            collection=options["collection"],
            format=options["format"],
            delimiter=options["delimiter"],
            encoding=options["encoding"] or "utf-8",
            quiet=False,
        )
        next_step = command_line(
            "nearsql", "embed", file, "--model", "tfidf", "--collection", result.collection
        )
        _report(db, file, result, next_step)


@contextmanager
def _created(file: str) -> Iterator[dbapi.Connection]:
    """The open database. A file that was made for a source refused at once goes away again."""
    was_there, is_to_go = Path(file).exists(), False
    try:
        with closing(connection.create(file)) as db:
            try:
                yield db
            except UserError:
                no_runs = db.execute("select count(*) from runs").fetchone() == (0,)
                is_to_go = no_runs and not was_there
                raise
    finally:
        if is_to_go:
            Path(file).unlink()


def _report(db: dbapi.Connection, file: str, result: "IngestResult", next_step: str | None) -> None:
    """What came in and what did not, with the first few reasons, and what to do next."""
    show_problems(db, file, result.run_id)
    (items,) = db.execute(
        "select count(*) from items where collection = ?", (result.collection,)
    ).fetchone()
    summary(
        f"run {result.run_id}: the collection {result.collection!r} has {items:,}"
        f" item{'' if items == 1 else 's'}",
        _facts(result.counts, ("found", "new")),
        next_step=next_step if items else None,
    )


def _facts(counts: dict[str, int | float], always: tuple[str, ...]) -> dict[str, int | float]:
    """The counts that say something, named in words."""
    return {
        _IN_WORDS.get(name, name.replace("_", " ")): n
        for name, n in counts.items()
        if n or name in always
    }


def show_problems(db: dbapi.Connection, file: str, run_id: int) -> None:
    """The first few things that a run could not do, and the SQL that lists them all."""
    rows = db.execute(
        "select coalesce(uri, 'item ' || item_id), message from item_errors"
        " where run_id = ? and stage <> 'duplicate' order by id limit ?",
        (run_id, _PROBLEMS_SHOWN + 1),
    ).fetchall()
    for place, message in rows[:_PROBLEMS_SHOWN]:
        # A message that names the line, or the file itself, says it once here.
        path, _, line = place.rpartition("#")
        folder, name = os.path.split(place)
        if path and message.startswith(line.replace("=", " ") + ":"):
            say(f"{path}: {message}")
        elif folder and message.startswith((f"{name}:", f"{name} line ")):
            say(os.path.join(folder, message))
        else:
            say(f"{place}: {message}")
    if len(rows) > _PROBLEMS_SHOWN:
        sql = f"select uri, stage, message from item_errors where run_id = {run_id}"
        say(f"... all of them: {command_line('nearsql', 'sql', file, sql)}")
