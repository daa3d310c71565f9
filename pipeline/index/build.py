"""Index: a persistent index of each space, which `knn` searches instead of all of its vectors.

    index(db, ["digits/pixels"])
    db.execute("select id, distance from knn('digits/pixels', 42, 10)")

Built, then searched for items of the space as knn will search it, with more and more effort until it
finds enough; effort and recall are recorded with it. The file is not written to meanwhile. Then its parts
are written in short transactions, and in the last of them it begins to serve and an older one ends.

What changes in the space meanwhile or later does no harm: the index is of the generation at which it
began, and a search looks exactly at everything that changed since.
"""

import json
from collections.abc import Sequence

from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.index import store
from nearsql.pipeline.index.make import make
from nearsql.pipeline.index.recall import Effort
from nearsql.pipeline.index.request import ENGINES, Engine, IndexResult, Wish
from nearsql.pipeline.runs import RunInput, immediate, space_input
from nearsql.udfs import dbapi
from nearsql.udfs.search.faiss_calls import faiss_module
from nearsql.udfs.search.vec0_index import refuse_unsuitable
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql

__all__ = ["IndexResult", "index"]


def index(
    db: dbapi.Connection,
    spaces: Sequence[str],
    engine: Engine | None = None,
    *,
    m: int = 16,
    ef_construction: int = 200,
    lists: int | None = None,
    recall: float = 0.99,
    min_recall: float = 0.95,
    threads: int | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> list[IndexResult]:
    """Builds an index of each space; gives a result for each.

    engine: hnsw, ivf or vec0; by default hnsw up to 200,000 vectors, ivf above. m, ef_construction: of
    hnsw. lists: of ivf, by default about 4 sqrt(n). recall: what a search shall find, on average, of the
    1, 10 and 100 nearest. min_recall: `knn` refuses the index for a k for which it finds less. threads:
    by default as many as OpenMP has; the bytes do not depend on it.

    A space of fewer than two items is skipped. Where the same index of the same vectors is there,
    nothing is done but moving its bar to min_recall. Raises SqlFunctionError for a space that is not
    there, before any work, and UserError for parameters that make no sense, for a space that an engine cannot
    hold or memory is too small for, and while another process makes the same index.
    """
    wish = Wish(
        engine,
        m,
        ef_construction,
        lists,
        recall,
        min_recall,
        threads or faiss_module().omp_get_max_threads(),
        seed,
    )
    _refuse_nonsense(db, spaces, wish)
    for line in store.remove_leftovers(db):
        if not quiet:
            say(f"removed {line}")
    return [_index(db, name, wish, quiet) for name in dict.fromkeys(spaces)]


def _refuse_nonsense(db: dbapi.Connection, spaces: Sequence[str], wish: Wish) -> None:
    if not spaces:
        raise UserError("name the spaces to index: see `select name from spaces`")
    if wish.engine not in (None, *ENGINES):
        raise UserError(f"there is no engine {wish.engine!r}: it is {', '.join(ENGINES)}")
    for name, value, least in (
        ("m", wish.m, 2),
        ("ef_construction", wish.ef_construction, 1),
        ("threads", wish.threads, 1),
        ("seed", wish.seed, 0),
        ("lists", 1 if wish.lists is None else wish.lists, 1),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if not 0 <= wish.min_recall <= wish.recall <= 1:
        raise UserError(
            "recall and min_recall are shares between 0 and 1, and what knn accepts is no more than "
            f"what the index is made for: not recall {wish.recall} with min_recall {wish.min_recall}"
        )
    for name in spaces:
        space = find_space(db.apsw, name)
        if wish.engine == "vec0":
            refuse_unsuitable(space)


def _index(db: dbapi.Connection, name: str, wish: Wish, quiet: bool) -> IndexResult:
    source = space_input(db, name)
    n = source.rows or 0
    if n < 2:
        reason = f"it has {n} item{'s' * (n != 1)}, and 2 are needed to be neighbours"
        say(f"skipped {name}: {reason}")
        return IndexResult(name, None, n=n, skipped=reason)
    engine = wish.engine_for(n)
    if engine == "ivf" and wish.lists is not None and wish.lists > n:
        raise UserError(f"lists must be at most {n}, the vectors of '{name}', not {wish.lists}")
    there = _same_index(db, source, engine, wish, n)
    if there is not None:
        return there
    return make(db, source, engine, wish, quiet)


def _same_index(
    db: dbapi.Connection, source: RunInput, engine: Engine, wish: Wish, n: int
) -> IndexResult | None:
    """The ready index of these very vectors and parameters, if there is one, its bar moved as wished."""
    row = db.execute(
        read_sql(__package__, "same_index"),
        {
            "space": source.space_id,
            "engine": engine,
            "seed": wish.seed,
            "generation": source.generation,
            "generation_token": source.generation_token,
        },
    ).fetchone()
    if row is None:
        return None
    index_id, run_id, parameters_json, rows, n_bytes, build_ms, recall_json = row
    try:
        parameters = json.loads(parameters_json)
        search = {int(k): Effort(**how) for k, how in parameters.pop("search").items()}
        recall = {int(k): float(share) for k, share in json.loads(recall_json).items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # nearsql did not write this
    if parameters != wish.parameters(engine, n):
        return None
    with immediate(db):
        db.execute(
            "update vector_indexes set min_recall = ? where id = ? and min_recall <> ?",
            (wish.min_recall, index_id, wish.min_recall),
        )
    return IndexResult(
        source.name,
        run_id,
        False,
        index_id,
        engine,
        rows,
        n_bytes,
        build_ms / 1000,
        recall,
        search,
        wish.min_recall,
    )
