"""The text side of models, for SQL's `embed_text`: loaded once a process, from what the database recorded.

A database file is not trusted: it names a module of ours, an architecture that the library knows, and a
file that is read as tensors after its SHA-256 was found right. Nothing is fetched and nothing executed.
"""

import hashlib
import threading
import weakref
from collections import OrderedDict
from typing import Generic, TypeVar, cast

import apsw

from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed_spaces import read_model
from nearsql.pipeline.encoders import (
    MODULES,
    CannotEncode,
    Model,
    TextModule,
    TextTower,
    find_module,
)
from nearsql.udfs import dbapi
from nearsql.udfs.arguments import shown
from nearsql.udfs.errors import SqlFunctionError

# Loaded models that are kept: some take gigabytes.
MOST_TOWERS = 2

# Vectors that are kept: SQL may ask for the same text once a row.
MOST_VECTORS = 1024

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


# By the hash of all that the model is, so that no two files' models are taken for one another.
_towers: Recent[str, TextTower] = Recent(MOST_TOWERS)
_vectors: Recent[tuple[str, str], bytes] = Recent(MOST_VECTORS)
_one_loads_at_a_time = threading.Lock()


class _Hashes:
    """The hash of each space's model on one connection, until something changes in its file."""

    def __init__(self) -> None:
        self.changes: tuple[object, int] | None = None
        self.by_space: dict[str, str] = {}


_hashes: "weakref.WeakKeyDictionary[apsw.Connection, _Hashes]" = weakref.WeakKeyDictionary()


def embed_text(db: apsw.Connection, space: str, text: str) -> bytes | None:
    """The text's vector in a space, as float32 bytes; None when the space's model has no text side.

    The entry point of nearsql.text_encoders. Raises SqlFunctionError.
    """
    try:
        return _embed(db, space, text)
    except CannotEncode as error:
        raise SqlFunctionError(f"{shown(text)} has no place in the space: {error}") from error
    except UserError as error:
        raise SqlFunctionError(f"the space {shown(space)} takes no texts now: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SqlFunctionError):
            raise
        raise SqlFunctionError(
            f"the model of the space {shown(space)} cannot be loaded: {error}"
        ) from error


def _embed(db: apsw.Connection, space: str, text: str) -> bytes | None:
    known = _known_hashes(db)
    model = None
    if space not in known:
        model = _model_of(db, space)
        if model is None:
            return None
        known[space] = _hash(model)
    key = known[space]
    vector = _vectors.get((key, text))
    if vector is None:
        tower = _towers.get(key) or _load(key, model or _model_of(db, space))
        vector = tower.embed(text).astype("<f4").tobytes()
        _vectors.put((key, text), vector)
    return vector


def _known_hashes(db: apsw.Connection) -> dict[str, str]:
    """The hashes by space that still hold on this connection."""
    # Counters of SQLite: of changes by other connections, and by this one.
    changes = (db.pragma("data_version"), db.total_changes())
    hashes = _hashes.setdefault(db, _Hashes())
    if hashes.changes != changes:
        hashes.changes, hashes.by_space = changes, {}
    return hashes.by_space


def _model_of(db: apsw.Connection, space: str) -> Model | None:
    """The space's model, if it is one of ours that has a text side."""
    row = db.execute("select model_id from spaces where name = ?", (space,)).fetchone()
    if row is None or row[0] is None:
        return None
    # Reading is the same on the raw connection as on the one around it.
    model = read_model(cast(dbapi.Connection, db), row[0])
    return model if _module_of(model) is not None else None


def _module_of(model: Model) -> TextModule | None:
    """The module that has the model's text side. Raises UserError when it cannot be imported."""
    made_by = model.parameters.get("model")
    if not isinstance(made_by, str) or made_by.partition(":")[0] not in MODULES:
        return None
    module = find_module(made_by)
    return cast(TextModule, module) if hasattr(module, "load_text_tower") else None


def _load(key: str, model: Model | None) -> TextTower:
    with _one_loads_at_a_time:
        tower = _towers.get(key)  # another thread may have been quicker
        if tower is None:
            module = _module_of(model) if model is not None else None
            if model is None or module is None:
                raise UserError("its model has just been deleted")
            tower = module.load_text_tower(model)
            _towers.put(key, tower)
        return tower


def _hash(model: Model) -> str:
    """The SHA-256 of all that the model's vectors depend on, and of where its checkpoint lies."""
    digest = hashlib.sha256()
    parts = [repr(model.parameters), repr(model.checkpoint_sha256), *sorted(model.arrays)]
    for part in [*(part.encode() for part in parts), *(model.arrays[n] for n in parts[2:])]:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
