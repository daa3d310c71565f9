"""The image side of models, for SQL's `embed_image`: loaded once a process, from what the database recorded.

The same encoder that filled the space, on the CPU: an image that is in the space gets the vector that is
there. What is true of `text_towers` is true here: nothing is fetched and nothing executed.
"""

import hashlib
import threading

import apsw
import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import CannotEncode, Encoder, EncoderModule, Model
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
MOST_ENCODERS = 2

# Vectors that are kept, by the hash of the image: a page asks for the same one again.
MOST_VECTORS = 256

_encoders: Recent[str, Encoder] = Recent(MOST_ENCODERS)
_vectors: Recent[tuple[str, str], bytes] = Recent(MOST_VECTORS)
_one_loads_at_a_time = threading.Lock()
_hashes = Hashes()


def embed_image(db: apsw.Connection, space: str, image: bytes) -> bytes | None:
    """The image's vector in a space, as float32 bytes; None when the space's model is not for images.

    The entry point of nearsql.image_encoders. Raises SqlFunctionError.
    """
    try:
        return _embed(db, space, image)
    except CannotEncode as error:
        raise SqlFunctionError(f"the image has no place in the space: {error}") from error
    except UserError as error:
        raise SqlFunctionError(f"the space {shown(space)} takes no images now: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SqlFunctionError):
            raise
        raise SqlFunctionError(
            f"the model of the space {shown(space)} cannot be loaded: {error}"
        ) from error


def _embed(db: apsw.Connection, space: str, image: bytes) -> bytes | None:
    known = _hashes.of(db)
    model = None
    if space not in known:
        model = _model_for_images(db, space)
        if model is None:
            return None
        known[space] = model_hash(model)
    key = known[space]
    of_image = hashlib.sha256(image).hexdigest()
    vector = _vectors.get((key, of_image))
    if vector is None:
        encoder = _encoders.get(key) or _load(key, model or _model_for_images(db, space))
        columns = encoder({"item_id": [0], "prepared": [encoder.prepare(image)]})
        if columns["problem"][0] is not None:
            raise CannotEncode(columns["problem"][0])
        if not np.isfinite(columns["vector"]).all():
            raise CannotEncode("the model gave a vector with a value that is no finite number")
        vector = columns["vector"][0].astype("<f4").tobytes()
        _vectors.put((key, of_image), vector)
    return vector


def _model_for_images(db: apsw.Connection, space: str) -> Model | None:
    """The space's model, if it is one of ours that encodes images."""
    model = model_of(db, space)
    return model if model is not None and _image_module(model) is not None else None


def _image_module(model: Model) -> EncoderModule | None:
    """The module that encodes the model's images. Raises UserError when it cannot be imported."""
    module = module_of(model)
    return module if module is not None and module.KIND == "image" else None


def _load(key: str, model: Model | None) -> Encoder:
    with _one_loads_at_a_time:
        encoder = _encoders.get(key)  # another thread may have been quicker
        if encoder is None:
            module = _image_module(model) if model is not None else None
            if model is None or module is None:
                raise UserError("its model has just been deleted")
            encoder = module.load(model, "cpu")
            _encoders.put(key, encoder)
        return encoder
