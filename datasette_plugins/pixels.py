"""Small pictures of images that nobody vouches for, as a person sees them: upright, on white paper.

The same files are read as at ingest (nearsql.pipeline.images says so at length), and refused for the
same reasons: a format that is not listed, a header that claims too many pixels, a broken stream.
"""

import io
import threading
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
MAX_PIXELS = 178_956_970

# An image of fewer pixels across is shown enlarged, pixel by pixel: none may change its colour.
EXACT_BELOW = 100

_QUALITY = 82
_EXIF_ORIENTATION = 0x0112
# Decoded, a large image takes hundreds of megabytes: threads take turns at those.
_LARGE_PIXELS = 40_000_000
_one_large_image_at_a_time = threading.Lock()

# What EXIF asks for, from 2 to 8.
_TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


class Unreadable(Exception):
    """No picture can be made of these bytes; the sentence says why."""


def small_picture(data: bytes, size: int) -> bytes:
    """The image within size x size pixels, as JPEG, or as PNG where each pixel counts. Never enlarged.

    Of an animation, the first frame. What else the file holds (places, names) is left out. Raises
    Unreadable.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_readable_formats()) as image:
            is_exact = max(image.size) < EXACT_BELOW
            with _accepted(image, size):
                return _encoded(_small(image, size), is_exact)
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"it is none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, where nobody lifted it
        raise Unreadable(f"it has more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise Unreadable(f"it cannot be decoded: {str(error) or type(error).__name__}") from error


def _accepted(image: Image.Image, size: int) -> AbstractContextManager[object]:
    """Refuses too many pixels, by the header; within it, one large image is decoded at a time."""
    width, height = image.size
    if width < 1 or height < 1:
        raise Unreadable("it has no pixels")
    if width * height > MAX_PIXELS:
        raise Unreadable(f"it has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all")
    # A JPEG can be decoded at an eighth, a quarter or half its size: twice what is asked for is
    # enough to scale down from, and takes a fraction of the time.
    image.draft(None, (2 * size, 2 * size))
    width, height = image.size
    return _one_large_image_at_a_time if width * height > _LARGE_PIXELS else nullcontext()


def _small(image: Image.Image, size: int) -> Image.Image:
    """Decoded, in 8 bits a channel, within size x size, upright, on white: RGB or L."""
    image.load()
    orientation = _orientation(image)  # after decoding: a PNG may carry its EXIF behind the pixels
    image = _eight_bits(image)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    if orientation > 1:
        image = image.transpose(_TURNS[orientation - 2])
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as RGBA where it has transparency, else as RGB or L; 65535 of 16 bits is white."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode.startswith("I"):  # Pillow's own conversion would clip it
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("it has pixel values outside 0 to 65535: its white is not known")
        return Image.fromarray(np.rint(values / np.float32(257)).astype(np.uint8))
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers, of which none is known as white")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encoded(image: Image.Image, is_exact: bool) -> bytes:
    out = io.BytesIO()
    if is_exact:
        image.save(out, "PNG", optimize=True)
    else:
        image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, and where the EXIF block is broken."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the block is as hostile as the rest of the file
        return 1
    return value if value in range(1, 9) else 1


def _readable_formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
