"""Items in, vectors out: the work of an embedding, in this process or in others (see `engines`).

Nothing here writes. A run writes what comes out, and a replay hashes it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nearsql.pipeline.embed_spaces import load_encoder
from nearsql.pipeline.encoders import CannotEncode, Encoder, Model, find_module
from nearsql.pipeline.engines import Facts, Workers
from nearsql.pipeline.halving import in_halves
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.udfs import dbapi
from nearsql.udfs.spaces import Metric

# At least so many items are prepared ahead, or a whole batch, up to what memory should hold.
_AHEAD, _MOST_AHEAD = 32, 64


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


@dataclass(frozen=True, slots=True)
class EncoderFacts(Facts):
    """title: what titles of texts are called that the encoder reads before them, or None."""

    dimensions: int = 0
    metric: Metric = "l2"
    title: str | None = None


class EncodeWork:
    """A loaded encoder at work: items are prepared in threads, batches of them become `Encoded`."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.timings = {"wait": 0.0, "model": 0.0}

    @property
    def facts(self) -> EncoderFacts:
        encoder = self.encoder
        return EncoderFacts(
            encoder.device,
            dict(encoder.computation),
            encoder.dimensions,
            encoder.metric,
            getattr(encoder, "title", None),
        )

    def prepare(self, item: Item) -> _Prepared:
        """The item's content, read and prepared."""
        return _prepare(self.encoder, item)

    def __call__(self, batch: Sequence[_Prepared], besides: Any) -> list[Encoded]:
        started = time.perf_counter()
        encoded = _encode(self.encoder, batch)
        self.timings["model"] += (time.perf_counter() - started) * 1000
        return encoded


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """How to load the encoder of a model that the database keeps. name: the model's full name."""

    name: str
    model: Model
    device: str

    def load(self) -> EncodeWork:
        """Raises UserError where the model, its weights or its libraries are not."""
        return EncodeWork(load_encoder(find_module(self.name), self.model, self.device))


def encode_items(
    db: dbapi.Connection,
    workers: Workers,
    item_ids: Sequence[int],
    kind: str,
    batch_size: int,
) -> Iterator[list[Encoded]]:
    """The items encoded, a batch of at most batch_size at a time, in the order of the ids.

    workers: of an EncodeTask. item_ids: ascending. The database is read in the caller's thread only; no
    transaction stays open.
    """
    facts = workers.facts
    assert isinstance(facts, EncoderFacts)
    ahead = min(max(batch_size, _AHEAD), _MOST_AHEAD)
    items = read_items(db, item_ids, kind, facts.title)
    return workers.map(items, batch_size, ahead=ahead)


def _prepare(encoder: Encoder, item: Item) -> _Prepared:
    try:
        return _Prepared(item.id, item.uri, encoder.prepare(item.read()))
    except CannotRead as error:
        return _Prepared(item.id, item.uri, stage="read", problem=str(error))
    except CannotEncode as error:
        return _Prepared(item.id, item.uri, stage="embed", problem=str(error))


def _encode(encoder: Encoder, batch: Sequence[_Prepared]) -> list[Encoded]:
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
