"""Are the indexes of a file what they say? Their bytes, their items, what they find."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.check.finding import REPAIR, Finding, finding
from nearsql.pipeline.index.listing import StoredIndex, stored_indexes
from nearsql.pipeline.index.recall import (
    MEASURED_ON,
    RECALL_AT,
    VEC0_MEASURED_ON,
    recall_of_distances,
)
from nearsql.udfs import dbapi
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import vec0_index
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.search.index_parts import FAISS, ITEMS, ROWS, PartsHash
from nearsql.udfs.search.index_search import index_nearest
from nearsql.udfs.search.indexes import usable_index
from nearsql.udfs.search.stored_vectors import changes_since, read_rows, rows_of_space, snapshot
from nearsql.udfs.spaces import Space, find_space

Ids = NDArray[np.int64]

# Rows of a vec0 table that are read at a time.
_READ = 4096


def check_indexes(
    db: dbapi.Connection, spaces: Sequence[str] = (), engine: str | None = None
) -> list[Finding]:
    """Four findings for each ready index, of these spaces and this engine only if given.

    bytes: whether its parts are whole and their hash is the one recorded. items: whether each is in the
    space in the row that the index names, but for what changed since. changes: whether the log tells all
    of those. recall: measured anew, by the search that knn does, on other items than when it was built;
    left out where something else is wrong.
    """
    findings = []
    for one in stored_indexes(db, spaces, engine):
        space = find_space(db.apsw, one.space)
        if one.engine == "vec0":
            sound = [_vec0_bytes(db, one, space), _items(db, one, space), _changes(one)]
        else:
            sound = [_bytes(db, one), _items(db, one, space), _changes(one)]
        findings += sound
        if not any(finding.wrong for finding in sound):
            findings.append(_recall(db, one, space))
    return findings


def _finding(what: str, one: StoredIndex, checked: int, faults: Sequence[str]) -> Finding:
    name = f"{what} of the {one.engine} index of {one.space}"
    return finding(name, checked, faults, run_id=one.run_id, cure=REPAIR)


def _bytes(db: dbapi.Connection, one: StoredIndex) -> Finding:
    parts = db.execute(
        "select part, count(*), max(chunk_number) + 1, sum(length(data)) from vector_index_chunks"
        " where index_id = ? group by part order by part",
        (one.id,),
    ).fetchall()
    digest, head = PartsHash(), PartsHash()
    faults, lengths = [], {}
    for part, chunks, numbers, length in parts:
        lengths[part] = length
        if chunks != numbers:
            faults.append(f"part {part} has {chunks} chunks, not {numbers}")
        for hashed in (digest, head) if part <= ITEMS else (digest,):
            hashed.add(part, length, _chunks(db, one.id, part))
    for part in (FAISS, ITEMS, ROWS):
        if part not in lengths:
            faults.append(f"part {part} is missing")
        elif part != FAISS and lengths[part] != 8 * one.n:
            faults.append(f"part {part} has {lengths[part]:,} bytes, not 8 for each of {one.n:,}")
    faults += _differences(
        db,
        one,
        bytes=sum(lengths.values()),
        head_sha256=head.hexdigest(),
        sha256=digest.hexdigest(),
    )
    return _finding("bytes", one, len(parts), faults)


def _differences(db: dbapi.Connection, one: StoredIndex, **found: Any) -> list[str]:
    """Which of these columns of the index's row have another value."""
    faults = []
    for column, value in found.items():
        (recorded,) = db.execute(
            f"select {column} from vector_indexes where id = ?", (one.id,)
        ).fetchone()
        if recorded != value:
            faults.append(f"{column} is {value}, and {recorded} was recorded")
    return faults


def _chunks(db: dbapi.Connection, index_id: int, part: int) -> Iterator[bytes]:
    for (data,) in db.execute(
        "select data from vector_index_chunks where index_id = ? and part = ? order by chunk_number",
        (index_id, part),
    ):
        yield data


