"""Which item an id of a source names, and the texts that a source brings as new items."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing.parts import MATCHES, Id, Row
from nearsql.pipeline.ingest.writer import as_json
from nearsql.pipeline.runs import Run
from nearsql.udfs import dbapi

_AMBIGUOUS = -1
_COLUMNS = {"id": "i.id", "sequence": "i.sequence_number", "uri": "i.uri"}


class Items:
    """The items of a database by the ids of a source.

    how: one of parts.MATCHES. `name` is an imported item's id in its source, or else its uri, or the end of
    it, or the only one with that file name; the same without the suffix; and last the file name as a whole
    number (000000000139.jpg is 139). `new` makes a text item for each id that has none.
    """

    def __init__(self, db: dbapi.Connection, how: str, collection: str | None) -> None:
        """collection: of the items; None for all, which `new` cannot have. Raises UserError."""
        self.how, self.collection = how, collection
        self._db = db
        self._by_key: dict[str, int] = {}
        self._uris: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._stems: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self._by_number: dict[int, int] = {}
        self._first: dict[int, tuple[Id, str]] = {}
        kind, _, key = how.partition(":")
        if how == "new":
            if collection is None:
                raise UserError("new items need a collection: give --collection")
        elif how == "name":
            self._by_key = self._by(
                "select json_extract(i.metadata_json, '$.id'), i.id from items i"
            )
            self._read_places()
        elif how in _COLUMNS:
            self._by_key = self._by(f"select {_COLUMNS[how]}, i.id from items i")
        elif kind == "metadata" and key:
            sql = "select json_extract(i.metadata_json, ?), i.id from items i"
            self._by_key = self._by(sql, '$."' + key.replace('"', "") + '"')
        elif kind == "label" and key:
            sql = "select l.value, i.id from items i join item_labels l on l.item_id = i.id and l.name = ?"
            self._by_key = self._by(sql, key)
        else:
            raise UserError(f"--match must be one of {', '.join(MATCHES)}, not {how!r}")

    def find(self, rows: Sequence[Row]) -> list[int | None]:
        """The item of each row. A row that has none, or another row's, gets a problem, unless it is new."""
        found = self._by_text(rows) if self.how == "new" else [self._one(row) for row in rows]
        for number, row in enumerate(rows):
            found[number] = self._taken(found[number], row)
        return found

    def add(self, run: Run, rows: Sequence[Row], found: list[int | None], source: str) -> None:
        """Makes the items that are missing, in the caller's transaction. source: the file they are from."""
        missing = [n for n, row in enumerate(rows) if found[n] is None and row.problem is None]
        if not missing:
            return
        (sequence_number,) = self._db.execute(
            "select coalesce(max(sequence_number) + 1, 0) from items where collection = ?",
            (self.collection,),
        ).fetchone()
        made: dict[str, int] = {}
        for n in missing:
            row = rows[n]
            sha256 = _sha256(row)
            if sha256 in made:
                found[n] = self._taken(made[sha256], row)
                continue
            item_id = self._db.execute(
                "insert into items (kind, collection, sha256, uri, content, sequence_number, run_id,"
                " metadata_json) values ('text', ?, ?, ?, ?, ?, ?, ?)",
                (
                    self.collection,
                    sha256,
                    f"{source}#{row.id}",
                    _content(row),
                    sequence_number,
                    run.id,
                    as_json({"id": row.id, **_finite(row.metadata)}),
                ),
            ).lastrowid
            assert item_id is not None
            sequence_number += 1
            made[sha256] = item_id
            found[n] = self._taken(item_id, row)
            run.counts["items"] = run.counts.get("items", 0) + 1
            if row.text is None or not row.text.strip():
                run.counts["without_text"] = run.counts.get("without_text", 0) + 1

    def _one(self, row: Row) -> int | None:
        if row.problem is not None:
            return None
        key = str(row.id)
        item = self._by_key.get(key)
        if item is None and self.how == "name":
            item = self._by_place(key)
        if item is None and isinstance(row.id, int):
            item = self._by_number.get(row.id)
        if item is None or item == _AMBIGUOUS:
            what = "may be more than one item" if item == _AMBIGUOUS else "is no item here"
            row.problem = f"{row.id!r:.200} {what}"
            return None
        return item

    def _by_text(self, rows: Sequence[Row]) -> list[int | None]:
        digests: list[str | None] = []
        for row in rows:
            if row.problem is None:
                row.problem = _why_not_storable(row)
            digests.append(None if row.problem is not None else _sha256(row))
        known = dict(
            self._db.execute(
                "select sha256, id from items where collection = ?"
                " and sha256 in (select value from json_each(?))",
                (self.collection, json.dumps([digest for digest in digests if digest])),
            ).fetchall()
        )
        return [known.get(digest) if digest else None for digest in digests]

    def _taken(self, item: int | None, row: Row) -> int | None:
        """The item, which is this row's from now on; None when it was another row's."""
        if item is None:
            return None
        first = self._first.setdefault(item, (row.id, row.place))
        if first == (row.id, row.place):
            return item
        row.problem = f"it is item {item}, as {first[0]!r:.60} was before: the first counts"
        return None

    def _by(self, sql: str, *values: str) -> dict[str, int]:
        where = "" if self.collection is None else " where i.collection = ?"
        more = () if self.collection is None else (self.collection,)
        return _index(self._db.execute(sql + where, (*values, *more)).fetchall())

    def _by_place(self, key: str) -> int | None:
        """The item whose uri this is, or ends, or else the only one with that file name, or stem."""
        name = key.replace("\\", "/")
        base = name.rpartition("/")[2]
        for found in (self._uris.get(base, []), self._stems.get(base, [])):
            exact = [item for uri, item in found if uri == name]
            ending = [item for uri, item in found if uri.endswith("/" + name)]
            for items in (exact, ending, [item for _, item in found]):
                if items:
                    return items[0] if len(items) == 1 else _AMBIGUOUS
        return None

    def _read_places(self) -> None:
        where = "" if self.collection is None else " and collection = ?"
        more = () if self.collection is None else (self.collection,)
        rows = self._db.execute(
            f"select uri, id from items where uri is not null{where}", more
        ).fetchall()
        numbers = []
        for uri, item in rows:
            place = (uri.replace("\\", "/"), item)
            base = place[0].rpartition("/")[2]
            self._uris[base].append(place)
            stem = base.rpartition(".")[0]
            if stem:
                self._stems[stem].append((place[0].rpartition(".")[0], item))
            if (stem or base).isascii() and (stem or base).isdigit() and len(stem or base) < 19:
                numbers.append((int(stem or base), item))
        self._by_number = {int(number): item for number, item in _index(numbers).items()}


