"""The one place where ground truth is written: annotations, annotated items, splits, and what was wrong."""

import json
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.annotations.objects import (
    AnnotatedObject,
    ImageTruth,
    as_json,
    truth_sha256,
)
from nearsql.pipeline.annotations.outlines import mask_and_area
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.runs import Run, immediate
from nearsql.udfs.sql_files import read_sql

# One transaction writes about this many images, or numbers of their outlines: a killed process loses
# no more, and no more is in memory.
BATCH_ITEMS = 500
BATCH_NUMBERS = 1_000_000

SOURCE_OF_SPLITS = "annotations"

# The columns of rows_of.
COLUMNS = (
    *("class_id", "class_name", "x_min", "y_min", "x_max", "y_max", "polygons_json", "is_crowd"),
    *("mask_json", "area"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """An image of the collection. places: where it lies, below the folder; the first is its own."""

    id: int
    sha256: str
    width: int
    height: int
    places: tuple[str, ...]


class TruthWriter:
    """Takes what the labels say of each item and writes what is new in short `immediate` transactions.

    An item's truth is replaced as a whole when its hash differs, and not touched when it is the same.
    An item with problems gets the objects that are right, but does not count as annotated.
    """

    def __init__(self, run: Run, source: str) -> None:
        self._run, self._db, self._source = run, run.db, source
        self._batch: list[tuple[Item, ImageTruth | None, str | None]] = []
        self._n_numbers = 0
        self._brought: list[tuple[str, int, str]] = []
        for name in ("annotated", "objects", "new", "changed", "unchanged", "incomplete", "errors"):
            run.counts[name] = 0

    def add(self, item: Item, truth: ImageTruth | None, split: str | None) -> None:
        """Takes what is known of one item: None where the labels say nothing."""
        self._batch.append((item, truth, split))
        self._n_numbers += sum(map(_numbers, truth.objects)) if truth is not None else 0
        if len(self._batch) >= BATCH_ITEMS or self._n_numbers >= BATCH_NUMBERS:
            self._flush()

    def finish(self) -> None:
        """Writes what is left, and settles the hash of what the run brought."""
        self._flush()
        self._run.result_sha256 = hash_rows(self._brought)

    def _flush(self) -> None:
        if not self._batch:
            return
        known = self._known_truths()
        splits = self._known_splits()
        changes: list[tuple[Item, ImageTruth, str, list[tuple[Any, ...]]]] = []
        with self._run.timed("draw"):
            for item, truth, _ in self._batch:
                if truth is None:
                    continue
                self._count(truth)
                sha256 = truth_sha256(truth.objects)
                if known.get(item.id, _NOTHING) != (not truth.problems, sha256):
                    changes.append((item, truth, sha256, rows_of(item, truth)))
                elif not truth.problems:
                    self._run.counts["unchanged"] += 1
        with self._run.timed("write"), immediate(self._db):
            there = self._still_there()
            self._replace([change for change in changes if change[0].id in there], set(known))
            for item, truth, split in self._batch:
                if item.id not in there:
                    continue
                if truth is not None:
                    self._tell(item, truth)
                if split is not None and splits.get(item.id) != split:
                    written = self._db.execute(
                        read_sql(__package__, "split_of_item"), (item.id, split, SOURCE_OF_SPLITS)
                    ).rowcount
                    self._run.counts["splits"] = self._run.counts.get("splits", 0) + written
        self._batch.clear()
        self._n_numbers = 0

    def _replace(
        self, changes: list[tuple[Item, ImageTruth, str, list[tuple[Any, ...]]]], known: set[int]
    ) -> None:
        """Puts what the labels say now in the place of what was known of these items."""
        db, counts, run_id = self._db, self._run.counts, self._run.id
        # Also where nothing was known: another process may have come first.
        db.executemany(
            "delete from annotations where item_id = ?", [(item.id,) for item, *_ in changes]
        )
        db.executemany(
            "delete from annotated_items where item_id = ?",
            [(item.id,) for item, truth, *_ in changes if truth.problems],
        )
        new = [
            (item.id, run_id, self._source, *row) for item, _, _, rows in changes for row in rows
        ]
        db.executemany(read_sql(__package__, "insert_annotation"), new)
        counts["objects"] += len(new)
        for item, truth, sha256, rows in changes:
            if truth.problems:
                counts["partial"] = counts.get("partial", 0) + bool(rows)
            else:
                db.execute(
                    read_sql(__package__, "annotated_item"), (item.id, run_id, self._source, sha256)
                )
                counts["changed" if item.id in known else "new"] += 1
            if rows or not truth.problems:
                self._brought.append(brought_row(item, truth, rows))

    def _count(self, truth: ImageTruth) -> None:
        counts = self._run.counts
        facts = {
            "annotated": not truth.problems,
            "incomplete": bool(truth.problems),
            "background": truth.is_background,
            "empty": not truth.is_background and not truth.objects and not truth.problems,
            "clipped": truth.n_clipped,
            "duplicates": truth.n_duplicates,
        }
        for name, n in facts.items():
            if n:
                counts[name] = counts.get(name, 0) + int(n)

    def _tell(self, item: Item, truth: ImageTruth) -> None:
        for number, problem in enumerate(truth.problems):
            end = "; the image counts as not annotated" if number == 0 else ""
            self._run.item_error("annotation", problem + end, item_id=item.id, uri=truth.uri)

    def _ids(self) -> str:
        return json.dumps([item.id for item, _, _ in self._batch])

    def _known_truths(self) -> dict[int, tuple[bool, str]]:
        """What is stored of these items: whether it is complete, and its hash."""
        known: dict[int, tuple[bool, str]] = {}
        incomplete: dict[int, list[AnnotatedObject]] = {}
        sql = read_sql(__package__, "known_truths")
        for item_id, sha256, *columns in self._db.execute(sql, (self._ids(),)):
            if sha256 is not None:
                known[item_id] = (True, sha256)
            else:
                incomplete.setdefault(item_id, []).append(_stored(*columns))
        for item_id, objects in incomplete.items():
            known[item_id] = (False, truth_sha256(objects))
        return known

    def _known_splits(self) -> dict[int, str]:
        return dict(
            self._db.execute(
                "select item_id, value from item_labels where name = 'split'"
                " and item_id in (select value from json_each(?))",
                (self._ids(),),
            )
        )

    def _still_there(self) -> set[int]:
        rows = self._db.execute(
            "select id from items where id in (select value from json_each(?))", (self._ids(),)
        )
        return {item_id for (item_id,) in rows}


# An item of which nothing is stored is like one with problems and no objects.
_NOTHING = (False, truth_sha256([]))


def rows_of(item: Item, truth: ImageTruth) -> list[tuple[Any, ...]]:
    """The columns of the item's annotations from class_id on, in the order in which they are inserted."""
    return [_row(item, thing) for thing in truth.objects]


def brought_row(item: Item, truth: ImageTruth, rows: list[tuple[Any, ...]]) -> tuple[str, int, str]:
    """What one item adds to the hash of a run's result."""
    return item.sha256, int(not truth.problems), hash_rows(rows)


def _numbers(thing: AnnotatedObject) -> int:
    """How much the object holds."""
    outline = sum(map(len, thing.polygons or ()))
    return len(thing.box) + outline + (len(thing.rle["counts"]) if thing.rle is not None else 0)


def _stored(
    class_id: int,
    class_name: str | None,
    x_min: float,
    y_min: float,
    x_max: float,
    y_max: float,
    polygons_json: str | None,
    mask_json: str | None,
    is_crowd: int,
) -> AnnotatedObject:
    """The object that a row was made of."""
    polygons = None if polygons_json is None else json.loads(polygons_json)
    rle = None if mask_json is None else json.loads(mask_json)
    box = (x_min, y_min, x_max, y_max)
    return AnnotatedObject(class_id, class_name, box, polygons, rle, bool(is_crowd))


def _row(item: Item, thing: AnnotatedObject) -> tuple[Any, ...]:
    mask_json, area = mask_and_area(thing, item.width, item.height)
    return (
        thing.class_id,
        thing.class_name,
        *thing.box,
        as_json(thing.polygons) if thing.polygons is not None else None,
        int(thing.is_crowd),
        mask_json,
        area,
    )
