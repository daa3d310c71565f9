"""Making one index: the run of kind `index`, and doing the same again for a replay."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.index import forecast, store, vec0
from nearsql.pipeline.index.again import bar_table, parts_table, recall_table
from nearsql.pipeline.index.recall import (
    MEASURED_ON,
    RECALL_AT,
    TUNED_ON,
    VEC0_MEASURED_ON,
    Candidates,
    Effort,
    choose,
    draw,
    recalls,
)
from nearsql.pipeline.index.request import Engine, IndexResult, Wish
from nearsql.pipeline.index.vectors import SpaceVectors, read_space
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.run_spaces import refuse_if_changed, space_read_by
from nearsql.pipeline.runs import Run, RunInput, immediate, run
from nearsql.udfs import dbapi
from nearsql.udfs.search import memory, stored_vectors
from nearsql.udfs.search.faiss_index import BuiltIndex, build
from nearsql.udfs.spaces import Space, find_space

KIND = "index"
# What the bytes of an index depend on, besides what every run's result does.
_PACKAGES = {"hnsw": ("faiss-cpu",), "ivf": ("faiss-cpu",), "vec0": ("sqlite-vec",)}
_VEC0_EFFORT = Effort(1, 2)


def make(
    db: dbapi.Connection, source: RunInput, engine: Engine, wish: Wish, quiet: bool
) -> IndexResult:
    """Builds the index of a space and puts it in the place of an older one of that engine."""
    n = source.rows or 0
    parameters = wish.parameters(engine, n)
    space = find_space(db.apsw, source.name)
    needed = forecast.index_bytes(engine, n, space.dimensions, wish.m, parameters.get("lists", 0))
    if engine != "vec0":
        _refuse_too_large(space, needed)
    with stored_vectors.snapshot(db.apsw, space) as space:
        vectors = read_space(db.apsw, space, 0 if engine == "vec0" else needed)
        if not quiet:
            forecast.tell(vectors, engine, parameters, wish, needed)
    refuse_if_changed(db, source)  # so the vectors are those that were pinned
    recorded = {"engine": engine, "space": source.name, **parameters}
    recorded |= {"min_recall": wish.min_recall, "threads": wish.threads}
    with run(
        db,
        KIND,
        parameters=recorded,
        seed=wish.seed,
        inputs=[source],
        packages=_PACKAGES[engine],
    ) as current:
        index_id = store.begin(db, vectors.space, current.id, engine, wish.seed)
        try:
            if engine == "vec0":
                built = _make_vec0(current, index_id, vectors, wish, quiet)
            else:
                built = _make_faiss(current, index_id, vectors, engine, wish, quiet)
            current.result_sha256 = built.sha256
            current.counts |= {"vectors": built.n, "bytes": built.bytes}
            current.counts |= {f"recall_at_{k}": share for k, share in built.recall.items()}
            # An index that serves is that of a finished run, whenever the process is killed.
            with immediate(db):
                with current.timed("write"):
                    replaced = store.make_ready(db, index_id, built)
                current.finish()
        except BaseException:
            store.remove(db, index_id)
            raise
        for each in replaced:
            store.remove(db, each)
    return IndexResult(
        source.name,
        current.id,
        True,
        index_id,
        engine,
        built.n,
        built.bytes,
        built.build_ms / 1000,
        built.recall,
        {int(k): Effort(**how) for k, how in built.parameters["search"].items()},
        wish.min_recall,
    )


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """An index, built and measured anew; of vec0, whose recall is that of the table, only built."""
    then = recorded.parameters
    engine, seed = then["engine"], recorded.seed or 0
    found = find_space(db.apsw, space_read_by(db, recorded))
    bar = bar_table(db, recorded)
    with stored_vectors.snapshot(db.apsw, found) as space:
        vectors = read_space(db.apsw, space, 0)
        if engine == "vec0":
            return Again([bar], partial(str, vec0.content_hash(vectors)))
        built = _build(engine, vectors, then, seed, lambda rows: None)
        chosen, recall = _measure(vectors, built, then, then["recall"], seed, quiet=True)
    parts = list(store.with_ids(built.parts(), vectors.ids, vectors.row_ids))
    tables = [parts_table(db, recorded, parts), recall_table(db, recorded, chosen, recall), bar]
    return Again(tables, partial(store.hash_parts, parts))


def _refuse_too_large(space: Space, needed: int) -> None:
    limit = memory.memory_limit()
    if needed > limit:
        raise UserError(
            f"an index of space '{space.name}' needs about {memory.shown_bytes(needed)} of memory, more "
            f"than the {memory.shown_bytes(limit)} allowed: set {memory.MEMORY_VARIABLE} higher, or use "
            "the engine vec0"
        )


def _build(
    engine: Any,
    vectors: SpaceVectors,
    parameters: dict[str, Any],
    seed: int,
    advance: Callable[[int], None],
) -> BuiltIndex:
    """parameters: those of the run."""
    options = {k: parameters[k] for k in ("m", "ef_construction", "lists") if k in parameters}
    return build(
        engine,
        vectors.blocks,
        len(vectors),
        vectors.space.dimensions,
        vectors.space.metric,
        seed=seed,
        threads=parameters["threads"],
        advance=advance,
        **options,
    )


@contextmanager
def _readable(db: dbapi.Connection, vectors: SpaceVectors) -> Iterator[None]:
    """Keeps the file as it was when these vectors were found, if they are still to be read from it.

    The one transaction that is open while something is computed: it only reads.
    """
    with ExitStack() as stack:
        if vectors.matrix is None:
            now = stack.enter_context(stored_vectors.snapshot(db.apsw, vectors.space))
            if now != vectors.space:
                raise UserError(
                    f"the vectors of space '{now.name}' changed just when its index was begun: "
                    "nothing was written, run it again"
                )
        yield


def _make_faiss(
    current: Run, index_id: int, vectors: SpaceVectors, engine: Engine, wish: Wish, quiet: bool
) -> store.Built:
    db, n = current.db, len(vectors)
    parameters = wish.parameters(engine, n)
    started = time.perf_counter()
    with _readable(db, vectors):
        with (
            current.timed("build"),
            progress(f"vectors of {vectors.space.name}", n, quiet=quiet) as bar,
        ):
            options = parameters | {"threads": wish.threads}
            index = _build(engine, vectors, options, wish.seed, bar.advance)
        build_ms = (time.perf_counter() - started) * 1000
        with current.timed("measure"):
            chosen, found = _measure(vectors, index, parameters, wish.recall, wish.seed, quiet)
    with current.timed("write"):
        parts = store.with_ids(index.parts(), vectors.ids, vectors.row_ids)
        n_bytes, head, sha = store.write(db, index_id, parts)
    parameters["search"] = _search_json(chosen)
    return store.Built(n, n_bytes, head, sha, parameters, found, wish.min_recall, build_ms)


def _measure(
    vectors: SpaceVectors,
    index: BuiltIndex,
    parameters: dict[str, Any],
    recall: float,
    seed: int,
    quiet: bool,
) -> tuple[dict[int, Effort], dict[int, float]]:
    """(how to search, recall), by k: the one chosen on one sample, the other measured on another.

    recall: the one to reach.
    """
    name, queries = vectors.space.name, min(TUNED_ON + MEASURED_ON, len(vectors))
    with progress(f"exact neighbours of {queries:,} of {name}", queries, quiet=quiet) as bar:
        tuned_on, measured_on = draw(vectors, (TUNED_ON, MEASURED_ON), seed, bar.advance)
    with progress(f"measuring the index of {name}", len(RECALL_AT), quiet=quiet) as bar:
        chosen, found = {}, {}
        effort = 1
        for k in RECALL_AT:
            how = choose(
                vectors, index.candidates, tuned_on, k, effort, parameters.get("lists"), recall
            )
            effort = how.effort
            chosen[k] = how
            found[k] = _mean_recall(vectors, index.candidates, measured_on, k, how)
            bar.advance()
    return chosen, found


def _make_vec0(
    current: Run, index_id: int, vectors: SpaceVectors, wish: Wish, quiet: bool
) -> store.Built:
    db, space = current.db, vectors.space
    started = time.perf_counter()
    with (
        current.timed("build"),
        progress(f"vectors of {space.name}", len(vectors), quiet=quiet) as bar,
    ):
        n, zeros, sha = vec0.fill(db, index_id, space, bar.advance)
    build_ms = (time.perf_counter() - started) * 1000
    with current.timed("write"):
        n_bytes = vec0.write_zeros(db, index_id, space, zeros)
    with current.timed("measure"), stored_vectors.snapshot(db.apsw, space) as now:
        # What changed meanwhile counts against it here, although knn sees to it.
        vectors = read_space(db.apsw, now, 0)
        candidates = vec0.candidates(db.apsw, vectors, zeros)
        queries = min(VEC0_MEASURED_ON, len(vectors))
        with progress(f"measuring the index of {space.name}", queries, quiet=quiet) as bar:
            (sample,) = draw(vectors, (VEC0_MEASURED_ON,), wish.seed, bar.advance)
            found = {
                k: _mean_recall(vectors, candidates, sample, k, _VEC0_EFFORT) for k in RECALL_AT
            }
    parameters = {"search": _search_json(dict.fromkeys(RECALL_AT, _VEC0_EFFORT))}
    return store.Built(n, n_bytes, sha, sha, parameters, found, wish.min_recall, build_ms)


def _mean_recall(
    vectors: SpaceVectors, candidates: Candidates, sample: Any, k: int, how: Effort
) -> float:
    return round(float(recalls(vectors, candidates, sample, k, how).mean()), 6)


def _search_json(chosen: dict[int, Effort]) -> dict[str, Any]:
    return {
        str(k): {"effort": how.effort, "candidates": how.candidates} for k, how in chosen.items()
    }
