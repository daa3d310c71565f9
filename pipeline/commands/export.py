"""`nearsql export`: items, maps and clusters as files for viewers and other programs."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import command_line, summary
from nearsql.pipeline.estimate import size_in_words
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.export import ExportResult
    from nearsql.pipeline.export.chosen import ExportedRun


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to make. It appears when all of it is written.",
)
@click.option(
    "--run",
    "runs",
    metavar="RUN",
    type=click.IntRange(min=1),
    multiple=True,
    help="A map or a clustering; only the items that such runs hold go out. May be given several times."
    " Default: every item, with the newest map and clustering of each space and method.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["json", "parquet", "csv", "datamapplot"]),
    default="json",
    show_default=True,
    help="json: items.json and clusters.json, for a viewer. parquet, csv: a row an item."
    " datamapplot: one map with the names of its clusters.",
)
@click.option(
    "--page-size",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="json: more items than this go to items-0001.json and so on.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in DIR.")
def command(
    file: str,
    folder: Path,
    runs: tuple[int, ...],
    format_: str,
    page_size: int,
    overwrite: bool,
) -> None:
    """Write the items of FILE, their labels, places on maps and clusters, to files in DIR.

    index.json says which files there are, and which runs are in them. FILE is only read. See
    docs/export.md for what each file holds.

    \b
      nearsql export photos.db --to photos-web
      nearsql export photos.db --to tables --format parquet
      nearsql export photos.db --to plot --format datamapplot --run 3 --run 4
    """
    from nearsql.pipeline.export import export

    with closing(open_database(file, read_only=True)) as db:
        result = export(
            db,
            folder,
            runs=list(runs) or None,
            format=format_,
            page_size=page_size,
            overwrite=overwrite,
            quiet=False,
        )
    summary(f"{folder}: {format_}", _facts(result), next_step=_next_step(folder, result))


def _facts(result: "ExportResult") -> dict[str, Any]:
    facts: dict[str, Any] = {"items": result.items}
    for run in result.chosen.maps:
        facts[f"map of run {run.id}"] = f"{_origin(run)}, {run.points:,} points"
    for run in result.chosen.clusterings:
        levels = " > ".join(f"{level.clusters:,}" for level in run.levels)
        facts[f"clusters of run {run.id}"] = f"{levels or 'none'}, {_origin(run)}"
    n_bytes = sum(file.bytes for file in result.files)
    facts["files"] = f"{len(result.files) + 1:,}, {size_in_words(n_bytes)}"
    return facts


def _origin(run: "ExportedRun") -> str:
    return run.method if run.space is None else f"{run.method} of {run.space}"


def _next_step(folder: Path, result: "ExportResult") -> str:
    first = folder / result.files[0].name
    if result.format == "json":
        return command_line("jq", ".[0]", first)
    if result.format == "csv":
        return command_line("sqlite-utils", "insert", "new.db", "items", first, "--csv")
    if result.format == "parquet":
        program = f"import pandas; print(pandas.read_parquet({str(first)!r}))"
        return command_line("python", "-c", program)
    return "docs/export.md draws it in a few lines of Python"
