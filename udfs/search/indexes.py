"""The persistent indexes of a space: which there are, and one of them opened in memory."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search import index_parts
from nearsql.udfs.search.memory import Reserve, memory_limit, place_of, residents
from nearsql.udfs.search.opened_index import DamagedIndex, OpenHnsw, OpenIvf, open_index
from nearsql.udfs.spaces import Space

Engine = Literal["hnsw", "ivf", "vec0"]
Ids = NDArray[np.int64]

_COLUMNS = (
    "id, engine, generation, generation_token, n, bytes, head_sha256, sha256, parameters_json,"
    " recall_json, min_recall, run_id, created_at"
)
_FIND = f"select {_COLUMNS} from vector_indexes where space_id = ? and is_ready"


@dataclass(frozen=True, slots=True)
class How:
    """How an index is searched for up to `k` neighbours, and how much of them it then finds.

    effort: efSearch of hnsw, lists probed of ivf. candidates: whose exact distances are computed, in
    multiples of k. recall: the share of the true neighbours, as measured when it was built.
    """

    k: int
    effort: int
    candidates: int
    recall: float


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A ready index, by its row of `vector_indexes`. generation: of the space as it was built from."""

    id: int
    engine: Engine
    generation: int
    generation_token: int
    n: int
    nbytes: int
    head_sha256: str
    sha256: str
    min_recall: float
    run_id: int
    created_at: str
    hows: tuple[How, ...]  # by k, ascending

    @property
    def largest_k(self) -> int:
        """Above it nobody knows what the index finds."""
        return self.hows[-1].k

    def how(self, k: int) -> How:
        """For so many neighbours, at most largest_k: what was measured for them, or for the next more."""
        return next(how for how in self.hows if how.k >= k)


def usable_index(db: apsw.Connection, space: Space, engine: str | None = None) -> IndexRow | None:
    """The ready index of an engine; or without one the newest of hnsw and ivf, then vec0. None: there is none.

    Raises SqlFunctionError for a row of `vector_indexes` that nearsql would not have written.
    """
    rows = cast(Any, db.execute(_FIND, (space.id,)).fetchall())
    if engine is not None:
        rows = [row for row in rows if row[1] == engine]
    if not rows:
        return None
    # There are at most three, one an engine; sorted here, since SQLite takes longer to set a sorter up.
    row = max(rows, key=lambda row: (row[1] != "vec0", row[0]))
    try:
        return _parsed(row)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise damaged(row[1], space, "its parameters are not what is expected") from error


