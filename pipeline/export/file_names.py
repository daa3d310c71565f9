"""What the files of exported items are called: as they were, where that is safe and tells them apart.

An item's address may come from anybody: of it only the last part is kept, and of that only letters,
digits and a few signs. So no name leads anywhere, hides, or is taken for an option.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Bytes of a name, its end and the item's id besides: file systems take 255.
_LONGEST = 150
_LONGEST_SUFFIX = 12
_UNSAFE = re.compile(r"[^\w.()+= -]")
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)\d)(\..*)?", re.IGNORECASE)  # Windows' devices

_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "image/avif": ".avif",
}

# An item: its id, its kind, its address, and the media type of an image that the database holds.
Named = tuple[int, str, str | None, str | None]


def file_names(items: Sequence[Named]) -> dict[int, str]:
    """A file name for each item, by its id: no two are the same up to their suffix, in any case.

    A name that several items have, or that is taken, gets the item's id: cat.jpg and cat-17.jpg.
    """
    parts = {item_id: _parts(kind, uri, media_type) for item_id, kind, uri, media_type in items}
    times = Counter(_key(stem) for stem, _ in parts.values())
    taken = {key for key, n in times.items() if n == 1 and key}
    names = {}
    for item_id, (stem, suffix) in parts.items():
        if not stem or times[_key(stem)] > 1:
            stem = f"{stem or 'item'}-{item_id}"
            while _key(stem) in taken:  # another item is called just that
                stem += f"-{item_id}"
            taken.add(_key(stem))
        names[item_id] = stem + suffix
    return names


def _parts(kind: str, uri: str | None, media_type: str | None) -> tuple[str, str]:
    """The safe stem, empty if nothing is left of it, and the suffix."""
    last = re.split(r"[/\\]", uri or "")[-1]
    stem, dot, suffix = last.rpartition(".")
    if not dot or not stem or not re.fullmatch(r"[A-Za-z0-9]+", suffix):
        stem, suffix = last, ""
    safe = unicodedata.normalize("NFC", _UNSAFE.sub("_", stem))
    safe = safe.encode()[:_LONGEST].decode(errors="ignore").strip(" .-")
    if _RESERVED.fullmatch(safe) or not safe.strip("_"):
        safe = ""
    if kind == "text":
        end = ".txt"
    elif media_type is not None:
        end = _SUFFIXES.get(media_type, "")
    else:
        end = f".{suffix.lower()}" if 0 < len(suffix) <= _LONGEST_SUFFIX else ""
    # Without an end of its own, the last part of the stem would be taken for one.
    return (safe if end else safe.replace(".", "_")), end


def _key(stem: str) -> str:
    return unicodedata.normalize("NFKC", stem).casefold()
