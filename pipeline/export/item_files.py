"""The files of exported items in a folder: links to those on disk, copies of what only the database has.

A database may come from anybody and name any file of this computer as an item's address. So a link is
made only to a file that is, byte for byte, what was ingested.
"""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from nearsql.pipeline.export.file_names import Named
from nearsql.pipeline.export.files import Source
from nearsql.pipeline.export.folder import LISTING
from nearsql.pipeline.export.rows import Item
from nearsql.pipeline.item_contents import CannotRead, read_items

# What an export puts into its folder of the images: links to their files (and copies of those that only
# the database has), copies of all, or nothing.
IMAGES = ("link", "copy", "none")


@dataclass
class ItemFiles:
    """Puts the files of items into folders of an export, and keeps the list of them.

    root: the folder of the export. images: one of IMAGES. problems: a sentence for each item whose file
    could not be had.
    """

    root: Path
    source: Source
    images: str
    n_links: int = 0
    n_written: int = 0
    n_files: int = 0
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._list = (self.root / LISTING).open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._list)
        self._writer.writerow(["file", "item_id", "how", "uri"])
        return self

    def __exit__(self, *_: object) -> None:
        self._list.close()

    def add(self, kind: str, places: dict[int, str]) -> set[int]:
        """Puts the files of these items, all of a kind, at their places below the root.

        places: by item id, with the file's name. Gives the items that are there now: without those whose
        file is gone, has changed, or is none.
        """
        if self.images == "none":
            return set(places)
        there = set()
        for item in read_items(self.source.db, sorted(places), kind):
            place = places[item.id]
            path = self.root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                data = item.read()
            except CannotRead as error:
                self.problems.append(f"item {item.id}: {error}")
                continue
            if self.images == "link" and item.content is None and item.data is None:
                assert item.uri is not None
                path.symlink_to(os.path.realpath(item.uri))
                self.n_links += 1
                self._listed(place, item.id, "link", item.uri)
            else:
                with path.open("xb") as file:
                    file.write(data.encode() if isinstance(data, str) else data)
                self.n_written += 1
                self._listed(place, item.id, "file", item.uri)
            there.add(item.id)
        return there

    def write(self, place: str, item_id: int, lines: Iterable[str]) -> None:
        """Writes a text file that belongs to an item."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        self._listed(place, item_id, "labels", None)

    def counts(self) -> dict[str, int]:
        """What was made, for the summary."""
        counts = {"links": self.n_links, "files written": self.n_written}
        return {name: n for name, n in counts.items() if n}

    def _listed(self, place: str, item_id: int, how: str, uri: str | None) -> None:
        self._writer.writerow([place, item_id, how, uri])
        self.n_files += 1


def named(source: Source, items: Sequence[Item]) -> list[Named]:
    """What the file names of these items are made of."""
    types: dict[int, str] = dict(
        source.db.execute(
            "select item_id, media_type from item_images"
            " where item_id in (select value from json_each(?))",
            (json.dumps([item.id for item in items]),),
        )
    )
    return [(item.id, item.kind, item.uri, types.get(item.id)) for item in items]
