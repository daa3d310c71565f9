"""Neighbors: each item's k nearest others in a space, stored, so that they are read and not computed.

    neighbors(db, ["digits/pixels"], k=30)
    db.execute("select neighbor_id, distance from neighbors where run_id = 7 and item_id = 42 order by rank")

The rows are those of the SQL function `knn_graph`, from the computation under it. (A cursor open over
the function itself would hold a snapshot of the file while the rows are written, which fails as soon as
another process writes.)

Blocks of items are computed with no transaction open, then written in a short one, which checks that the
space is still the one that the run has pinned. A run that is stopped goes on where it was; only one whose
status is `finished` has the whole graph. A space that does not fit in memory is read from the file as
often as it takes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.engines import Engine, Workers
from nearsql.pipeline.engines.local import LocalEngine
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.graph_work import GraphTask, graph_by
from nearsql.pipeline.neighbor_rows import (
    Block,
    add_to_hash,
    already_written,
    as_rows,
    remove_rows,
    worth_writing,
    write_block,
)
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable, Row, stored_by_item
from nearsql.pipeline.row_hash import RowHash
from nearsql.pipeline.run_spaces import refuse_if_changed, space_read_by
from nearsql.pipeline.runs import Run, RunInput, run, space_input
from nearsql.pipeline.within import (
    Within,
    items_in_space,
    recorded_within,
    within_ids,
    within_parameters,
)
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.exact_search import exact_graph_blocks
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.stored_graph import graph_run
from nearsql.udfs.spaces import Space, find_space
from nearsql.udfs.sql_files import read_sql

KIND = "neighbors"
# What the result depends on, besides what every run's does.
PACKAGES = ("faiss-cpu",)

# For the forecast: a row with its places in two indexes, and how many are written in a second.
_BYTES_A_ROW = 62
_ROWS_A_SECOND = 100_000
_SAMPLE = 256  # queries timed for the forecast


@dataclass(frozen=True, slots=True)
class NeighborsResult:
    """A space's stored graph: the run that has it, or None and why the space was skipped.

    is_new: made now, and not found finished with the same vectors and no smaller k.
    counts: items, neighbors (rows stored); already, of the items, when a stopped run went on.
    """

    space: str
    run_id: int | None
    is_new: bool = False
    counts: dict[str, int | float] = field(default_factory=dict)
    skipped: str | None = None


def neighbors(
    db: dbapi.Connection,
    spaces: Sequence[str],
    k: int = 30,
    within: str | None = None,
    engine: Engine | None = None,
    quiet: bool = True,
) -> list[NeighborsResult]:
    """Stores the k nearest other items of every item of the spaces; gives a result for each.

    within: of some items only, as `--within` has it, and among these. Such a graph is no graph of the
    space: it is there to be read, and neither `cluster` nor `project` takes it. engine: where it is
    computed, which makes no difference to the rows; default, here.

    A space of fewer than two items is skipped. Where a finished run has the graph already, of the same
    vectors and with no smaller k, nothing is done. Raises LookupError for a space that is not there,
    before any work, and UserError for k < 1, when a space changes while its graph is made, or when
    another process is making the same one.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    if not spaces:
        raise UserError("name the spaces whose neighbours to store: see `select name from spaces`")
    _refuse_unknown(db, spaces)
    only = within_ids(db, within)
    results = []
    for name in dict.fromkeys(spaces):
        source = space_input(db, name)
        n = items_in_space(db, source, only)
        serving = (
            stored_neighbors(db, name, k) if only is None else _stored_of_some(db, source, k, only)
        )
        if n < 2:
            has = "it has" if only is None else "--within leaves"
            reason = f"{has} {n} item{'s' * (n != 1)}, and 2 are needed to be neighbours"
            say(f"skipped {name}: {reason}")
            results.append(NeighborsResult(name, None, counts={"items": n}, skipped=reason))
        elif serving is not None:
            results.append(NeighborsResult(name, serving))
        else:
            results.append(_store(db, source, k, only, engine or LocalEngine(), quiet))
    return results


