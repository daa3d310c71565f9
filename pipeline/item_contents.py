"""What an item is made of: its text, or its image's bytes from the database or from its file."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nearsql.pipeline import images
from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

# Few enough that a page of stored photographs fits in memory.
_PAGE_IMAGES = 16
_PAGE_TEXTS = 500


class CannotRead(Exception):
    """The item's image cannot be had now, but may be another time; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One row of `items`, with its text, or its image's bytes when the database has them."""

    id: int
    sha256: str
    uri: str | None
    content: str | None
    data: bytes | None
    title: str | None = None  # of a text, when it was asked for and the metadata have one

    def read(self) -> bytes | str:
        """The text, or the bytes of the image that was ingested: no other bytes than those.

        A title stands before its text, with an empty line between.

        Raises CannotRead when the file is gone, is no regular file, or has other bytes by now.
        """
        if self.content is not None:
            return f"{self.title}\n\n{self.content}" if self.title else self.content
        data = self.data
        if data is None:
            if not self.uri:
                raise CannotRead("neither the database nor any file has its bytes")
            try:
                data = images.read_image_file(self.uri)
            except images.UnreadableImage as error:
                raise CannotRead(str(error)) from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            where = "in the database" if self.data is not None else "on disk"
            raise CannotRead(f"it changed {where} since it was ingested: ingest it again")
        return data


def read_items(
    db: dbapi.Connection, item_ids: Sequence[int], kind: str, title: str | None = None
) -> Iterator[Item]:
    """The items of these ids, in their order, a page at a time: no statement stays open meanwhile.

    item_ids: ascending. Items that were deleted are left out. title: what the titles of texts are called
    in the items' metadata; None leaves them out.
    """
    page = _PAGE_TEXTS if kind == "text" else _PAGE_IMAGES
    for start in range(0, len(item_ids), page):
        rows = db.execute(
            "select i.id, i.sha256, i.uri, i.content, m.data,"
            " (select t.value from json_each(i.metadata_json) t where t.key = ?1 and t.type = 'text')"
            " from items i left join item_images m on m.item_id = i.id"
            " where i.id in (select value from json_each(?2)) order by i.id",
            (title, json.dumps(item_ids[start : start + page])),
        ).fetchall()
        for row in rows:
            yield Item(*row)


class Items:
    """The items of one kind, in one collection or in all: what a model is fitted to."""

    def __init__(self, db: dbapi.Connection, kind: str, collection: str | None) -> None:
        self._db, self._kind, self._collection = db, kind, collection

    def __len__(self) -> int:
        return sum(self.by_collection().values())

    def by_collection(self) -> dict[str, int]:
        """How many items each collection has, those without any left out."""
        rows = self._db.execute(
            "select collection, count(*) from items where kind = ? and (? is null or collection = ?)"
            " group by collection order by collection",
            (self._kind, self._collection, self._collection),
        )
        return dict(rows)

    def collections(self) -> list[tuple[str, str, int]]:
        """All collections of the database: name, kind and number of items."""
        return self._db.execute(
            "select collection, kind, count(*) from items group by collection, kind"
            " order by collection, kind"
        ).fetchall()

    def require(self, model: str) -> None:
        """Raises UserError when there is nothing for the model, saying what there is."""
        if len(self):
            return
        there_are = self.collections()
        if not there_are:
            raise UserError("this database has no items yet: run `nearsql ingest` first")
        listed = ", ".join(f"{name!r} ({n:,} {kind}s)" for name, kind, n in there_are[:10])
        where = f"the collection {self._collection!r}" if self._collection else "this database"
        raise UserError(
            f"{where} has no {self._kind}s, which {model} is for: the collections are {listed}"
            + (", ..." if len(there_are) > 10 else "")
        )

    def texts(self) -> Iterator[str]:
        """Every text in item order, read a page at a time."""
        last = 0
        while True:
            rows = self._db.execute(
                "select id, content from items where id > ? and content is not null and kind = ?"
                " and (? is null or collection = ?) order by id limit ?",
                (last, self._kind, self._collection, self._collection, _PAGE_TEXTS),
            ).fetchall()
            if not rows:
                return
            yield from (text for _, text in rows)
            last = rows[-1][0]
