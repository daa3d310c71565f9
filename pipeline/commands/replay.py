"""`nearsql replay FILE RUN`: computes a run again and compares."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from nearsql.pipeline import replay as replaying
from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.output import write_rows
from nearsql.pipeline.result_tables import Comparison, Difference
from nearsql.udfs.connection import open_database

_HEADERS = ("table", "row", "column", "stored", "again", "difference")


@click.command("replay")
@click.argument("file", type=click.Path())
@click.argument("run", type=click.IntRange(min=1))
@click.option(
    "--first",
    metavar="N",
    type=click.IntRange(min=0),
    default=replaying.FIRST,
    show_default=True,
    help="Show so many differing values of each table.",
)
@click.option("--json", "format_", flag_value="json", type=str, help="Those as a JSON array.")
@click.option("--nl", "format_", flag_value="nl", help="Those as JSON lines.")
@click.option("--csv", "format_", flag_value="csv", help="Those as CSV with a header line.")
def command(file: str, run: int, first: int, format_: str | None) -> None:
    """Compute RUN again from what is recorded and compare the results.

    Exit code 0: the same result, bit for bit. 1: a different one, or it cannot be replayed; the reason
    is printed. Of a different result it says what else has changed (versions, machine, device), how many
    rows differ, by how much, and shows the first of them. Rows that somebody changed since the run are
    told, too. The database's derived rows are not touched; the replay is recorded as a run.

    \b
      nearsql replay photos.db 4
      nearsql replay photos.db 4 --first 1000 --csv > differences.csv
    """
    with closing(open_database(file)) as db:
        try:
            outcome = replaying.replay(db, run, first=first)
        except replaying.CannotReplay as reason:
            raise UserError(f"cannot replay: {reason}") from reason
    _report(outcome, is_data=format_ is not None)
    rows = [_row(difference, format_) for table in outcome.tables for difference in table.first]
    if format_ is not None:
        write_rows(format_, _HEADERS, rows)
    elif rows:
        click.echo("")
        write_rows("table", _HEADERS, rows)
    if not outcome.is_same:
        raise SystemExit(1)


def _report(outcome: replaying.Replay, *, is_data: bool) -> None:
    """How it went: on standard output, unless that is for data."""
    tell = say if is_data else click.echo
    verdict = "the same result" if outcome.is_same else "a DIFFERENT result"
    tell(f"run {outcome.original_run_id}: {verdict}")
    tell(f"  recorded  {outcome.expected_sha256}")
    tell(f"  replayed  {outcome.actual_sha256}  (run {outcome.run_id})")
    if not outcome.is_same or outcome.different_rows:
        for line in _what_differs(outcome):
            tell(f"  {line}")
    for change in outcome.changes:
        tell(f"  {change.what}: {_said(change.then)} then, {_said(change.now)} now")
    if not outcome.is_same and not outcome.changes:
        tell("  versions, machine and device are those of then")


def _what_differs(outcome: replaying.Replay) -> Iterator[str]:
    if not outcome.tables:
        yield "its rows are not compared: of this kind only the hash is known"
    elif outcome.is_same:
        yield "but what is stored is no longer what the run wrote:"
    elif not outcome.different_rows:
        yield "no row differs: what does is their order, or something that is in no row"
    for table in outcome.tables:
        yield from _counts(table)


def _counts(table: Comparison) -> Iterator[str]:
    """How many of how many, and by how much."""
    parts = [
        f"{n:,} {what}"
        for n, what in (
            (table.changed, "changed"),
            (table.missing, "stored and not found again"),
            (table.added, "found and not stored"),
        )
        if n
    ]
    detail = f" ({', '.join(parts)})" if parts else ""
    yield f"{table.table}: {table.different:,} of {table.rows:,} rows differ{detail}"
    for column, largest in table.largest.items():
        yield f"  {column} by {largest:.3g} at most"


def _row(difference: Difference, format_: str | None) -> tuple[Any, ...]:
    key, stored, again = (
        _one_value(value, format_)
        for value in (difference.row, difference.stored, difference.again)
    )
    return (difference.table, key, difference.column or "", stored, again, difference.by)


def _one_value(value: Any, format_: str | None) -> Any:
    """A value as it is; several by name as an object, in CSV as its text, and for people in words."""
    if not isinstance(value, dict):
        return value
    if format_ is None:
        return ", ".join(
            f"{name} {f'<{len(v):,} bytes>' if isinstance(v, bytes) else _said(v)}"
            for name, v in value.items()
        )
    plain = {name: v.hex() if isinstance(v, bytes) else v for name, v in value.items()}
    return json.dumps(plain, ensure_ascii=False) if format_ == "csv" else plain


def _said(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
