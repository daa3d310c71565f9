"""Items in, vectors out: reading and decoding ahead in threads, batches to the encoder.

Nothing here writes. A run writes what comes out, and a replay hashes it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.encoders import CannotEncode, Encoder
from nearsql.pipeline.halving import in_halves
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.udfs import dbapi

# At least so many items are prepared ahead, or a whole batch, up to what memory should hold.
_AHEAD, _MOST_AHEAD = 32, 64

Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item's vector as float32 bytes, or the stage (read, embed) and sentence of what went wrong.

    truncated: with a vector, the sentence that tells of what the model left unread.
    """

    item_id: int
    uri: str | None
    vector: bytes = b""
    stage: str = ""
    problem: str | None = None
    truncated: str | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    item_id: int
    uri: str | None
    value: Any = None
    stage: str = ""
    problem: str | None = None


def _untimed(_: str) -> AbstractContextManager[None]:
    return nullcontext()


def encode_items(
    db: dbapi.Connection,
    encoder: Encoder,
    item_ids: Sequence[int],
    kind: str,
    batch_size: int,
    timed: Timed = _untimed,
) -> Iterator[list[Encoded]]:
    """The items encoded, a batch of at most batch_size at a time, in the order of the ids.

    item_ids: ascending. The database is read in the caller's thread only; no transaction stays open.
    timed: told how long the steps take: `wait`, for items to be read and prepared, and `model`.
    """
    ahead = min(max(batch_size, _AHEAD), _MOST_AHEAD)
    items = read_items(db, item_ids, kind, getattr(encoder, "title", None))
    prepared = map_ahead(partial(_prepare, encoder), items, ahead=ahead)
    while True:
        with timed("wait"):
            batch = list(islice(prepared, batch_size))
        if not batch:
            return
        with timed("model"):
            encoded = _encode(encoder, batch)
        yield encoded


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
    vectors = iter(in_halves(partial(_vectors, encoder), ready) if ready else ())
    encoded = []
    for item in batch:
        if item.problem is not None:
            encoded.append(Encoded(item.item_id, item.uri, b"", item.stage, item.problem))
            continue
        vector, problem, truncated = next(vectors)
        if problem is None:
            encoded.append(Encoded(item.item_id, item.uri, vector, truncated=truncated))
        else:
            encoded.append(Encoded(item.item_id, item.uri, b"", "embed", problem))
    return encoded


def _vectors(
    encoder: Encoder, ready: Sequence[_Prepared]
) -> list[tuple[bytes, str | None, str | None]]:
    """Each item's vector, its problem, and what of it was left unread."""
    columns = encoder(
        {
            "item_id": [item.item_id for item in ready],
            "prepared": [item.value for item in ready],
        }
    )
    vectors = np.ascontiguousarray(columns["vector"], dtype="<f4")
    if vectors.shape != (len(ready), encoder.dimensions):
        raise ValueError(
            f"the model gave an array of shape {vectors.shape} for {len(ready)} items"
            f" of {encoder.dimensions} dimensions"
        )
    is_finite = np.isfinite(vectors).all(axis=1)
    needs_direction = encoder.metric == "cosine"
    truncated = columns.get("truncated") or [None] * len(ready)
    found = []
    for row, vector in enumerate(vectors):
        problem = columns["problem"][row]
        if problem is None and not is_finite[row]:
            problem = "the model gave a vector with a value that is no finite number"
        if problem is None and needs_direction and not vector.any():
            problem = "the model gave a vector of zeros, which has no direction to compare"
        found.append((vector.tobytes(), problem, truncated[row]))
    return found