def _stored_ids(db: dbapi.Connection, one: StoredIndex, part: int) -> Ids:
    data = b"".join(_chunks(db, one.id, part))
    return np.frombuffer(data[: len(data) // 8 * 8], "<i8").astype(np.int64)


def _vec0_bytes(db: dbapi.Connection, one: StoredIndex, space: Space) -> Finding:
    if not vec0_index.is_there(db.apsw, space):
        lost = f"there is no table {vec0_index.table_name(space.id)} as it was made"
        return _finding("bytes", one, 0, [lost])
    zeros = _stored_ids(db, one, vec0_index.ZEROS)
    digest, n = vec0_index.TableHash(), len(zeros)
    for ids, vectors in vec0_index.read_table(db.apsw, space, _READ):
        digest.add(ids, vectors)
        n += len(ids)
    return _finding("bytes", one, n, _differences(db, one, n=n, sha256=digest.hexdigest(zeros)))


def _items(db: dbapi.Connection, one: StoredIndex, space: Space) -> Finding:
    """The items of the index, against the rows of the space that did not change since."""
    ids, row_ids = rows_of_space(db.apsw, space)
    (pin,) = db.execute(
        "select generation, generation_token from vector_indexes where id = ?", (one.id,)
    ).fetchall()
    changes = changes_since(db.apsw, space, *pin) or []
    changed = np.array([item for item, _ in changes], np.int64)
    there = dict(zip(ids.tolist(), row_ids.tolist(), strict=True))
    if one.engine == "vec0":  # it names no rows
        in_table = vec0_index.items(db.apsw, space)
        items = np.sort(np.concatenate([in_table, _stored_ids(db, one, vec0_index.ZEROS)]))
        rows = [there.get(item) for item in items.tolist()]
    else:
        items = _stored_ids(db, one, ITEMS)
        rows = _stored_ids(db, one, ROWS)[: len(items)].tolist()
    faults = []
    if not (items[1:] > items[:-1]).all():
        faults.append("its items are not in order, or one is there twice")
    has_changed = np.isin(items, changed).tolist()
    for item, row, is_other in zip(items.tolist(), rows, has_changed, strict=False):
        if not is_other and (row is None or there.get(item) != row):
            faults.append(f"item {item} is not in the space, or in another row than {row}")
    missing = np.setdiff1d(ids, np.concatenate([items, changed]))
    faults += [f"item {item} of the space is not in it" for item in missing.tolist()]
    return _finding("items", one, len(items), faults)


def _changes(one: StoredIndex) -> Finding:
    if one.changed is None:
        return _finding("changes since", one, 0, ["the log does not reach back: build it anew"])
    said = f"{one.changed:,} items changed, and are searched exactly" if one.changed else None
    return replace(_finding("changes since", one, one.changed, []), detail=said)


def _recall(db: dbapi.Connection, one: StoredIndex, space: Space) -> Finding:
    """largest: the largest share that is missed, of 1, 10 and 100 neighbours; allowed: 1 - the bar."""
    raw, poll = db.apsw, Poll(db.apsw)
    with snapshot(raw, space) as now:
        row = usable_index(raw, now, one.engine)
        if row is None or row.id != one.id:
            return _finding("recall", one, 0, ["another index has taken its place"])
        ids, row_ids = rows_of_space(raw, now)
        size = min(len(ids), VEC0_MEASURED_ON if one.engine == "vec0" else MEASURED_ON)
        drawn = np.sort(np.random.default_rng(one.run_id).choice(len(ids), size, replace=False))
        items = ids[drawn]
        queries = np.empty((size, now.dimensions), np.float32)
        read_rows(raw, now, row_ids[drawn], items, queries, poll)
        _, exact = exact_nearest(raw, now, queries, max(RECALL_AT), exclude=items, poll=poll)
        missed = {}
        for k in RECALL_AT:
            _, found = index_nearest(raw, now, row, queries, k, items.tolist(), poll)
            missed[k] = 1 - float(recall_of_distances(found, exact, k).mean())
    allowed = round(1 - one.min_recall, 6)
    faults = [
        f"it finds {1 - share:.4f} of {k} neighbours, and knn asks for {one.min_recall:g}"
        for k, share in missed.items()
        if round(share, 6) > allowed
    ]
    made = _finding("recall", one, size, faults)
    return replace(made, largest=round(max(missed.values()), 6), allowed=allowed)
