"""Reading image files that nobody vouches for: what they are, and their pixels as a person sees them.

Only regular files are opened, only the formats listed here are decoded (Pillow's EPS reader, for one,
starts another program), the size in the header is checked before any pixel is decoded, and whatever a
decoder raises becomes one sentence. The file itself is never written to.
"""

import hashlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow's own limit for decompression bombs: twice MAX_IMAGE_PIXELS as it ships. Kept here as a
# number because other libraries lift Pillow's variable when they are imported.
MAX_PIXELS = 178_956_970

# SQLite holds no larger BLOB, and no photograph is larger.
MAX_BYTES = 1_000_000_000

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")

# A file that bears one of these and cannot be read as an image is an error, not a file to skip.
SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
        *(".jp2", ".j2k", ".jpx", ".avif", ".avifs", ".heic", ".heif"),
    ]
)

# What its decoders log of strange files would else be printed where nobody has set logging up.
logging.getLogger("PIL").addHandler(logging.NullHandler())

_EXIF_ORIENTATION = 0x0112
_TURNED_BY_A_QUARTER = (5, 6, 7, 8)

# Decoded, a large image takes hundreds of megabytes: threads take turns at those.
_LARGE_PIXELS = 40_000_000
_one_large_image_at_a_time = threading.Lock()


class NotAnImage(Exception):
    """The file is of no image format that is read here."""


class UnreadableImage(Exception):
    """The image cannot be used; the sentence says why, `stage` whether reading or decoding failed."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image is, once all its pixels have been decoded."""

    width: int  # in pixels, as shown: after the rotation that EXIF asks for
    height: int
    media_type: str  # image/jpeg
    metadata: dict[str, Any] = field(default_factory=dict)


@contextmanager
def open_regular_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a regular file for reading: never a device, a pipe or a socket, which could block or not end.

    Raises UnreadableImage (stage `read`).
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait forever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableImage("read", f"the file cannot be opened: {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableImage("read", "it is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_image_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file of at most MAX_BYTES. Raises UnreadableImage (stage `read`)."""
    with open_regular_file(path) as file:
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UnreadableImage("read", f"the file cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UnreadableImage("read", f"the file has more than {MAX_BYTES:,} bytes")
    return data


def sha256_of_file(file: BinaryIO) -> str:
    """The SHA-256 of an open file's bytes, streamed; the file is left at its beginning."""
    try:
        digest = hashlib.file_digest(cast(Any, file), "sha256")
        file.seek(0)
    except OSError as error:
        raise UnreadableImage("read", f"the file cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def examine(source: BinaryIO | bytes, *, max_pixels: int = MAX_PIXELS) -> ImageFacts:
    """What the image is, having decoded every pixel of its first frame.

    Raises NotAnImage when no known format claims it, UnreadableImage when it is broken, truncated or
    has more than max_pixels.
    """
    with _open(source, max_pixels) as image:
        metadata: dict[str, Any] = {"format": image.format, "mode": image.mode}
        with _decoding(image):
            image.load()
        # After decoding: a PNG may carry its EXIF behind the pixels.
        orientation = _orientation(image)
        if orientation is None:
            metadata["exif"] = "unreadable"
        elif orientation != 1:
            metadata["exif_orientation"] = orientation
        width, height = image.size
        if orientation in _TURNED_BY_A_QUARTER:
            width, height = height, width
        media_type = Image.MIME.get(image.format or "", f"image/{str(image.format).lower()}")
    return ImageFacts(width, height, media_type, metadata)


def upright(source: BinaryIO | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The decoded image, turned as EXIF asks, so that all models see what a person sees.

    Of an animation, the first frame. Raises as `examine` does.
    """
    image = _open(source, max_pixels)
    with _decoding(image):
        image.load()
        if _orientation(image) not in (None, 1):
            image = ImageOps.exif_transpose(image)
    return image


def on_white(image: Image.Image) -> Image.Image:
    """The image in 8 bits a channel and without transparency: what is transparent lies on white paper.

    16-bit values are scaled, 65535 being white; Pillow's own conversion would clip them. Raises
    UnreadableImage when the image does not say what white is.
    """
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image.convert("RGBA"))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(
                "decode", "it has pixel values outside 0 to 65535, so that its white is not known"
            )
        return Image.fromarray(np.rint(values / np.float32(257)).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImage(
            "decode", "its pixels are floating-point numbers, of which none is known as white"
        )
    return image


def rgb(data: bytes) -> npt.NDArray[np.uint8]:
    """An encoded image's pixels as all vision models see them: upright, height x width x RGB, uint8.

    Raises NotAnImage and UnreadableImage.
    """
    return np.array(on_white(upright(data)).convert("RGB"))


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silences Pillow's warnings about strange files: each file's outcome is told in our own words.

    For the thread that starts the decoding threads; Python's warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def _open(source: BinaryIO | bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and its size accepted, no pixel decoded yet."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        image = Image.open(file, formats=_readable_formats())
    except UnidentifiedImageError as error:
        raise NotAnImage(f"it is none of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage("decode", f"it has more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise UnreadableImage("decode", f"its header cannot be read: {_reason(error)}") from error
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableImage("decode", "it has no pixels")
    if width * height > max_pixels:
        raise UnreadableImage(
            "decode", f"it has {width:,} x {height:,} pixels, more than {max_pixels:,} in all"
        )
    return image


@contextmanager
def _decoding(image: Image.Image) -> Iterator[None]:
    width, height = image.size
    is_large = width * height > _LARGE_PIXELS
    with _one_large_image_at_a_time if is_large else nullcontext():
        try:
            yield
        except Exception as error:  # as above: anything
            raise UnreadableImage("decode", f"it cannot be decoded: {_reason(error)}") from error


def _orientation(image: Image.Image) -> int | None:
    """EXIF's orientation, 1 to 8; 1 when there is none; None when the EXIF block is broken.

    A value outside 1 to 8 means nothing, and viewers ignore it; so do we.
    """
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the block is as hostile as the rest of the file
        return None
    return value if value in range(1, 9) else 1


def _readable_formats() -> list[str]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