def _index(rows: Iterable[tuple[Any, int]]) -> dict[str, int]:
    """7 and '7' are one id to all programs but databases."""
    found: dict[str, int] = {}
    for key, item in rows:
        if isinstance(key, int | str):
            found[str(key)] = item if found.get(str(key), item) == item else _AMBIGUOUS
    return found


def _content(row: Row) -> str:
    """The text; of a row without one, its id, by which a person may still know it."""
    return row.text if row.text is not None and row.text.strip() else str(row.id)


def _sha256(row: Row) -> str:
    return hashlib.sha256(_content(row).encode()).hexdigest()


def _why_not_storable(row: Row) -> str | None:
    try:
        _content(row).encode()
        as_json({"id": row.id, **_finite(row.metadata)}).encode()
        str(row.id).encode()
    except UnicodeEncodeError:
        return "its id, text or metadata cannot be kept: half of a surrogate pair is no text"
    except RecursionError:
        return "its metadata cannot be kept: it is nested too deep"
    except ValueError as error:
        return f"its metadata cannot be kept: {str(error)[:100]}"
    if "\0" in _content(row) + str(row.id):
        return "it holds a NUL character, at which SQLite would cut the text off"
    return "it has neither a text nor an id" if not _content(row).strip() else None


def _finite(metadata: Any) -> dict[str, Any]:
    """Without a key that the id has."""
    return {name: value for name, value in metadata.items() if name != "id"}
