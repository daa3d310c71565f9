"""Images into a collection: from a folder on disk, or from memory."""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearsql.pipeline import images
from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.ingest.again import Brought, items_again, known_items
from nearsql.pipeline.ingest.writer import Arrival, IngestResult, Problem, Writer, as_json
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.runs import RunInput, run, spelled_out
from nearsql.udfs import dbapi


@dataclass
class Listing:
    """What a walk through a folder met, in sorted order."""

    files: list[Path] = field(default_factory=list)  # regular, not hidden
    problems: list[Problem] = field(default_factory=list)  # folders that cannot be read
    hidden: int = 0
    links: int = 0  # not followed: to folders, or out of the folder


def ingest_images(
    db: dbapi.Connection,
    folder: str | os.PathLike[str],
    *,
    collection: str | None = None,
    label: str | None = None,
    store: bool = False,
    max_pixels: int = images.MAX_PIXELS,
    quiet: bool = True,
) -> IngestResult:
    """Brings every image of a folder, and of the folders in it, into a collection.

    collection: default, the folder's name. label: give each item a label of this name whose value is
    the first-level folder it lies in; files that lie in no such folder get none. store: keep the
    files' bytes in the database too. max_pixels: refuse larger images before decoding them.

    An image is what its bytes say, whatever its name. One that is broken becomes an `item_errors`
    row (stage read or decode); other files and hidden ones are skipped. Raises UserError when the
    folder cannot be read.
    """
    root = resolved_folder(folder)
    collection = collection or root.name
    if not collection:
        raise UserError(f"{root} has no name to call the collection by: give --collection NAME")
    label = label or None
    listing = list_files(root)
    if not listing.files and not listing.problems:
        raise UserError(f"{root} has no files in it: give a folder of images")
    parameters = {
        "source": str(root),
        "source_kind": "folder",
        "collection": collection,
        "label": label,
        "store": store,
        "max_pixels": max_pixels,
    }
    inputs = [RunInput("file", str(root), rows=len(listing.files))]
    with run(db, "ingest", parameters=parameters, inputs=inputs, packages=("pillow",)) as current:
        writer = Writer(current, collection, "folder")
        for problem in listing.problems:
            writer.add(problem)
        reader = _FolderReader(root, label, store, max_pixels, _digests(db, collection))
        not_images = 0
        title = f"reading {root.name or root}"
        with progress(title, len(listing.files), quiet=quiet) as bar, images.quiet_decoders():
            for row in map_ahead(reader, listing.files):
                if row is None:
                    not_images += 1
                else:
                    writer.add(row)
                bar.advance()
        current.counts["skipped"] = listing.hidden + not_images
        if listing.links:
            current.counts["links_not_followed"] = listing.links
        return writer.finish()


def ingest_image_bytes(
    db: dbapi.Connection,
    rows: Iterable[tuple[str, bytes, Mapping[str, str], Mapping[str, Any]]],
    *,
    collection: str,
    source: str,
    max_pixels: int = images.MAX_PIXELS,
) -> IngestResult:
    """Brings images that are in memory into a collection, and keeps their bytes in the database.

    rows: (uri, the encoded image, labels by name, metadata). The uri says where the image is from and
    tells the images apart. source: who says the labels, such as a data set's name.
    """
    parameters = {
        "source": source,
        "source_kind": "memory",
        "collection": collection,
        "store": True,
        "max_pixels": max_pixels,
    }
    with run(db, "ingest", parameters=parameters, packages=("pillow",)) as current:
        writer = Writer(current, collection, source)
        with images.quiet_decoders():
            for uri, data, labels, metadata in rows:
                writer.add(_from_memory(uri, data, labels, metadata, max_pixels))
        return writer.finish()


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What the recorded run would bring now: reads the folder's files again."""
    if recorded.parameters["source_kind"] == "memory":
        raise CannotReplay(f"run {recorded.id} was given its images in memory: no file has them")
    try:
        root = resolved_folder(recorded.parameters["source"])
    except UserError as error:
        raise CannotReplay(f"run {recorded.id} read a folder that is gone: {error}") from error
    brought = known_items(db, recorded)
    label = recorded.parameters["label"]
    max_pixels = recorded.parameters["max_pixels"]
    found: list[Brought] = []
    for path, sha256 in map_ahead(_path_and_digest, list_files(root).files):
        if sha256 is not None and sha256 in brought:
            # What only a decoder can tell, the same bytes tell again.
            number, width, height, metadata = brought.pop(sha256)
            if width * height <= max_pixels:
                labels = _folder_labels(root, path, label)
                found.append((sha256, number, labels.get(label or ""), metadata))
    if brought:
        raise CannotReplay(
            f"{len(brought):,} of the images that run {recorded.id} brought are no longer in {root}"
        )
    return items_again(db, recorded, found)