@lru_cache(maxsize=256)
def _parsed(row: tuple[Any, ...]) -> IndexRow:
    index_id, engine, generation, token, n, nbytes, head_sha256, sha256 = row[:8]
    parameters_json, recall_json, min_recall, run_id, created_at = row[8:]
    recalls = {int(k): _share(value) for k, value in json.loads(recall_json).items()}
    search = {int(k): how for k, how in json.loads(parameters_json)["search"].items()}
    hows = tuple(
        How(k, _count(search[k]["effort"]), _count(search[k]["candidates"]), recalls[k])
        for k in sorted(recalls)
    )
    if not hows or hows[0].k < 1 or n < 1:
        raise ValueError("no recall was measured, or nothing is in the index")
    return IndexRow(
        index_id,
        engine,
        generation,
        token,
        n,
        nbytes,
        head_sha256,
        sha256,
        _share(min_recall),
        run_id,
        created_at,
        hows,
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError(value)
    return value


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(value)
    return float(value)


def damaged(engine: str, space: Space, why: str) -> DamagedIndex:
    """The error of an index that cannot be used: what is wrong with it, and what would work."""
    return DamagedIndex(
        f"the {engine} index of space '{space.name}' is damaged ({why}): build it anew with `nearsql "
        f"index FILE {space.name} --engine {engine}`, drop it with --drop, or ask with exact = 1"
    )


@dataclass(frozen=True, eq=False, slots=True)
class OpenedIndex:
    """An hnsw or ivf index in memory.

    ids, row_ids: (n,) the item id and the `vectors.id` of each place.
    """

    index: OpenHnsw | OpenIvf
    ids: Ids
    row_ids: Ids

    @property
    def nbytes(self) -> int:
        """Bytes that it takes now: those lists of ivf that were read yet included."""
        return self.index.nbytes + self.ids.nbytes + self.row_ids.nbytes


def opened_index(
    db: apsw.Connection, space: Space, row: IndexRow, poll: Callable[[], None]
) -> OpenedIndex:
    """An index from memory, or else from the file, then kept within the memory allowed.

    Without reading vectors; and of ivf, without its lists. Raises DamagedIndex when it is not as it was
    written, and TooLarge.
    """

    def load(_: Any, reserve: Reserve) -> tuple[Any, OpenedIndex]:
        try:
            return _version(row), _load(db, space, row, reserve, poll)
        except DamagedIndex as error:
            raise damaged(row.engine, space, str(error)) from error

    what = f"the {row.engine} index of space '{space.name}'"
    return cast(OpenedIndex, residents.get(_key(db, row), _version(row), load, poll, what))


def resident_index(db: apsw.Connection, row: IndexRow) -> OpenedIndex | None:
    """An index if it is in memory, without reading anything."""
    return cast(Any, residents.peek(_key(db, row), _version(row)))


def _key(db: apsw.Connection, row: IndexRow) -> tuple[Any, ...]:
    return place_of(db), "index", row.id


def _version(row: IndexRow) -> tuple[Any, ...]:
    # A file put in the place of another may have the same ids.
    return row.sha256, row.generation_token, row.run_id, row.created_at


def _load(
    db: apsw.Connection, space: Space, row: IndexRow, reserve: Reserve, poll: Callable[[], None]
) -> OpenedIndex:
    lengths = [part_length(db, row.id, part) for part in range(index_parts.LISTS)]
    fixed = sum(lengths)
    lists = 0
    if row.engine == "ivf":
        fixed += lengths[index_parts.FAISS]  # centroids are kept once more, to be searched exactly
        # The lists are counted before they are read, so that no search finds the memory gone. They may
        # take all that is allowed at most halfway, and begin anew when they would take more.
        whole = max(0, row.nbytes - sum(lengths))
        lists = min(whole, max(0, memory_limit() // 2 - fixed))
    if lengths[index_parts.ITEMS] != 8 * row.n or lengths[index_parts.ROWS] != 8 * row.n:
        raise DamagedIndex("ids are missing")
    reserve(fixed + lists)
    head, items, rows = (
        read_part(db, row.id, part, lengths[part], poll) for part in range(index_parts.LISTS)
    )
    digest = index_parts.PartsHash()
    digest.add(index_parts.FAISS, head.size, [head.data])
    digest.add(index_parts.ITEMS, items.size, [items.data])
    if digest.hexdigest() != row.head_sha256:
        raise DamagedIndex("its bytes have changed since they were written")
    poll()
    ids, row_ids = (a.view("<i8").astype(np.int64, copy=False) for a in (items, rows))
    if not (ids[1:] > ids[:-1]).all():
        raise DamagedIndex("its ids are not in order")
    engine = cast(Literal["hnsw", "ivf"], row.engine)
    index = open_index(engine, head, row.n, space.dimensions, space.metric, lists)
    return OpenedIndex(index, ids, row_ids)


def part_length(db: apsw.Connection, index_id: int, part: int) -> int:
    """Bytes of a part, 0 if it is not there. Without reading them."""
    ((length,),) = db.execute(
        "select coalesce(sum(length(data)), 0) from vector_index_chunks where index_id = ? and part = ?",
        (index_id, part),
    )
    return int(cast(Any, length))


def read_part(
    db: apsw.Connection,
    index_id: int,
    part: int,
    length: int,
    poll: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """The bytes of a part. Raises DamagedIndex when they are more or fewer."""
    out = np.empty(length, np.uint8)
    into = memoryview(cast(Any, out))
    start = 0
    chunks = db.execute(
        "select rowid, length(data) from vector_index_chunks where index_id = ? and part = ?"
        " order by chunk_number",
        (index_id, part),
    )
    for row_id, size in cast(Any, chunks):
        if start + size > length:
            raise DamagedIndex(f"part {part} is longer than it was")
        with contextlib.closing(
            db.blob_open("main", "vector_index_chunks", "data", row_id, False)
        ) as blob:
            blob.read_into(into, start, size)
        start += size
        poll()
    if start != length:
        raise DamagedIndex(f"part {part} is shorter than it was")
    return out
