"""`nearsql index`: persistent indexes of spaces; built, listed, checked, dropped."""

import sys
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from nearsql.pipeline.console import UserError, command_line, say, sql_text, summary
from nearsql.pipeline.estimate import size_in_words
from nearsql.pipeline.output import FORMATS, write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database

if TYPE_CHECKING:
    from nearsql.pipeline.index import IndexResult

ENGINES = ("hnsw", "ivf", "vec0")


def _format_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--csv", "format_", flag_value="csv", help="The same as CSV."),
        click.option("--nl", "format_", flag_value="nl", help="The same as JSON lines."),
        click.option("--json", "format_", flag_value="json", help="The same as JSON."),
        click.option(
            "--format",
            "format_",
            type=click.Choice(FORMATS),
            default="table",
            help="Of what --list and --check print.",
        ),
    ):
        command = option(command)
    return command


@click.command("index")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("spaces", metavar="[SPACE]...", nargs=-1)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help="hnsw: a graph, the quickest. ivf: lists, built sooner and read piecemeal. vec0: a table of"
    " sqlite-vec, which needs no memory. By default hnsw up to 200,000 vectors, ivf above.",
)
@click.option("--m", default=16, show_default=True, help="hnsw: links of each vector.")
@click.option(
    "--ef-construction", default=200, show_default=True, help="hnsw: candidates for the links."
)
@click.option("--lists", type=int, help="ivf: how many lists; by default about 4 sqrt(n).")
@click.option(
    "--recall",
    default=0.99,
    show_default=True,
    help="The share of the true neighbours that a search shall find.",
)
@click.option(
    "--min-recall",
    default=0.95,
    show_default=True,
    help="Below it, knn refuses the index and says so.",
)
@click.option(
    "--text", is_flag=True, help="The full-text index of all items, instead of a SPACE's."
)
@click.option(
    "--tokenizer",
    type=click.Choice(("words", "english", "parts")),
    help="--text: words; english, where runs and running are one; or parts, any three characters in a"
    " row, for scripts without spaces. By default words.",
)
@click.option("--threads", type=click.IntRange(min=1), help="By default, as OMP_NUM_THREADS says.")
@click.option("--seed", default=0, show_default=True)
@click.option("--list", "list_", is_flag=True, help="List the indexes; nothing is built.")
@click.option("--check", is_flag=True, help="Check the indexes and measure their recall anew.")
@click.option("--drop", is_flag=True, help="Remove the indexes of each SPACE.")
@_format_options
def command(
    file: str,
    spaces: tuple[str, ...],
    engine: Any,
    list_: bool,
    check: bool,
    drop: bool,
    text: bool,
    tokenizer: str | None,
    format_: str,
    **options: Any,
) -> None:
    """Build an index of each SPACE of FILE, which knn then searches instead of every vector.

    It is stored in the file. What changes in a space later is found all the same: knn looks at it
    exactly, until the index is built anew. How much of the true neighbours it finds is measured and
    stored with it; `exact = 1` in SQL goes past it. See docs/searching.md.

    \b
      nearsql index photos.db clip:ViT-B-32
      nearsql index photos.db clip:ViT-B-32 --recall 0.999
      nearsql index photos.db --list
      nearsql index photos.db --check
      nearsql index photos.db clip:ViT-B-32 --drop
      nearsql index photos.db --text
    """
    if list_ + check + drop > 1:
        raise UserError("--list, --check and --drop exclude each other")
    if tokenizer is not None and not text:
        raise UserError("--tokenizer is for --text")
    if text:
        if spaces or engine:
            raise UserError("--text is about all items: leave SPACE and --engine out")
        from nearsql.pipeline.commands.index_text import text_command

        text_command(file, tokenizer, list_, check, drop, format_)
        return
    with closing(open_database(file, read_only=list_ or check)) as db:
        if list_:
            _list(db, spaces, engine, format_)
        elif check:
            _check(db, spaces, engine, format_)
        elif drop:
            _drop(db, spaces, engine)
        else:
            _build(db, file, spaces, engine, options)


