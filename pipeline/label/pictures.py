"""Images in a size to be sent along with a question."""

import io
from collections.abc import Sequence

from PIL import Image

from nearsql.pipeline import images
from nearsql.pipeline.item_contents import CannotRead, read_items
from nearsql.udfs import dbapi

# What vision models look at without cutting the image into tiles, or close to it; and what they can make
# anything out on: smaller ones are enlarged by whole numbers, pixel by pixel.
LONGEST_SIDE = 512
SHORTEST_SIDE = 128
_QUALITY = 85


def read_pictures(
    db: dbapi.Connection, item_ids: Sequence[int]
) -> tuple[dict[int, bytes], dict[int, str]]:
    """The images among the items as JPEG, upright and on white, and of those that cannot be read, why."""
    found, unreadable = {}, {}
    for item in read_items(db, sorted(set(item_ids)), "image"):
        if item.content is not None:
            continue
        try:
            data = item.read()
            assert isinstance(data, bytes)
            found[item.id] = jpeg(data)
        except (CannotRead, images.UnreadableImage, images.NotAnImage) as error:
            unreadable[item.id] = str(error)
    return found, unreadable


def jpeg(data: bytes) -> bytes:
    """An encoded image as JPEG whose longest side is LONGEST_SIDE pixels at most.

    Raises UnreadableImage and NotAnImage.
    """
    picture = images.on_white(images.upright(data)).convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    factor = min(SHORTEST_SIDE // min(picture.size), LONGEST_SIDE // max(picture.size))
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
