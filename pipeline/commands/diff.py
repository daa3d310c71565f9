"""`nearsql diff`: what changed between two runs, or from one space to another."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import click

from nearsql.pipeline.console import summary
from nearsql.pipeline.output import write_rows
from nearsql.pipeline.within import add_within
from nearsql.udfs.connection import open_database


@click.command("diff")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("a")
@click.argument("b")
@click.option(
    "--level",
    type=click.IntRange(min=1),
    help="Of clusterings: which level of the runs; default 1, the coarsest.",
)
@click.option("--level-b", type=click.IntRange(min=1), help="Another level of B.")
@click.option(
    "-k",
    type=click.IntRange(min=1),
    help="Of evaluations: only predictions by k neighbours. Of spaces: how many neighbours, default 10.",
)
@click.option("--k-b", type=click.IntRange(min=1), help="Another k of B.")
@click.option("--weighting", help="Of evaluations: only predictions by this weighting.")
@click.option("--weighting-b", help="Another weighting of B.")
@click.option("--space", help="Of evaluations: only predictions from this space.")
@click.option("--space-b", help="Another space of B.")
@click.option(
    "--metric",
    help="Of detector runs: only this metric, such as mean_iou_gt, fn or loss:box.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Of detector runs: differences up to this are none; default 0.000001.",
)
@add_within
@click.option("--items", is_flag=True, help="List the items that changed.")
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
def command(file: str, a: str, b: str, items: bool, format_: str, **asked: Any) -> None:
    """Say what changed from A to B: two runs of one kind, by number, or two spaces, by name.

    Two clusterings: which clusters are the same, split, merged, new, gone. Two evaluations: which predicts
    better by each space, k and weighting, how many items flipped, and McNemar's test. Two detector
    runs: how many images improved and regressed by each metric and loss, and Wilcoxon's test. Two spaces:
    how many of its nearest neighbours each item has in both.

    Only what both hold is compared. In what the runs differ stands below. One evaluation is compared with
    itself by two of its spaces, ks or weightings.

    \b
      nearsql diff photos.db 3 5
      nearsql diff photos.db 3 5 --items --csv > moved.csv
      nearsql diff photos.db 9 9 --space clip:ViT-B-32 --space-b birds/pixels
      nearsql diff photos.db 11 12 --metric loss:box --items
      nearsql diff photos.db birds/pixels clip:ViT-B-32 -k 20
    """
    from nearsql.pipeline.diff import Asked, diff

    with closing(open_database(file, read_only=True)) as db:
        found = diff(db, a, b, Asked(**asked), quiet=False)
        headers, rows = found.items(db) if items else found.rows(db)
        if format_ == "table":
            write_rows(format_, *_worth_reading(headers, rows, found.dull))
        else:
            write_rows(format_, headers, rows)
        summary(found.title, found.facts(db), next_step=found.next_step(file, items))


def _worth_reading(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], dull: Mapping[str, str | None]
) -> tuple[list[str], list[list[Any]]]:
    """Without the columns that are dull: all NULL, or equal to another one."""
    rows = list(rows)
    columns = dict(zip(headers, zip(*rows, strict=True), strict=True)) if rows else {}
    kept = [
        place
        for place, name in enumerate(headers)
        if name not in dull or not _is_dull(columns, name, dull[name])
    ]
    return [headers[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _is_dull(columns: Mapping[str, Sequence[Any]], name: str, other: str | None) -> bool:
    if not columns:
        return False
    if other is None:
        return set(columns[name]) == {None}
    return columns[name] == columns[other]
