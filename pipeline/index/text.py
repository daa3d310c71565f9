"""The full-text index of the items: made when it is asked for, and kept true by triggers from then on.

It is FTS5's own table, `items_fts`, and belongs to no run: like an index of SQLite it says at any time
what the tables say. Until it is made, the file's tables can be written by an SQLite without FTS5.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, cast

import apsw

from nearsql.pipeline.check.finding import Finding
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

Tokenizer = Literal["words", "english", "parts"]

# FTS5's tokenizers by our names for them.
TOKENIZERS: dict[str, str] = {
    "words": "unicode61 remove_diacritics 2",
    "english": "porter unicode61 remove_diacritics 2",
    "parts": "trigram",
}

# The row of `metadata` that says that every item is in it: it comes last.
MARK = "items_fts"

_HOW = "`nearsql index FILE --text` makes one"

# Items written in one transaction: about 0.2 s of short texts.
BATCH = 5000


@dataclass(frozen=True, slots=True)
class TextIndex:
    """The full-text index of a file. is_new: made now, and not found as it was asked for."""

    tokenizer: str
    items: int
    is_new: bool


def text_index(db: dbapi.Connection, tokenizer: str = "words", *, quiet: bool = True) -> TextIndex:
    """Makes the full-text index of a file, in short transactions; nothing, when there is this one.

    tokenizer: `words` splits at all that is no letter or digit, and ignores case and accents; `english`
    also takes word forms for the same (runs, running); `parts` finds any three characters in a row, also
    inside words and in scripts without spaces. Raises UserError for another one.
    """
    if tokenizer not in TOKENIZERS:
        raise UserError(f"there is no tokenizer {tokenizer!r}: it is {', '.join(TOKENIZERS)}")
    if stored_tokenizer(db) == tokenizer and not _differences(db, tokenizer):
        return TextIndex(tokenizer, _count(db), is_new=False)
    with immediate(db):
        _refuse_others(db)
        _drop(db)
        db.apsw.execute(_script(tokenizer))
    with progress("items indexed by their text", _count(db), quiet=quiet) as bar:
        after = -(2**63)
        while True:
            with immediate(db):
                # The triggers see to what others write meanwhile, also to ids below `after`.
                ids = db.execute(
                    "select id from items where id > ? order by id limit ?", (after, BATCH)
                ).fetchall()
                if not ids:
                    mark = json.dumps({"tokenizer": tokenizer})
                    db.execute("insert or replace into metadata values (?, ?)", (MARK, mark))
                    break
                last = ids[-1][0]
                db.execute(read_sql(__package__, "text_batch"), {"after": after, "last": last})
            bar.advance(len(ids))
            after = last
    return TextIndex(tokenizer, _count(db), is_new=True)


def stored_tokenizer(db: dbapi.Connection) -> str | None:
    """The tokenizer of the file's full-text index; None when there is none, or it is not finished."""
    row = db.execute("select value from metadata where key = ?", (MARK,)).fetchone()
    try:
        name = json.loads(row[0])["tokenizer"] if row else None
    except (ValueError, TypeError, KeyError):
        return None
    return name if name in TOKENIZERS else None


def drop_text_index(db: dbapi.Connection) -> None:
    """Removes the index with its triggers. Raises UserError when there is none."""
    with immediate(db):
        if stored_tokenizer(db) is None and "items_fts" not in _statements(db.apsw):
            raise UserError(f"there is no full-text index to drop: {_HOW}")
        _refuse_others(db)
        _drop(db)


def check_text_index(db: dbapi.Connection) -> list[Finding]:
    """Whether the index is made of what it should be, and has each item's words; raises UserError if none.

    definition: the statements that made it, triggers included. items: each item's row is as it would be
    written now. words: FTS5's own check that the words of each row are found.
    """
    tokenizer = stored_tokenizer(db)
    if tokenizer is None:
        raise UserError(f"there is no full-text index to check: {_HOW}")
    wrong = _differences(db, tokenizer)
    findings = [_finding("definition", len(_definition(tokenizer)), wrong)]
    if not wrong:
        items = [i for (i,) in db.execute(read_sql(__package__, "text_differences"))]
        findings.append(_finding("items", _count(db), [f"item {i}" for i in items]))
        findings.append(_words(db))
    return findings


def _words(db: dbapi.Connection) -> Finding:
    # As FTS5's own 'integrity-check' does, which is asked for by an INSERT: a reader could not.
    said = db.execute("pragma integrity_check(items_fts)").fetchall()
    return _finding("words", _count(db), [text for (text,) in said if text != "ok"])


def _finding(what: str, checked: int, faults: list[str]) -> Finding:
    name = f"{what} of the full-text index"
    return Finding(name, None, checked, len(faults), detail=faults[0] if faults else None)


def _script(tokenizer: str) -> str:
    return read_sql(__package__, "text_index").replace("{tokenizer}", TOKENIZERS[tokenizer])


def _definition(tokenizer: str) -> dict[str, str]:
    """What the index consists of, by name: the statements as SQLite keeps them."""
    model = apsw.Connection(":memory:")
    model.execute("create table items (id, kind, content, uri)")
    model.execute("create table item_labels (item_id, name, value)")
    model.execute(_script(tokenizer))
    return _statements(model)


def _statements(db: apsw.Connection) -> dict[str, str]:
    # What FTS5 makes below it is its own affair, and its tables are of type table but for the one.
    found = db.execute(
        "select cast(name as blob), cast(sql as blob) from sqlite_schema"
        " where name = 'items_text' and type = 'view'"
        " or name = 'items_fts' and type = 'table'"
        " or name glob 'items_fts_*' and type = 'trigger' and tbl_name in ('items', 'item_labels')"
    )
    # As BLOBs: in a damaged file they may be no texts.
    rows = ([str(cell, "utf-8", "backslashreplace") for cell in cast(Any, row)] for row in found)
    return {name: sql for name, sql in rows}


def _differences(db: dbapi.Connection, tokenizer: str) -> list[str]:
    """The names of what is not as it was made: missing, changed, or not of ours."""
    there, wanted = _statements(db.apsw), _definition(tokenizer)
    return sorted(name for name in {*there, *wanted} if there.get(name) != wanted.get(name))


def _refuse_others(db: dbapi.Connection) -> None:
    """Raises UserError where another program made a table of this name: it is not ours to remove."""
    there = _statements(db.apsw).get("items_fts")
    ours = [_definition(tokenizer)["items_fts"] for tokenizer in TOKENIZERS]
    if there is not None and there not in ours and stored_tokenizer(db) is None:
        raise UserError(
            "the table items_fts was made by another program: remove it first, as in"
            " `sqlite-utils disable-fts FILE items`"
        )


def _drop(db: dbapi.Connection) -> None:
    """Removes all of it, also what a stopped build left. Within a transaction."""
    db.execute("delete from metadata where key = ?", (MARK,))
    kinds = dict(db.execute("select name, type from sqlite_schema where type in ('view', 'table')"))
    for name in _statements(db.apsw):
        if name not in kinds:
            db.execute(f'drop trigger "{name}"')
    for name in ("items_text", "items_fts"):
        if name in kinds:
            db.execute(f"drop {kinds[name]} {name}")


def _count(db: dbapi.Connection) -> int:
    return int(db.execute("select count(*) from items").fetchone()[0])
