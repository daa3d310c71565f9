"""Reading label files that nobody vouches for: only regular ones, only so much, only where allowed."""

from pathlib import Path

from nearsql.pipeline import images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest.folders import uri_of


class UnreadableFile(Exception):
    """The file cannot be used; the sentence says why."""


def read_file(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a regular file of at most this size; no more are ever read. Raises UnreadableFile."""
    try:
        with images.open_regular_file(path) as file:
            data = file.read(most_bytes + 1)
    except images.UnreadableImage as error:
        raise UnreadableFile(str(error)) from error
    except OSError as error:
        raise UnreadableFile(f"the file cannot be read: {error.strerror}") from error
    if len(data) > most_bytes:
        raise UnreadableFile(f"the file has more than {most_bytes:,} bytes")
    return data


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a file that the whole set of labels depends on. Raises UserError."""
    try:
        text = read_file(path, most_bytes).decode("utf-8-sig")
    except UnreadableFile as error:
        raise UserError(f"{uri_of(path)}: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{uri_of(path)} is not UTF-8 text (byte {error.start:,})") from error
    if "\0" in text:
        raise UserError(f"{uri_of(path)} is not text: it holds NUL characters")
    return text


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file. Raises UserError."""
    try:
        with images.open_regular_file(path) as file:
            return images.sha256_of_file(file)
    except images.UnreadableImage as error:
        raise UserError(f"{uri_of(path)}: {error}") from error
