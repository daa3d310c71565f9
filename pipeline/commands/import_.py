"""`nearsql import`: vectors, maps, losses, metrics and predictions from files of other programs."""

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import UserError, command_line, summary
from nearsql.pipeline.output import FORMATS, write_rows
from nearsql.udfs import connection, dbapi

if TYPE_CHECKING:
    from nearsql.pipeline.importing import ImportResult

_KINDS = ("npy", "parquet", "csv", "tsv", "jsonl", "json", "sqlite", "coco-results")
_IN_WORDS = {
    "items": "new items",
    "without_text": "of these, the id is the text",
    "projection_points": "places on a map",
    "image_metrics": "images with metrics",
    "item_labels": "labels",
    "already": "vectors there before",
    "different": "other vectors there before",
    "unmatched": "rows without an item",
    "errors": "rows with mistakes",
    "duplicates": "rows of the same item",
    "rounded": "vectors rounded to float32",
}


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("source", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--format", type=click.Choice(_KINDS), help="What SOURCE is, if its bytes and name do not tell."
)
@click.option("--list", "list_", is_flag=True, help="Say what SOURCE holds, and import nothing.")
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="NAME",
    help="Only this table, collection or run of it, as --list names it; again for more.",
)
@click.option("--space", metavar="NAME", help="What the vectors fill; before the names of parts.")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "l2", "ip"]),
    help="Of embeddings; default cosine. Maps and metrics have l2.",
)
@click.option("--collection", metavar="NAME", help="Of the items; default, any, or SOURCE's name.")
@click.option(
    "--match",
    metavar="HOW",
    help="How ids name items: name (the id in an earlier import, the uri, its file name, that without"
    " suffix), id, sequence, uri, metadata:KEY, label:NAME; or new: texts become items, and so do ids"
    " without one. Default: new where there are texts, else name.",
)
@click.option("--model", metavar="NAME", help="Which model made it, if SOURCE does not say.")
@click.option(
    "--ids",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="npy: the ids of its rows, one a line, or a .npy. Default: the rows' numbers.",
)
@click.option("--id", metavar="COLUMN", help="The column with the ids.")
@click.option("--text", metavar="COLUMN", help="The column with the texts.")
@click.option("--vector", metavar="COLUMN", help="The column with the vectors.")
@click.option(
    "--images",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="COCO results: the COCO file with the images they are of.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Older stores: the numbers in their BLOBs.",
)
@click.option(
    "--output",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How --list is printed.",
)
def command(file: str, source: str, list_: bool, output: str, **options: Any) -> None:
    """Bring what other programs made into FILE, which is made when it is not there.

    SOURCE is a matrix with ids (.npy, Parquet, CSV, JSON), a database of the llm library, an older store
    of vectors in SQLite (tables embeddings, umap_..., tsne_..., or sqlite-vec's, with run parameters in
    metadata), or COCO results. Nothing is written to SOURCE, and nothing in it is unpickled. Running it
    again adds only what is new.

    \b
      nearsql import photos.db clip.parquet --space clip --match name
      nearsql import photos.db vectors.npy --ids files.txt --space dino
      nearsql import issues.db embeddings.db
      nearsql import photos.db old-store.db --list
      nearsql import photos.db results.json --images instances_val2017.json --model yolov8n
    """
    if list_:
        _list(source, output, options)
        return
    if os.path.exists(file) and os.path.samefile(file, source):
        raise UserError(f"{source} is the file itself: give one to import from")
    from nearsql.pipeline.importing import import_file

    was_there = os.path.exists(file)
    try:
        with closing(connection.create(file)) as db:
            results = import_file(db, source, quiet=False, **options)
            for result in results:
                _report(db, file, result)
    except UserError:
        if not was_there and os.path.exists(file):
            _remove_empty(file)
        raise


def _remove_empty(file: str) -> None:
    """A file that was made for a source refused at once goes away again."""
    with closing(connection.open_database(file)) as db:
        (n,) = db.execute(
            "select (select count(*) from runs) + (select count(*) from items)"
        ).fetchone()
    if n == 0:
        os.unlink(file)


def _list(source: str, output: str, options: dict[str, Any]) -> None:
    from nearsql.pipeline.importing.parts import Options
    from nearsql.pipeline.importing.sources import opened_source

    known = {name: options[name] for name in Options.__dataclass_fields__}
    with opened_source(source, options["format"], Options(**known)) as opened:
        rows = [
            (
                part.name,
                " ".join(part.holds),
                part.n_rows,
                part.dimensions,
                part.model,
                "yes" if part.has_texts else "no",
            )
            for part in opened.parts
        ]
    write_rows(output, ("part", "holds", "rows", "dimensions", "model", "texts"), rows)


def _report(db: dbapi.Connection, file: str, result: "ImportResult") -> None:
    from nearsql.pipeline.commands.ingest import show_problems

    if result.is_old:
        summary(f"run {result.run_id} had brought all of {result.part}: nothing to do", {})
        return
    show_problems(db, file, result.run_id)
    facts = {
        _IN_WORDS.get(name, name): n for name, n in result.counts.items() if n and name != "matched"
    }
    summary(
        f"run {result.run_id}: {result.part}" + (f" -> {result.space}" if result.space else ""),
        facts,
        next_step=_next(file, result),
    )


def _next(file: str, result: "ImportResult") -> str:
    if result.space is not None:
        return command_line("nearsql", "cluster", file, result.space)
    if "predictions" in result.counts:
        sql = f"select * from predictions where run_id = {result.run_id} limit 5"
        return command_line("nearsql", "sql", file, sql)
    return command_line("nearsql", "serve", file)
