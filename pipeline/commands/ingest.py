"""`nearsql ingest`: images or texts into a collection."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from nearsql.pipeline.console import UserError, say, summary
from nearsql.pipeline.ingest.tables import FORMATS
from nearsql.udfs import connection, dbapi

_ONLY_FOR_TABLES = ("text", "sequence", "format", "delimiter", "encoding")
_PROBLEMS_SHOWN = 5


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
@click.option("--text", metavar="COLUMN", help="Table: the column with the texts.")
@click.option("--sequence", metavar="COLUMN", help="Table: the column with sequence numbers.")
@click.option(
    "--format", type=click.Choice(FORMATS), help="Table: its format, if its name does not tell."
)
@click.option("--delimiter", metavar="CHARACTER", help="CSV: what stands between the cells.")
@click.option("--encoding", help="Table: its encoding; default utf-8.")
def command(file: str, source: str, **options: Any) -> None:
    """Bring images or texts into a collection of FILE, which is made when it is not there.

    SOURCE is a folder of images, or a table of texts: CSV, TSV, JSON lines, JSON, or - for standard
    input. Running it again adds only what is new; nothing is ever written to SOURCE.

    \b
      nearsql ingest photos.db birds/ --label species
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
    with _created(file) as db:
        result = ingest_images(
            db,
            source,
            collection=options["collection"],
            label=options["label"],
            store=options["store"],
            quiet=False,
        )
        _report(db, file, result.run_id, result.collection, result.counts, "pixels")


def _ingest_table(file: str, source: str, options: dict[str, Any]) -> None:
    from nearsql.pipeline.images import SUFFIXES
    from nearsql.pipeline.ingest import ingest_texts

    if Path(source).suffix.lower() in SUFFIXES:
        raise UserError(f"{source} is an image: give the folder that it lies in")
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
        _report(db, file, result.run_id, result.collection, result.counts, "tfidf")


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


def _report(
    db: dbapi.Connection,
    file: str,
    run_id: int,
    collection: str,
    counts: dict[str, int | float],
    model: str,
) -> None:
    """What came in and what did not, with the first few reasons, and what to do next."""
    show_problems(db, file, run_id)
    (items,) = db.execute(
        "select count(*) from items where collection = ?", (collection,)
    ).fetchone()
    facts = {
        name.replace("_", " "): n for name, n in counts.items() if n or name in ("found", "new")
    }
    next_step = f"nearsql embed {file} --model {model} --collection {collection}" if items else None
    summary(
        f"run {run_id}: the collection {collection!r} has {items:,} item{'' if items == 1 else 's'}",
        facts,
        next_step=next_step,
    )


def show_problems(db: dbapi.Connection, file: str, run_id: int) -> None:
    """The first few things that a run could not do, and the SQL that lists them all."""
    rows = db.execute(
        "select coalesce(uri, 'item ' || item_id), message from item_errors"
        " where run_id = ? and stage <> 'duplicate' order by id limit ?",
        (run_id, _PROBLEMS_SHOWN + 1),
    ).fetchall()
    for place, message in rows[:_PROBLEMS_SHOWN]:
        # A table's message names the line as well: once is enough here.
        path, _, line = place.rpartition("#")
        is_said = bool(path) and message.startswith(line.replace("=", " ") + ":")
        say(f"{path if is_said else place}: {message}")
    if len(rows) > _PROBLEMS_SHOWN:
        say(
            f'... all of them: nearsql sql {file} "select uri, stage, message from item_errors'
            f' where run_id = {run_id}"'
        )
