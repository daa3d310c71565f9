"""What makes an index, as it is stored, beside what a replay built and measured."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

from nearsql.pipeline.index.recall import Effort
from nearsql.pipeline.index.store import Part
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import ResultTable, Row
from nearsql.udfs import dbapi
from nearsql.udfs.search.index_parts import ROWS
from nearsql.udfs.sql_files import read_sql


def parts_table(db: dbapi.Connection, recorded: RecordedRun, parts: Iterable[Part]) -> ResultTable:
    """The parts of an index with their sizes and hashes, but for the row ids, which are the file's own."""
    again = (
        (part, len(data), hashlib.sha256(data.data).hexdigest())
        for part, data in parts
        if part != ROWS
    )
    columns = ("part", "bytes", "sha256")
    return ResultTable("vector_index_chunks", columns, 1, _stored_parts(db, recorded.id), again)


def recall_table(
    db: dbapi.Connection,
    recorded: RecordedRun,
    chosen: Mapping[int, Effort],
    recall: Mapping[int, float],
) -> ResultTable:
    """How it is searched for k neighbours, and what that finds."""
    stored = db.execute(read_sql(__package__, "recall_of_run"), (recorded.id,)).fetchall()
    again = [(k, how.effort, how.candidates, recall[k]) for k, how in sorted(chosen.items())]
    columns = ("k", "effort", "candidates", "recall")
    return ResultTable("vector_indexes, by k", columns, 1, stored, again)


def bar_table(db: dbapi.Connection, recorded: RecordedRun) -> ResultTable:
    """Below which recall `knn` refuses it; another `nearsql index` may have moved that."""
    stored = db.execute(
        "select engine, min_recall from vector_indexes where run_id = ? and is_ready",
        (recorded.id,),
    ).fetchall()
    again = [(recorded.parameters["engine"], recorded.parameters["min_recall"])]
    return ResultTable("vector_indexes", ("engine", "min_recall"), 1, stored, again)


def _stored_parts(db: dbapi.Connection, run_id: int) -> Iterator[Row]:
    chunks = db.execute(read_sql(__package__, "chunks_of_run"), {"run": run_id, "rows": ROWS})
    for part, of_part in groupby(chunks, key=itemgetter(0)):
        digest, n_bytes = hashlib.sha256(), 0
        for _, data in of_part:
            digest.update(data)
            n_bytes += len(data)
        yield part, n_bytes, digest.hexdigest()