def stored_neighbors(db: dbapi.Connection, space: str, k: int) -> int | None:
    """The newest finished run whose stored graph is that of the space as it is now, with at least k
    neighbours of each item (or all there are); None when there is none, or rows of it were deleted.

    Its ranks 1 to k are the rows of knn_graph(space, k). Raises SqlFunctionError for a space that is not
    there.
    """
    found = graph_run(db.apsw, find_space(db.apsw, space), k)
    if found is None:
        return None
    (n_rows,) = db.execute(
        "select count(*) from neighbors where run_id = ?", (found.id,)
    ).fetchone()
    return found.id if n_rows == found.n * found.k else None


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A stored graph, computed anew."""
    if recorded.parameters.get("method") != "exact":
        raise CannotReplay(
            f"run {recorded.id} found neighbours by {recorded.parameters.get('method')!r}, not 'exact'"
        )
    only = recorded_within(db, recorded)
    subset = None if only is None else only.ids
    space = find_space(db.apsw, space_read_by(db, recorded))
    digest = RowHash()

    def again() -> Iterator[Row]:
        for arrays in exact_graph_blocks(db.apsw, space, recorded.parameters["k"], subset=subset):
            block = Block(*arrays)
            add_to_hash(digest, block)
            yield from as_rows(block)

    items = db.execute(
        "select distinct item_id from neighbors where run_id = ? order by item_id",
        (recorded.id,),
    ).fetchall()
    stored = stored_by_item(db, _sql("of_items"), recorded.id, [item for (item,) in items])
    columns = ("item_id", "rank", "neighbor_id", "distance")
    return Again([ResultTable("neighbors", columns, 2, stored, again())], digest.hexdigest)


def _stored_of_some(db: dbapi.Connection, source: RunInput, k: int, only: Within) -> int | None:
    """As `stored_neighbors`, of the graph of these items alone."""
    n = items_in_space(db, source, only)
    asked = {
        "space_id": source.space_id,
        "generation": source.generation,
        "generation_token": source.generation_token,
        "within_sha256": only.sha256,
        "width": _width(n, k),
        "n": n,
    }
    row = db.execute(_sql("of_some_items"), asked).fetchone()
    return None if row is None else int(row[0])


def _refuse_unknown(db: dbapi.Connection, spaces: Sequence[str]) -> None:
    there = [name for (name,) in db.execute("select name from spaces order by name")]
    for name in spaces:
        if name not in there:
            raise LookupError(
                f"there is no space {name!r}: the spaces are "
                + (", ".join(there) or "none; run `nearsql embed` first")
            )


def _store(
    db: dbapi.Connection,
    source: RunInput,
    k: int,
    only: Within | None,
    engine: Engine,
    quiet: bool,
) -> NeighborsResult:
    parameters = {
        "method": "exact",
        "space": source.name,
        "k": k,
        **within_parameters(only),
        # So that only a run on these very vectors is gone on with.
        "generation": source.generation,
        "generation_token": source.generation_token,
    }
    space = find_space(db.apsw, source.name)
    matrix = _in_memory(db, space)
    refuse_if_changed(db, source)
    if not engine.is_here and isinstance(matrix, TooLarge):
        raise UserError(f"--engine ray sends the vectors from memory to its workers: {matrix}")
    if not quiet:
        _forecast(space, items_in_space(db, source, only), k, matrix)
    with (
        _searching(engine, matrix, _width(items_in_space(db, source, only), k), only) as by,
        run(
            db, KIND, parameters=parameters, inputs=[source], packages=PACKAGES, resume=True
        ) as current,
    ):
        # What stopped and is not gone on with would only take room, and there is one graph to make.
        for (stopped,) in db.execute(_sql("stopped"), {"space_id": source.space_id}).fetchall():
            remove_rows(db, stopped)
            if not quiet:
                say(f"removed the rows of run {stopped}, which had stopped on the way")
        try:
            current.result_sha256 = _fill(current, source, space, k, only, by, quiet)
        except (UserError, SqlFunctionError) as error:
            if not _has_changed(db, source):
                raise
            remove_rows(db, current.id)
            raise UserError(
                f"the vectors of space '{source.name}' changed during this run, so that its "
                "neighbours would not be theirs: the rows written so far are removed, run it again"
            ) from error
        if by is not None:
            by.workers.record(current)
    return NeighborsResult(source.name, current.id, True, dict(current.counts))


@dataclass(frozen=True, slots=True)
class _By:
    """The workers that search in other processes, and what they were sent."""

    workers: Workers
    task: GraphTask


@contextmanager
def _searching(
    engine: Engine, matrix: Matrix | TooLarge, width: int, only: Within | None
) -> Iterator[_By | None]:
    """Who searches; None for this process, which does it as `knn_graph` does."""
    if engine.is_here:
        yield None
        return
    assert not isinstance(matrix, TooLarge)
    task = GraphTask.of(matrix, width, None if only is None else only.ids)
    with engine.workers(task) as workers:
        yield _By(workers, task)


def _has_changed(db: dbapi.Connection, source: RunInput) -> bool:
    try:
        refuse_if_changed(db, source)
    except UserError:
        return True
    return False


def _in_memory(db: dbapi.Connection, space: Space) -> Matrix | TooLarge:
    """The vectors of the space, or why there is no room for them."""
    try:
        return load_matrix(db.apsw, space)
    except TooLarge as error:
        return error


def _forecast(space: Space, n: int, k: int, matrix: Matrix | TooLarge) -> None:
    """Says how many rows it will be, and by a sample of the items how long it will take."""
    n_rows = n * _width(n, k)
    rows = f"{space.name}: {n:,} items, {n_rows:,} rows, about"
    size = size_in_words(n_rows * _BYTES_A_ROW)
    if isinstance(matrix, TooLarge):
        say(
            f"{rows} {size} in the file. The vectors are read from the file over and over, which takes "
            f"longer: {matrix}"
        )
        return
    sample = np.linspace(0, len(matrix.ids) - 1, min(n, _SAMPLE)).astype(np.int64)
    nearest(matrix, matrix.vectors[:1], k)  # what the first search alone has to prepare
    start = time.perf_counter()
    nearest(matrix, matrix.vectors[sample], k, exclude=matrix.ids[sample])
    # Among some items only, each search is shorter by as much.
    searched = n * n / len(matrix.ids)
    seconds = (time.perf_counter() - start) * searched / len(sample) + n_rows / _ROWS_A_SECOND
    say(f"{rows} {size} in the file and {duration_in_words(seconds)}")


def _fill(
    current: Run,
    source: RunInput,
    space: Space,
    k: int,
    only: Within | None,
    by: _By | None,
    quiet: bool,
) -> str:
    """Writes what is not yet written of the run's graph; gives the SHA-256 of all of it.

    Raises UserError, or in the middle of a block SqlFunctionError, when the space is no longer what was
    pinned.
    """
    db, n = current.db, items_in_space(current.db, source, only)
    subset = None if only is None else only.ids
    width = _width(n, k)
    done, digest = 0, RowHash()
    with progress(f"items of {source.name}", n, quiet=quiet) as bar:
        if current.is_resumed:
            with current.timed("read"):
                done, digest = already_written(db, current.id, space, n, width, subset)
            bar.advance(done)
        if by is None:
            found = exact_graph_blocks(db.apsw, space, k, subset=subset, first=done)
        else:
            found = graph_by(by.workers, by.task, done)
        blocks = worth_writing(found, bar.advance)
        while True:
            with current.timed("compute"):
                block = next(blocks, None)
            if block is None:
                break
            with current.timed("write"):
                write_block(db, current.id, source, block)
            add_to_hash(digest, block)
    refuse_if_changed(db, source)  # when there was nothing left to write
    current.counts |= {"items": n, "neighbors": n * width}
    if done:
        current.counts["already"] = done
    return digest.hexdigest()


def _width(n: int, k: int) -> int:
    """How many neighbours each of n items, two or more, has."""
    return min(k, n - 1)


def _sql(name: str) -> str:
    return read_sql(__package__, f"neighbors_{name}")
