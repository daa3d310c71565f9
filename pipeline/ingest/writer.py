"""The one place where an ingest writes: items, labels, stored images and errors, a batch at a time."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# One transaction holds at most this many rows or stored bytes: a killed process loses no more.
BATCH_ROWS = 500
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image or a text that was read, and where it was found.

    An image without width and height is one that the collection had when the ingest began.
    """

    kind: Literal["image", "text"]
    sha256: str
    uri: str | None
    content: str | None = None
    width: int | None = None
    height: int | None = None
    sequence_number: int | None = None  # None: the next of its collection
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata_json: str = "{}"
    media_type: str | None = None
    data: bytes | None = None  # an image's bytes, when they are to be stored


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or a row that could not be ingested, and why, in a sentence."""

    uri: str
    stage: str
    message: str


@dataclass(frozen=True, slots=True)
class IngestResult:
    """How an ingest went: its run, its collection, how many files or rows went which way.

    counts: found (files or rows looked at) = new + known + duplicates + errors; of the new ones,
    changed stand where other bytes stood before; moved (of the known) are image files found again
    elsewhere; labels were added; skipped files are no images, and not among the found.
    """

    run_id: int
    collection: str
    counts: dict[str, int | float]


class Writer:
    """Takes what was read and writes it in short `immediate` transactions.

    Doing it again is harmless: an item is known by its collection and SHA-256, a label that is there
    is never overwritten, and a place that was once recorded as a duplicate is known afterwards.
    """

    def __init__(self, run: Run, collection: str, label_source: str) -> None:
        self._run, self._db = run, run.db
        self._collection, self._label_source = collection, label_source
        self._batch: list[Arrival | Problem] = []
        self._bytes = 0
        self._next_sequence_number = 0
        self._data_version: int | None = None
        for name in ("found", "new", "known", "duplicates", "errors"):
            run.counts[name] = 0

    def add(self, row: Arrival | Problem) -> None:
        """Takes one row, and writes the batch when it is full."""
        self._batch.append(row)
        if isinstance(row, Arrival):
            self._bytes += len(row.data or b"") + len(row.content or "")
        if len(self._batch) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
            self._flush()

    def finish(self) -> IngestResult:
        """Writes what is left; settles the run's counts and the hash of what the run brought."""
        self._flush()
        run = self._run
        if run.counts["new"]:
            values = {"run_id": run.id, "collection": self._collection}
            (changed,) = self._db.execute(read_sql(__package__, "changed_files"), values).fetchone()
            if changed:
                run.counts["changed"] = changed
        run.result_sha256 = brought_sha256(self._db, run.id)
        return IngestResult(run.id, self._collection, run.counts)

    def _flush(self) -> None:
        if not self._batch:
            return
        with self._run.timed("write"), immediate(self._db):
            self._find_next_sequence_number()
            items = self._items_of(row.sha256 for row in self._batch if isinstance(row, Arrival))
            for row in self._batch:
                self._run.counts["found"] += 1
                if isinstance(row, Problem):
                    self._run.item_error(row.stage, row.message, uri=row.uri)
                elif row.sha256 in items:
                    self._meet_again(row, *items[row.sha256])
                elif row.kind == "image" and row.width is None:
                    message = "its item was deleted while this ingest ran: run the ingest again"
                    self._run.item_error("read", message, uri=row.uri or row.sha256)
                else:
                    items[row.sha256] = (self._insert(row), row.uri)
        self._batch.clear()
        self._bytes = 0

    def _find_next_sequence_number(self) -> None:
        """Looks up the collection's last number, but only when another connection has written since."""
        (data_version,) = self._db.execute("pragma data_version").fetchone()
        if data_version != self._data_version:
            (self._next_sequence_number,) = self._db.execute(
                "select coalesce(max(sequence_number) + 1, 0) from items where collection = ?",
                (self._collection,),
            ).fetchone()
            self._data_version = data_version

    def _items_of(self, digests: Iterable[str]) -> dict[str, tuple[int, str | None]]:
        """The collection's items with these SHA-256s: id and uri of each."""
        rows = self._db.execute(
            "select sha256, id, uri from items where collection = ?"
            " and sha256 in (select value from json_each(?))",
            (self._collection, json.dumps(list(digests))),
        )
        return {sha256: (item_id, uri) for sha256, item_id, uri in rows}

    def _insert(self, row: Arrival) -> int:
        sequence_number = row.sequence_number
        if sequence_number is None:
            sequence_number = self._next_sequence_number
        self._next_sequence_number = max(self._next_sequence_number, sequence_number + 1)
        item_id = self._db.execute(
            "insert into items (kind, collection, sha256, uri, content, width, height,"
            " sequence_number, run_id, metadata_json) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.kind,
                self._collection,
                row.sha256,
                row.uri,
                row.content,
                row.width,
                row.height,
                sequence_number,
                self._run.id,
                row.metadata_json,
            ),
        ).lastrowid
        assert item_id is not None
        if row.data is not None:
            self._db.execute(
                "insert into item_images (item_id, media_type, data) values (?, ?, ?)",
                (item_id, row.media_type, row.data),
            )
        self._label(item_id, row.labels)
        self._run.counts["new"] += 1
        return item_id

    def _meet_again(self, row: Arrival, item_id: int, uri: str | None) -> None:
        """The collection has these bytes: from this very place, from another, or from before a move."""
        counts = self._run.counts
        if row.uri == uri:
            counts["known"] += 1
            self._label(item_id, row.labels)
        elif self._is_recorded_duplicate(row, item_id):
            counts["known"] += 1
        elif row.kind == "image" and self._is_file_gone(item_id, uri):
            counts["known"] += 1
            counts["moved"] = counts.get("moved", 0) + 1
            self._db.execute("update items set uri = ? where id = ?", (row.uri, item_id))
            self._label(item_id, row.labels)
        else:
            counts["duplicates"] += 1
            self._record_duplicate(row, item_id, uri)

    def _label(self, item_id: int, labels: Mapping[str, str]) -> None:
        """Adds the labels that the item lacks."""
        for name, value in labels.items():
            added = self._db.execute(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, ?)"
                " on conflict (item_id, name) do nothing",
                (item_id, name, value, self._label_source),
            ).rowcount
            self._run.counts["labels"] = self._run.counts.get("labels", 0) + added

    def _is_recorded_duplicate(self, row: Arrival, item_id: int) -> bool:
        found = self._db.execute(
            "select 1 from item_errors where item_id = ? and stage = 'duplicate' and uri = ?",
            (item_id, row.uri),
        ).fetchone()
        return found is not None

    def _is_file_gone(self, item_id: int, uri: str | None) -> bool:
        """Whether nothing is left where an image was read, and the database does not keep its bytes."""
        stored = self._db.execute(
            "select 1 from item_images where item_id = ?", (item_id,)
        ).fetchone()
        return stored is None and (uri is None or not os.path.lexists(uri))

    def _record_duplicate(self, row: Arrival, item_id: int, uri: str | None) -> None:
        what = "text" if row.kind == "text" else "bytes"
        message = f"the same {what} as item {item_id} ({uri})"
        for name, value in row.labels.items():
            label = self._db.execute(
                "select value from item_labels where item_id = ? and name = ?", (item_id, name)
            ).fetchone()
            if label is not None and label[0] != value:
                message += f"; {name} is {value!r} here and {label[0]!r} there, which is kept"
        # Not Run.item_error: a duplicate is worth recording, but nothing went wrong.
        self._db.execute(
            "insert into item_errors (run_id, item_id, uri, stage, message)"
            " values (?, ?, ?, 'duplicate', ?)",
            (self._run.id, item_id, row.uri, message),
        )


def as_json(value: Mapping[str, Any]) -> str:
    """The mapping as JSON for an items row. Raises ValueError for what JSON or UTF-8 cannot hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def brought_sha256(db: dbapi.Connection, run_id: int) -> str:
    """The hash of what an ingest brought: (sha256, sequence_number, label) in the order it came.

    The label is the value of the one label that an ingest of a folder or a table can give, or None.
    """
    (name,) = db.execute(
        "select json_extract(parameters_json, '$.label') from runs where id = ?", (run_id,)
    ).fetchone()
    rows = db.execute(
        "select i.sha256, i.sequence_number, l.value from items i"
        " left join item_labels l on l.item_id = i.id and l.name = ?"
        " where i.run_id = ? order by i.id",
        (name, run_id),
    )
    return hash_rows(rows)
