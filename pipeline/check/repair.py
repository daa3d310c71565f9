"""What a check may mend by itself: only what is derived from rows that are sound.

Rows whose foreign key leads nowhere go as they would have gone with what they belonged to: deleted, or
set to NULL, as the key says. SQLite's own indexes are built anew. A log of changes that does not end at its
space's generation ends there again, with a new token, so that whatever was built on it is built anew.
Indexes of vectors that are not what they say are removed, and the full-text index is made again.
Vectors, labels and results of runs are never touched: they are the data.
"""

from nearsql.pipeline.check.finding import REPAIR
from nearsql.pipeline.check.structure import check_structure
from nearsql.pipeline.index import store
from nearsql.pipeline.index.check import check_indexes
from nearsql.pipeline.index.listing import stored_indexes
from nearsql.pipeline.index.text import (
    check_text_index,
    drop_text_index,
    stored_tokenizer,
    text_index,
)
from nearsql.pipeline.runs import immediate, mark_interrupted
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


def repair(db: dbapi.Connection) -> list[str]:
    """Mends what can be; says in words what was done, nothing when there was nothing to do."""
    done = [*_sqlite_indexes(db), *_lost_keys(db), *_dead_runs(db), *_logs(db)]
    return [*done, *_vector_indexes(db), *_text_index(db)]


def _sqlite_indexes(db: dbapi.Connection) -> list[str]:
    pages = check_structure(db)[0]
    if not pages.wrong or pages.cure != REPAIR:
        return []
    db.execute("reindex")
    return [f"built SQLite's indexes anew: {pages.detail}"]


def _lost_keys(db: dbapi.Connection) -> list[str]:
    """Again and again, since what is deleted may have been referred to itself."""
    done: list[str] = []
    while True:
        keys = {(table, n) for table, _, _, n in db.execute("pragma foreign_key_check").fetchall()}
        mended = [words for key in sorted(keys) for words in _mend_key(db, *key)]
        if not mended:
            return done
        done += mended


def _mend_key(db: dbapi.Connection, table: str, number: int) -> list[str]:
    (row,) = [
        found
        for found in db.execute(
            'select id, "table", "from", "to", on_delete from pragma_foreign_key_list(?)', (table,)
        )
        if found[0] == number
    ]
    _, parent, column, key, on_delete = row
    lost = (
        f'"{column}" is not null and not exists'
        f' (select 1 from "{parent}" p where p."{key or "id"}" = "{table}"."{column}")'
    )
    with immediate(db):
        if on_delete == "CASCADE":
            n = db.execute(f'delete from "{table}" where {lost}').rowcount
            return [f"deleted {n:,} rows of {table} whose row of {parent} is gone"] if n else []
        if on_delete == "SET NULL":
            n = db.execute(f'update "{table}" set "{column}" = null where {lost}').rowcount
            return [f"emptied {column} of {n:,} rows of {table}: no such {parent}"] if n else []
    return []


def _dead_runs(db: dbapi.Connection) -> list[str]:
    n = mark_interrupted(db)
    return [f"marked {n} runs as interrupted, whose processes are gone"] if n else []


def _logs(db: dbapi.Connection) -> list[str]:
    (n,) = db.execute(
        f"select count(*) from ({read_sql(__package__, 'sql/change_log')})"
    ).fetchone()
    if not n:
        return []
    with immediate(db):
        db.apsw.execute(read_sql(__package__, "sql/mend_change_log"))
    return [f"began the logs of changes of {n} spaces anew"]


def _vector_indexes(db: dbapi.Connection) -> list[str]:
    done = [f"removed {what}" for what in store.remove_leftovers(db)]
    wrong = {found.run_id for found in check_indexes(db) if found.wrong}
    for one in stored_indexes(db):
        if one.run_id in wrong:
            store.remove(db, one.id)
            again = f"`nearsql index FILE {one.space} --engine {one.engine}` makes it again"
            done.append(f"removed the {one.engine} index of {one.space}: {again}")
    return done


def _text_index(db: dbapi.Connection) -> list[str]:
    tokenizer = stored_tokenizer(db)
    if tokenizer is None or not any(found.wrong for found in check_text_index(db)):
        return []
    drop_text_index(db)
    text_index(db, tokenizer)
    return ["made the full-text index again"]
