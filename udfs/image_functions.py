"""SQL functions that give an image its place in a space.

As for texts, the models are no part of this room: whoever has some offers them under the entry point
group `nearsql.image_encoders`, and they are imported when the first image is embedded.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

import apsw

from nearsql.udfs.arguments import shown
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.spaces import find_space

GROUP = "nearsql.image_encoders"

# An entry point: (connection, space's name, bytes of an image) -> the vector as float32 bytes, or None
# when the space's model is none of its own. Raises SqlFunctionError.
ImageEncoder = Callable[[apsw.Connection, str, bytes], bytes | None]


@sql_function(
    example=(
        "select n.id, round(n.distance, 3) as distance\n"
        "from item_images m, knn('digits/pixels', embed_image('digits/pixels', m.data), 3) n\n"
        "where m.item_id = 1\norder by n.rank"
    )
)
def embed_image(db: apsw.Connection, space: str, image: bytes | None) -> bytes | None:
    """The vector of an image in a space, by the space's own model: what `knn` can then search near.

    `image` is the bytes of an image file: `item_images.data`, or a parameter. For spaces of clip, dino, timm
    and pixels; an image that is in the space gets the vector that is there. The model is loaded once a
    process, from the checkpoint that the space was made with, and computes on the CPU: nothing is ever
    fetched. All but pixels need `pip install 'nearsql[vision]'`.

    NULL gives NULL. Refuses a space whose model has no place for images, and bytes that are no image.
    """
    found = find_space(db, space)
    if image is None:
        return None
    if not isinstance(image, bytes) or not image:
        raise SqlFunctionError(
            f"image must be a BLOB with the bytes of an image file, not {shown(image)}"
        )
    for encoder in _image_encoders():
        vector = encoder(db, found.name, image)
        if vector is None:
            continue
        if len(vector) != 4 * found.dimensions:
            raise SqlFunctionError(
                f"the model of the space {shown(space)} gives an image {len(vector) // 4} dimensions,"
                f" and the space has {found.dimensions}"
            )
        return vector
    raise SqlFunctionError(
        f"the model of the space {shown(space)} has no place for images: embed_image is for spaces of"
        " clip, dino, timm and pixels"
    )


@cache
def _image_encoders() -> tuple[ImageEncoder, ...]:
    """What the installed distributions offer, by name. Raises SqlFunctionError when none does."""
    offered = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    if not offered:
        raise SqlFunctionError(
            f"no image encoder is installed (entry point group {GROUP}): pip install nearsql"
        )
    return tuple(entry.load() for entry in offered)
