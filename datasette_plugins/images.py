"""Which bytes may leave as an image: by what they are, not by what the database calls them.

A database file may come from anybody. It could name any file of this computer as an item's address,
or call a page of scripts an image. So a file is served only from the very path that was recorded,
without links, and only when it still is, byte for byte, what was ingested; and the content type is
read from the first bytes.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nearsql.datasette_plugins.pages import Problem, Row

# No photograph is larger, and a file is read whole to be recognised.
BYTES_SERVED = 256 * 2**20


def image_type(data: bytes) -> str | None:
    """The content type that the first bytes show, among the types that browsers draw."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(b"BM") and len(data) >= 26:
        return "image/bmp"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return None


def is_known_format(data: bytes) -> bool:
    """Whether the first bytes show a format that can be read: also those that browsers do not draw."""
    if image_type(data):
        return True
    if data.startswith((b"II*\0", b"MM\0*", b"\0\0\1\0")):  # TIFF, icon
        return True
    if data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):  # JPEG 2000
        return True
    return len(data) > 2 and data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace()


def strong_etag(*parts: Any) -> str:
    """An ETag of what decides the bytes. Hashed, because a file may hold any text as its SHA-256."""
    text = "\0".join(map(str, parts))
    return f'"{hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]}"'


def image_headers(etag: str, *, for_good: bool = False) -> dict[str, str]:
    """What goes with every image: how long it may be kept, and that it can do nothing by itself."""
    return {
        # Private: who may see the database is decided here, not by a cache in between.
        "cache-control": "private, max-age=31536000, immutable"
        if for_good
        else "private, max-age=3600",
        "etag": etag,
        "x-content-type-options": "nosniff",
        # Opened by itself, it must not be able to do anything either.
        "content-security-policy": "default-src 'none'; sandbox",
    }


def image_bytes(row: Row, is_accepted: Callable[[bytes], Any] = image_type) -> bytes:
    """The bytes of an image: from the database, or from the file it was read from.

    row has the columns data, uri and sha256. Of a file, is_accepted says by the first bytes whether
    it is an image at all. Raises Problem with status 404.
    """
    if row["data"] is not None:
        return bytes(row["data"])
    if not row["uri"]:
        raise Problem("This image is neither in the database nor in a file.", 404)
    path = _recorded_path(row["uri"])
    # The reason stays unsaid: it would tell a stranger which files there are.
    missing = Problem(f"{row['uri']} is no longer the file that was ingested.", 404)
    try:
        if path is None or path.resolve(strict=True) != path:
            raise missing
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > BYTES_SERVED:
                raise missing
            if not is_accepted(file.read(32)):
                raise missing
            file.seek(0)
            data = file.read()
    except OSError:
        raise missing from None
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise missing
    return data


def _recorded_path(uri: str) -> Path | None:
    """The absolute path of a recorded address: a path, or a file: URI."""
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        uri = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    path = Path(uri)
    return path if path.is_absolute() and "\0" not in uri else None