def _build(
    db: dbapi.Connection, file: str, spaces: tuple[str, ...], engine: Any, options: dict[str, Any]
) -> None:
    from nearsql.pipeline.index import index

    results = index(db, spaces, engine, quiet=False, **options)
    made = [result for result in results if result.run_id is not None]
    if not made:
        raise UserError("no index was built: see above for the reasons")
    for result in made:
        usable = not result.below_bar
        (item,) = db.execute(
            "select min(v.item_id) from vectors v join spaces s on s.id = v.space_id"
            " where s.name = ?",
            (result.space,),
        ).fetchone()
        query = f"select * from knn({sql_text(result.space)}, {item}, 10)"
        summary(
            f"run {result.run_id}: {result.engine} index of {result.space}"
            if result.is_new
            else f"nothing to do: run {result.run_id} made this {result.engine} index of {result.space}",
            _facts(result),
            next_step=command_line("nearsql", "sql", file, query)
            if usable and result is made[-1]
            else None,
        )
    refused = [result for result in made if result.below_bar]
    for result in refused:
        say(_refusal(file, result))
    if refused:
        sys.exit(1)


def _facts(result: "IndexResult") -> dict[str, Any]:
    facts: dict[str, Any] = {"vectors": result.n, "size": size_in_words(result.bytes)}
    facts["built in"] = f"{result.seconds:.1f} s"
    for k, share in result.recall.items():
        how = result.search[k]
        searched = f"looking at {how.candidates * k} exactly"
        if result.engine != "vec0":
            name = "efSearch" if result.engine == "hnsw" else "lists probed"
            searched = f"{name} {how.effort}, {searched}"
        facts[f"recall@{k}"] = f"{share:.4f} ({searched})"
    return facts


def _refusal(file: str, result: "IndexResult") -> str:
    """What to do about an index that knn will not search."""
    found = ", ".join(f"{share:.4f} at k = {k}" for k, share in result.below_bar.items())
    lower = min(result.below_bar.values())
    lowered = command_line(
        *("nearsql", "index", file, result.space, "--engine", result.engine),
        *("--min-recall", f"{int(lower * 100) / 100:g}"),
    )
    dropped = command_line("nearsql", "index", file, result.space, "--drop")
    more = {
        "hnsw": "a larger --m and --ef-construction",
        "ivf": "fewer --lists, or --engine hnsw",
    }.get(result.engine or "", "--engine hnsw")
    return (
        f"the {result.engine} index of {result.space} finds {found}, less than {result.min_recall:g}: "
        f"knn refuses it. Build it with {more}; or lower the bar: {lowered}; or remove it: {dropped}"
    )


def _list(db: dbapi.Connection, spaces: tuple[str, ...], engine: Any, format_: str) -> None:
    from nearsql.pipeline.index.listing import stored_indexes

    found = stored_indexes(db, spaces, engine)
    columns = (
        *("space", "engine", "n", "bytes", "recall_at_1", "recall_at_10", "recall_at_100"),
        *("min_recall", "effort_at_10", "created_at", "seconds", "changed", "run_id"),
    )
    headers = columns
    rows = [[getattr(one, name) for name in columns] for one in found]
    if format_ == "table":
        headers = (
            *("space", "engine", "n", "size", "recall@1", "recall@10", "recall@100"),
            *("bar", "effort", "built", "seconds", "changed since", "run"),
        )
        for row in rows:
            row[3] = size_in_words(row[3])
            row[9] = row[9][:16].replace("T", " ")
            row[11] = "the log does not tell" if row[11] is None else row[11]
    write_rows(format_, headers, rows)
    if not found:
        say("there is no index: `nearsql index FILE SPACE` builds one")


def _check(db: dbapi.Connection, spaces: tuple[str, ...], engine: Any, format_: str) -> None:
    from nearsql.pipeline.commands.check import report
    from nearsql.pipeline.index.check import check_indexes

    report(check_indexes(db, spaces, engine), format_)


def _drop(db: dbapi.Connection, spaces: tuple[str, ...], engine: Any) -> None:
    from nearsql.pipeline.index.listing import drop

    removed, leftovers = drop(db, spaces, engine)
    for one in removed:
        say(f"removed the {one.engine} index of {one.space} ({size_in_words(one.bytes)})")
    for line in leftovers:
        say(f"removed {line}")
