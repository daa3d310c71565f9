"""`nearsql diff`: what changed between two clusterings."""

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import command_line, summary
from nearsql.pipeline.output import column_names, write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.diff import Diff


@click.command("diff")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("run_a", type=click.IntRange(min=1))
@click.argument("run_b", type=click.IntRange(min=1))
@click.option(
    "--level",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Which level of the runs; 1 is the coarsest.",
)
@click.option("--level-b", type=click.IntRange(min=1), help="Another level of RUN_B.")
@click.option("--items", is_flag=True, help="List the items that moved, not the clusters.")
@click.option("--json", "format_", flag_value="json", type=str, help="A JSON array of objects.")
@click.option("--nl", "format_", flag_value="nl", help="JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="CSV with a header line.")
@click.option(
    "--table", "format_", flag_value="table", default="table", help="A table (the default)."
)
def command(
    file: str,
    run_a: int,
    run_b: int,
    level: int,
    level_b: int | None,
    items: bool,
    format_: str,
) -> None:
    """Say what became of the clusters of RUN_A in RUN_B: the same, split, merged, gone; and what is new.

    Two clusters are counterparts when one holds more than half of the other's items; only items that
    both runs hold are compared, so that samples can be compared with the whole, and one space with another.
    How much the runs agree (ARI, AMI), what moved and which parameters differ stands below.

    \b
      nearsql diff photos.db 3 5
      nearsql diff photos.db 3 5 --items --csv > moved.csv
      nearsql diff photos.db 7 7 --level 1 --level-b 2
    """
    from nearsql.pipeline.diff import diff_runs

    with closing(open_database(file, read_only=True)) as db:
        found = diff_runs(db, run_a, run_b, level=level, level_b=level_b)
        cursor = found.items(db) if items else found.clusters(db)
        headers = column_names(cursor)
        if format_ == "table":
            write_rows(format_, *_worth_reading(headers, cursor.fetchall()))
        else:
            write_rows(format_, headers, cursor)
        summary(_title(found), _facts(db, found), next_step=_next_step(file, found, items))


def _worth_reading(
    headers: list[str], rows: list[tuple[Any, ...]]
) -> tuple[list[str], list[list[Any]]]:
    """Without names that no cluster has, texts that no item has, and counts of which all are compared."""
    columns = dict(zip(headers, zip(*rows, strict=True), strict=True)) if rows else {}
    dull = [
        name
        for name, values in columns.items()
        if (name in ("name_a", "name_b", "uri", "text") and set(values) == {None})
        or (name.startswith("compared") and values == columns[name.replace("compared", "size")])
    ]
    kept = [name for name in headers if name not in dull]
    return kept, [[row[headers.index(name)] for name in kept] for row in rows]


def _title(found: "Diff") -> str:
    if found.level_a == found.level_b == 1:
        return f"run {found.run_a} and run {found.run_b}"
    return f"run {found.run_a}, level {found.level_a}, and run {found.run_b}, level {found.level_b}"


def _facts(db: dbapi.Connection, found: "Diff") -> dict[str, Any]:
    agreement = found.agreement
    facts: dict[str, Any] = {"items in both": agreement["items"]}
    for name, run in (("only_a", found.run_a), ("only_b", found.run_b)):
        if agreement[name]:
            facts[f"only in {run}"] = agreement[name]
    facts["clusters"] = f"{agreement['clusters_a']:,} -> {agreement['clusters_b']:,}"
    facts["noise"] = f"{agreement['noise_a']:,} -> {agreement['noise_b']:,}"
    facts["changes"] = _changes(found.count_changes(db))
    facts["items that moved"] = (
        f"{agreement['moved']:,} to another cluster, {agreement['to_noise']:,} to noise,"
        f" {agreement['from_noise']:,} from noise"
    )
    facts["agreement"] = _agreement(agreement["ari"], agreement["ami"])
    if agreement["noise_a"] or agreement["noise_b"]:
        facts["without noise"] = (
            _agreement(agreement["ari_in_clusters"], agreement["ami_in_clusters"])
            + f", of {agreement['in_clusters']:,} items"
        )
    for name, (a, b) in found.settings.items():
        facts[name] = f"{_value(a)} -> {_value(b)}"
    if found.vectors_changed:
        facts["vectors"] = "changed between the two runs"
    return facts


def _changes(counts: dict[str | None, tuple[int, int, int]]) -> str:
    """The changes in words; of those that many clusters share, how many became how many."""
    words = {
        "same": "{0:,} the same",
        "split": "{1:,} split into {2:,}",
        "merged": "{1:,} merged into {2:,}",
        "mixed": "{0:,} parts joined others",
        "gone": "{1:,} gone",
        "new": "{2:,} new",
        None: "{0:,} not compared",
    }
    said = [form.format(*counts[change]) for change, form in words.items() if change in counts]
    return ", ".join(said) or "none: neither has clusters"


def _agreement(ari: float | None, ami: float | None) -> str:
    if ari is None or ami is None:
        return "not defined: fewer than 2 items"
    return f"ARI {ari:.3f}, AMI {ami:.3f}"


def _value(value: Any) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value)


def _next_step(file: str, found: "Diff", items: bool) -> str | None:
    words: list[object] = ["nearsql", "diff", file, found.run_a, found.run_b]
    if found.level_a != 1:
        words += ["--level", found.level_a]
    if found.level_b != found.level_a:
        words += ["--level-b", found.level_b]
    moved = sum(found.agreement[name] for name in ("moved", "to_noise", "from_noise"))
    return command_line(*words, "--items") if moved and not items else None
