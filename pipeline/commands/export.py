"""`nearsql export`: items, maps and clusters, or images and what is drawn on them, as files."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import command_line, say, summary
from nearsql.pipeline.estimate import size_in_words
from nearsql.pipeline.within import add_within
from nearsql.udfs.connection import open_database

FORMATS = (
    "json",
    "jsonl",
    "parquet",
    "csv",
    "datamapplot",
    "atlas",
    "fiftyone",
    "coco",
    "yolo",
    "yolo-seg",
    "links",
)
# Items that could not be had, said one by one.
_MOST_SAID = 10

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
@add_within
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="json",
    show_default=True,
    help="json: items.json and clusters.json, for a viewer. jsonl: the same as JSON lines. parquet, csv: a"
    " row an item. datamapplot: one map with the names of its clusters. atlas: the same for Embedding Atlas, with"
    " neighbours and pictures. fiftyone: images with all of theirs, for FiftyOne. coco: images and instances.json."
    " yolo, yolo-seg: images, data.yaml and labels, with boxes or with outlines. links: a folder of links.",
)
@click.option(
    "--predictions",
    metavar="RUN",
    type=click.IntRange(min=1),
    help="What this detector run saw: coco: in predictions.json besides the ground truth; fiftyone: besides"
    " it; yolo: in the labels instead of it.",
)
@click.option(
    "--images",
    type=click.Choice(["link", "copy", "none"]),
    default="link",
    show_default=True,
    help="coco, yolo, fiftyone, links: what is put into DIR of the images: links to their files (and copies of"
    " what only FILE has), copies of all, or, of coco and yolo, nothing. atlas: none leaves out its pictures.",
)
@click.option(
    "--space",
    "spaces",
    metavar="NAME",
    multiple=True,
    help="fiftyone: the vectors of this space go out, too. May be given several times.",
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
    within: str | None,
    format_: str,
    predictions: int | None,
    images: str,
    spaces: tuple[str, ...],
    page_size: int,
    overwrite: bool,
) -> None:
    """Write the items of FILE, their labels, places on maps and clusters, to files in DIR.

    Or images with what is drawn on them: their ground truth, or what a detector run saw. index.json says
    which files there are, and which runs are in them. FILE is only read, and so are the files that its
    items come from. See docs/export.md for what each file holds.

    \b
      nearsql export photos.db --to photos-web
      nearsql export photos.db --to tables --format parquet
      nearsql export photos.db --to plot --format datamapplot --run 3 --run 4
      nearsql export photos.db --to red --format links --within "red birds"
      nearsql export street.db --to street-yolo --format yolo
      nearsql export street.db --to street-coco --format coco --predictions 5
      nearsql export street.db --to street-fo --format fiftyone --predictions 5 --space clip:ViT-B-32
    """
    from nearsql.pipeline.export import export

    with closing(open_database(file, read_only=True)) as db:
        result = export(
            db,
            folder,
            runs=list(runs) or None,
            within=within,
            format=format_,
            predictions=predictions,
            images=images,
            spaces=spaces,
            page_size=page_size,
            overwrite=overwrite,
            quiet=False,
        )
    for problem in _first(result.problems):
        say(f"left out: {problem}")
    summary(f"{folder}: {format_}", _facts(result), next_step=_next_step(folder, result))


def _facts(result: "ExportResult") -> dict[str, Any]:
    facts: dict[str, Any] = {"items": result.items}
    for run in result.chosen.maps:
        facts[f"map of run {run.id}"] = f"{_origin(run)}, {run.points:,} points"
    for run in result.chosen.clusterings:
        levels = " > ".join(f"{level.clusters:,}" for level in run.levels)
        facts[f"clusters of run {run.id}"] = f"{levels or 'none'}, {_origin(run)}"
    facts |= result.counts
    if result.problems:
        facts["could not be had"] = len(result.problems)
    n_bytes = sum(file.bytes for file in result.files)
    facts["files"] = f"{len(result.files) + 1:,}, {size_in_words(n_bytes)}"
    return facts


def _first(problems: Sequence[str]) -> list[str]:
    more = len(problems) - _MOST_SAID
    return [*problems[:_MOST_SAID], *([f"{more:,} more"] if more > 0 else [])]


def _origin(run: "ExportedRun") -> str:
    return run.method if run.space is None else f"{run.method} of {run.space}"


def _next_step(folder: Path, result: "ExportResult") -> str:
    first = folder / result.files[0].name
    if result.format == "json":
        return command_line("jq", ".[0]", first)
    if result.format == "jsonl":
        return command_line("sqlite-utils", "insert", "new.db", "items", first, "--nl")
    if result.format == "atlas":
        what = "image" if "pictures" in result.counts else "text"
        flags: list[object] = ["--x", "x", "--y", "y", f"--{what}", what]
        if "neighbours of each" in result.counts:
            flags += ["--neighbors", "neighbors"]
        if "cluster names" in result.counts:
            flags += ["--labels", folder / "labels.parquet"]
        return command_line("embedding-atlas", first, *flags)
    if result.format == "fiftyone":
        kind = "dataset_type=fo.types.LegacyFiftyOneDataset"
        opened = f"import fiftyone as fo; fo.Dataset.from_dir({str(folder)!r}, {kind})"
        return command_line("python", "-c", opened)
    if result.format == "coco":
        program = f"from pycocotools.coco import COCO; COCO({str(first)!r})"
        return command_line("python", "-c", program)
    if result.format in ("yolo", "yolo-seg"):
        model = "yolov8n-seg.pt" if result.format == "yolo-seg" else "yolov8n.pt"
        return command_line("yolo", "train", f"model={model}", f"data={first}")
    if result.format == "links":
        return command_line("ls", folder / "items")
    if result.format == "csv":
        return command_line("sqlite-utils", "insert", "new.db", "items", first, "--csv")
    if result.format == "parquet":
        program = f"import pandas; print(pandas.read_parquet({str(first)!r}))"
        return command_line("python", "-c", program)
    return "docs/export.md draws it in a few lines of Python"