def list_files(root: Path) -> Listing:
    """All regular files under a folder, sorted folder by folder.

    Linked folders are not entered, and linked files only read when they lie in the folder too, so
    that nothing outside it is read.
    """
    listing = Listing()

    def unreadable(error: OSError) -> None:
        message = f"the folder cannot be listed: {error.strerror}"
        listing.problems.append(Problem(uri_of(Path(error.filename)), "read", message))

    for parent, folders, names in os.walk(root, onerror=unreadable):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - set(links) - set(hidden))
        listing.links += len(set(links) - set(hidden))
        listing.hidden += len(hidden)
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith("."):
                listing.hidden += 1
            elif path.is_symlink() and not is_within(path, root):
                listing.links += 1
            else:
                listing.files.append(path)
    return listing


@dataclass(frozen=True, slots=True)
class _FolderReader:
    """Reads one file of the folder; called in several threads at once."""

    root: Path
    label: str | None
    store: bool
    max_pixels: int
    known: set[bytes]  # the SHA-256s that the collection had when the ingest began

    def __call__(self, path: Path) -> Arrival | Problem | None:
        """The image, or what is wrong with it; None when the file is no image at all."""
        uri = uri_of(path)
        if uri != str(path):
            return Problem(uri, "read", "its name is not valid UTF-8: rename the file")
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return None  # a pipe or a socket is no image
            return self._read(path, uri)
        except images.NotAnImage:
            if path.suffix.lower() not in images.SUFFIXES:
                return None
            return Problem(uri, "decode", _why_not_an_image(path))
        except images.UnreadableImage as error:
            return Problem(uri, error.stage, str(error))
        except OSError as error:
            return Problem(uri, "read", f"the file cannot be read: {error.strerror}")

    def _read(self, path: Path, uri: str) -> Arrival:
        labels = _folder_labels(self.root, path, self.label)
        data: bytes | None = None
        if self.store:
            data = images.read_image_file(path)
            sha256 = hashlib.sha256(data).hexdigest()
            if bytes.fromhex(sha256) in self.known:
                return Arrival("image", sha256, uri, labels=labels)
            facts = images.examine(data, max_pixels=self.max_pixels)
        else:
            # Hashed and decoded from one open file, so that both are of the same bytes.
            with images.open_regular_file(path) as file:
                sha256 = images.sha256_of_file(file)
                if bytes.fromhex(sha256) in self.known:
                    return Arrival("image", sha256, uri, labels=labels)
                facts = images.examine(file, max_pixels=self.max_pixels)
        return Arrival(
            "image",
            sha256,
            uri,
            width=facts.width,
            height=facts.height,
            labels=labels,
            metadata_json=as_json(facts.metadata),
            media_type=facts.media_type,
            data=data,
        )


def _from_memory(
    uri: str, data: bytes, labels: Mapping[str, str], metadata: Mapping[str, Any], max_pixels: int
) -> Arrival | Problem:
    try:
        facts = images.examine(data, max_pixels=max_pixels)
    except images.NotAnImage as error:
        return Problem(uri, "decode", str(error))
    except images.UnreadableImage as error:
        return Problem(uri, error.stage, str(error))
    return Arrival(
        "image",
        hashlib.sha256(data).hexdigest(),
        uri,
        width=facts.width,
        height=facts.height,
        labels=labels,
        metadata_json=as_json({**facts.metadata, **metadata}),
        media_type=facts.media_type,
        data=data,
    )


def resolved_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder's real path, which every path below it begins with. Raises UserError when it is none."""
    root = Path(folder).resolve()
    if not root.exists():
        raise UserError(f"there is no folder {root}")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder")
    return root


def is_within(path: Path, root: Path) -> bool:
    """Whether the path, all links followed, lies in the folder. A link that ends nowhere may."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no file can have
        return False


def _digests(db: dbapi.Connection, collection: str) -> set[bytes]:
    """The SHA-256s of the collection's images; about 100 MB of memory a million."""
    rows = db.execute(
        "select sha256 from items where collection = ? and kind = 'image'", (collection,)
    )
    return {bytes.fromhex(sha256) for (sha256,) in rows}


def _folder_labels(root: Path, path: Path, label: str | None) -> dict[str, str]:
    """The first-level folder that the file lies in, as its label."""
    parts = path.relative_to(root).parts
    return {label: parts[0]} if label is not None and len(parts) > 1 else {}


def _path_and_digest(path: Path) -> tuple[Path, str | None]:
    try:
        with images.open_regular_file(path) as file:
            return path, images.sha256_of_file(file)
    except images.UnreadableImage:
        return path, None


def uri_of(path: str | Path) -> str:
    """The path as text; bytes that are not UTF-8 are spelled out, so that the database can hold it."""
    return spelled_out(str(path))


def _why_not_an_image(path: Path) -> str:
    if path.stat().st_size == 0:
        return "the file is empty"
    return f"its name ends in {path.suffix}, but its bytes are of no image format that is read here"
