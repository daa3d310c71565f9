"""Items in, vectors out: reading and decoding ahead in threads, batches to the encoder.

Nothing here writes. A run writes what comes out, and a replay hashes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.encoders import CannotEncode, Encoder
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item's vector as float32 bytes, or the stage (read, embed) and sentence of what went wrong."""

    item_id: int
    uri: str | None
    vector: bytes = b""
    stage: str = ""
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    item_id: int
    uri: str | None
    value: Any = None
    stage: str = ""
    problem: str | None = None


def encode_items(
    db: dbapi.Connection, encoder: Encoder, item_ids: Sequence[int], kind: str, batch_size: int
) -> Iterator[list[Encoded]]:
    """The items encoded, a batch of at most batch_size at a time, in the order of the ids.

    item_ids: ascending. The database is read in the caller's thread only; no transaction stays open.
    """
    prepared = map_ahead(partial(_prepare, encoder), read_items(db, item_ids, kind))
    while batch := list(islice(prepared, batch_size)):
        yield _encode(encoder, batch)


def _prepare(encoder: Encoder, item: Item) -> _Prepared:
    try:
        return _Prepared(item.id, item.uri, encoder.prepare(item.read()))
    except CannotRead as error:
        return _Prepared(item.id, item.uri, stage="read", problem=str(error))
    except CannotEncode as error:
        return _Prepared(item.id, item.uri, stage="embed", problem=str(error))


def _encode(encoder: Encoder, batch: list[_Prepared]) -> list[Encoded]:
    """The batch encoded; items that could not be prepared keep their problem."""
    ready = [item for item in batch if item.problem is None]
    vectors = iter(_vectors(encoder, ready) if ready else ())
    encoded = []
    for item in batch:
        if item.problem is not None:
            encoded.append(Encoded(item.item_id, item.uri, b"", item.stage, item.problem))
            continue
        vector, problem = next(vectors)
        if problem is None:
            encoded.append(Encoded(item.item_id, item.uri, vector))
        else:
            encoded.append(Encoded(item.item_id, item.uri, b"", "embed", problem))
    return encoded


def _vectors(encoder: Encoder, ready: list[_Prepared]) -> list[tuple[bytes, str | None]]:
    """Each item's vector and problem. A batch that does not fit in memory is tried in halves."""
    try:
        columns = encoder(
            {
                "item_id": [item.item_id for item in ready],
                "prepared": [item.value for item in ready],
            }
        )
    except MemoryError:
        if len(ready) == 1:
            raise
        half = len(ready) // 2
        return _vectors(encoder, ready[:half]) + _vectors(encoder, ready[half:])
    vectors = np.ascontiguousarray(columns["vector"], dtype="<f4")
    if vectors.shape != (len(ready), encoder.dimensions):
        raise ValueError(
            f"the model gave an array of shape {vectors.shape} for {len(ready)} items"
            f" of {encoder.dimensions} dimensions"
        )
    is_finite = np.isfinite(vectors).all(axis=1)
    needs_direction = encoder.metric == "cosine"
    found = []
    for row, vector in enumerate(vectors):
        problem = columns["problem"][row]
        if problem is None and not is_finite[row]:
            problem = "the model gave a vector with a value that is no finite number"
        if problem is None and needs_direction and not vector.any():
            problem = "the model gave a vector of zeros, which has no direction to compare"
        found.append((vector.tobytes(), problem))
    return found
