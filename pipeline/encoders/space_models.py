"""The models of spaces as SQL functions use them: found by the space's name, known by all they depend on.

A database file is not trusted: two files may call different models by one name. So whatever is kept of a
model is kept by the hash of its parameters, arrays and checkpoint, and asked for anew when a file changes.
"""

import hashlib
import threading
import weakref
from collections import OrderedDict
from typing import Generic, TypeVar, cast

import apsw

from nearsql.pipeline.embed_spaces import read_model
from nearsql.pipeline.encoders import MODULES, EncoderModule, Model, find_module
from nearsql.udfs import dbapi

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, at most so many. For several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keeps a value, and lets the oldest go."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


class Hashes:
    """The hash of each space's model on one connection, until something changes in its file."""

    def __init__(self) -> None:
        self._by_connection: weakref.WeakKeyDictionary[apsw.Connection, _Known] = (
            weakref.WeakKeyDictionary()
        )

    def of(self, db: apsw.Connection) -> dict[str, str]:
        """The hashes by space that still hold on this connection; more may be put in."""
        # Counters of SQLite: of changes by other connections, and by this one, which may yet take its
        # own back.
        changes = (db.pragma("data_version"), db.total_changes(), db.in_transaction)
        known = self._by_connection.setdefault(db, _Known())
        if known.changes != changes:
            known.changes, known.by_space = changes, {}
        return known.by_space

    def clear(self) -> None:
        """Forgets all of them."""
        self._by_connection.clear()


class _Known:
    def __init__(self) -> None:
        self.changes: tuple[object, int, bool] | None = None
        self.by_space: dict[str, str] = {}


def model_of(db: apsw.Connection, space: str) -> Model | None:
    """The model that the space was made with, as the database records it; None when it names none."""
    row = db.execute("select model_id from spaces where name = ?", (space,)).fetchone()
    if row is None or row[0] is None:
        return None
    # Reading is the same on the raw connection as on the one around it.
    return read_model(cast(dbapi.Connection, db), row[0])


def module_of(model: Model) -> EncoderModule | None:
    """The module of ours that has the model. Raises UserError when it cannot be imported."""
    made_by = model.parameters.get("model")
    if not isinstance(made_by, str) or made_by.partition(":")[0] not in MODULES:
        return None
    return find_module(made_by)


def model_hash(model: Model) -> str:
    """The SHA-256 of all that the model's vectors depend on, and of where its checkpoint lies."""
    digest = hashlib.sha256()
    parts = [repr(model.parameters), repr(model.checkpoint_sha256), *sorted(model.arrays)]
    for part in [*(part.encode() for part in parts), *(model.arrays[n] for n in parts[2:])]:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
