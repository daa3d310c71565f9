"""`nearsql index FILE --text`: the full-text index of a file's items."""

from contextlib import closing

from nearsql.pipeline.commands.check import report
from nearsql.pipeline.console import command_line, say, summary
from nearsql.pipeline.index.text import (
    check_text_index,
    drop_text_index,
    stored_tokenizer,
    text_index,
)
from nearsql.pipeline.output import write_rows
from nearsql.udfs import dbapi
from nearsql.udfs.connection import open_database


def text_command(
    file: str, tokenizer: str | None, list_: bool, check: bool, drop: bool, format_: str
) -> None:
    """What the options of `nearsql index` ask for, of the full-text index."""
    with closing(open_database(file, read_only=list_)) as db:
        if list_:
            _list(db, format_)
        elif check:
            report(check_text_index(db), format_)
        elif drop:
            drop_text_index(db)
            say("removed the full-text index")
        else:
            _build(db, file, tokenizer or stored_tokenizer(db) or "words")


def _list(db: dbapi.Connection, format_: str) -> None:
    found = stored_tokenizer(db)
    rows = (
        [] if found is None else [[found, *db.execute("select count(*) from items_fts").fetchone()]]
    )
    write_rows(format_, ("tokenizer", "items"), rows)
    if not rows:
        say("there is no full-text index: `nearsql index FILE --text` makes one")


def _build(db: dbapi.Connection, file: str, tokenizer: str) -> None:
    made = text_index(db, tokenizer, quiet=False)
    summary(
        "full-text index of the items"
        if made.is_new
        else "nothing to do: the file has this full-text index, and keeps it true",
        {"tokenizer": made.tokenizer, "items": made.items},
        next_step=command_line("nearsql", "serve", file),
    )
