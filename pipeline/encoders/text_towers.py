"""The text side of models, for SQL's `embed_text`: loaded once a process, from what the database recorded.

A database file is not trusted: it names a module of ours, an architecture that the library knows, and a
file that is read as tensors after its SHA-256 was found right. Nothing is fetched and nothing executed.
"""

import threading
from typing import cast

import apsw

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import CannotEncode, Model, TextModule, TextTower
from nearsql.pipeline.encoders.space_models import (
    Hashes,
    Recent,
    model_hash,
    model_of,
    module_of,
)
from nearsql.udfs.arguments import shown
from nearsql.udfs.errors import SqlFunctionError

# Loaded models that are kept: some take gigabytes.
MOST_TOWERS = 2

# Vectors that are kept: SQL may ask for the same text once a row.
MOST_VECTORS = 1024

# By the hash of all that the model is, so that no two files' models are taken for one another.
_towers: Recent[str, TextTower] = Recent(MOST_TOWERS)
_vectors: Recent[tuple[str, str], bytes] = Recent(MOST_VECTORS)
_one_loads_at_a_time = threading.Lock()
_hashes = Hashes()


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
    known = _hashes.of(db)
    model = None
    if space not in known:
        model = _model_with_texts(db, space)
        if model is None:
            return None
        known[space] = model_hash(model)
    key = known[space]
    vector = _vectors.get((key, text))
    if vector is None:
        tower = _towers.get(key) or _load(key, model or _model_with_texts(db, space))
        vector = tower.embed(text).astype("<f4").tobytes()
        _vectors.put((key, text), vector)
    return vector


def _model_with_texts(db: apsw.Connection, space: str) -> Model | None:
    """The space's model, if it is one of ours that has a text side."""
    model = model_of(db, space)
    return model if model is not None and _text_module(model) is not None else None


def _text_module(model: Model) -> TextModule | None:
    """The module that has the model's text side. Raises UserError when it cannot be imported."""
    module = module_of(model)
    return cast(TextModule, module) if hasattr(module, "load_text_tower") else None


def _load(key: str, model: Model | None) -> TextTower:
    with _one_loads_at_a_time:
        tower = _towers.get(key)  # another thread may have been quicker
        if tower is None:
            module = _text_module(model) if model is not None else None
            if model is None or module is None:
                raise UserError("its model has just been deleted")
            tower = module.load_text_tower(model)
            _towers.put(key, tower)
        return tower
