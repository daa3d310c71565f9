"""`nearsql find`: duplicates, outliers, wrong labels and leaks."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import command_line, say, summary
from nearsql.pipeline.output import column_names, write_rows
from nearsql.pipeline.within import add_within
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database
from nearsql.udfs.sql_files import read_sql

if TYPE_CHECKING:
    from nearsql.pipeline.find import FindResult

# Rows of each kind in a table: all of them are in the file.
SHOWN = 10


@click.command("find")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("space")
@click.argument("kinds", metavar="[KIND...]", nargs=-1)
@click.option("--label", metavar="NAME", help="The label whose values may be wrong.")
@click.option(
    "--split",
    metavar="NAME",
    help="The label that leaks are looked for across; default 'split', or else collections.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    metavar="T",
    help="Distance within which two items are duplicates; default: chosen from the data.",
)
@click.option(
    "-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Neighbours that outliers and label errors are judged by.",
)
@click.option(
    "--weighting",
    type=click.Choice(["uniform", "distance", "softmax"]),
    default="uniform",
    show_default=True,
    help="What neighbours' votes on a label weigh.",
)
@click.option(
    "--temperature", type=float, default=0.07, show_default=True, help="Of --weighting softmax."
)
@click.option(
    "--clustering",
    type=click.IntRange(min=1),
    metavar="RUN",
    help="The run whose outlier scores cluster_outliers go by; default: the newest of SPACE.",
)
@add_within
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
def command(file: str, space: str, kinds: tuple[str, ...], format_: str, **options: Any) -> None:
    """Find what is wrong with the items of SPACE, and store it with its evidence.

    \b
      duplicates        items that are there more than once, exactly or nearly
      outliers          items far from their own neighbours
      label_errors      items whose neighbours vote for another label (--label)
      leaks             near-duplicates across a split, or across collections
      cluster_outliers  items that fit no cluster of a run, by HDBSCAN's score

    Without KIND, all that apply. From where on something counts is chosen from the data, said, and recorded
    with the run. Findings are rows of the table findings: what a person decides there (decision 'keep' or
    'dismiss') stays with the finding when the same command is run again.

    \b
      nearsql find photos.db clip:ViT-B-32 --label species
      nearsql find photos.db clip:ViT-B-32 duplicates --threshold 0.02 --nl | jq .item_id
      nearsql find photos.db clip:ViT-B-32 leaks --split split --within "red cars"
    """
    from nearsql.pipeline.find import find

    with closing(open_database(file)) as db:
        found = find(db, space, kinds, quiet=False, **options)
        cursor = db.execute(
            read_sql("nearsql.schema.queries", "findings_of_run"), {"run": found.run_id}
        )
        headers = column_names(cursor)
        if format_ == "table":
            _show(headers, cursor.fetchall())
        else:
            write_rows(format_, *_unpacked(format_, headers, cursor))
        for reason in found.reasons:
            say(reason)
        summary(
            f"run {found.run_id}: findings in {found.space}",
            _facts(found),
            next_step=_next_step(file, found),
        )


def _unpacked(
    format_: str, headers: list[str], rows: dbapi.Cursor
) -> tuple[list[str], Iterator[Any] | dbapi.Cursor]:
    """In JSON, evidence is an object and not a text."""
    if format_ == "csv":
        return headers, rows
    names = [*headers[:-1], "evidence"]
    return names, ((*row[:-1], json.loads(row[-1])) for row in rows)


def _show(headers: list[str], rows: list[tuple[Any, ...]]) -> None:
    """The first of each kind, with their evidence in words."""
    by_kind: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_kind.setdefault(row[1], []).append(row)
    for kind, found in by_kind.items():
        shown = [_in_words(headers, row) for row in found[:SHOWN]]
        names = [name for name in shown[0] if any(row[name] is not None for row in shown)]
        click.echo(kind)
        write_rows("table", names, [[row[name] for name in names] for row in shown])
        if len(found) > SHOWN:
            click.echo(f"... {len(found) - SHOWN:,} more")
        click.echo()


def _in_words(headers: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
    facts = dict(zip(headers, row, strict=True))
    evidence = json.loads(facts.pop("evidence_json"))
    del facts["kind"]
    for name in ("distance", "given", "suggested", "confidence", "value", "other_value", "group"):
        facts[name] = evidence.get(name)
    return facts


def _facts(found: "FindResult") -> dict[str, Any]:
    facts: dict[str, Any] = {
        name.replace("_", " "): value
        for name, value in found.counts.items()
        if not name.endswith("_threshold")
    }
    words = {
        "near": "near-duplicates are within",
        "outlier": "outliers are beyond",
        "label_error": "label errors have a confidence of at least",
        "cluster_outlier": "cluster outliers score above",
    }
    for name, value in found.thresholds.items():
        facts[words[name]] = "undefined" if value is None else f"{value:.6g}"
    if found.graph_run is not None:
        facts["neighbours"] = f"stored by run {found.graph_run}"
    return facts


def _next_step(file: str, found: "FindResult") -> str:
    question = (
        "update findings set decision = 'dismiss', decided_at = datetime('now') where id = ..."
        if any(
            found.counts.get(name) for name in ("duplicates", "outliers", "label_errors", "leaks")
        )
        else f"select * from findings where run_id = {found.run_id}"
    )
    flag = ["--write"] if question.startswith("update") else []
    return command_line("nearsql", "sql", file, *flag, question)
