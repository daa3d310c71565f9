"""Which classes an export has, and their numbers: those of the database, as long as each has one of its own.

A class is known by its name, since collections and models number theirs each in their own way.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nearsql.pipeline.export.drawn import Drawn
from nearsql.pipeline.export.rows import Item
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Categories:
    """The classes of an export. numbers: name -> number, ascending. is_renumbered: they are others than in
    the database.
    """

    numbers: dict[str, int]
    supercategories: dict[str, str]
    is_renumbered: bool
    named: dict[tuple[str, int], str]  # (collection, class number) -> name

    def of(self, thing: Drawn, collection: str) -> int:
        """The number of an object's class, on an item of the collection."""
        name = thing.class_name
        if not name and thing.score is None:
            name = self.named.get((collection, thing.class_id))
        return self.numbers[name or unnamed(thing.class_id)]


@dataclass
class Found:
    """Classes as they are met: `known` of ground truth, `seen` of predictions, each a (number, name)."""

    known: set[tuple[int, str]] = field(default_factory=set)
    seen: set[tuple[int, str]] = field(default_factory=set)
    collections: set[str] = field(default_factory=set)

    def add(self, db: dbapi.Connection, items: Sequence[Item], predicted_by: int | None) -> None:
        """The classes of the objects of these items."""
        self.collections |= {item.collection for item in items}
        asked = {"items": json.dumps([item.id for item in items]), "run": predicted_by}
        for is_seen, number, name in db.execute(read_sql(__package__, "classes_of_items"), asked):
            pair = (number, name or unnamed(number))
            (self.seen if is_seen else self.known).add(pair)


def unnamed(class_id: int) -> str:
    """What a class without a name is called."""
    return f"class {class_id}"


def categories(db: dbapi.Connection, found: Found, *, from_zero: bool = False) -> Categories:
    """The classes that were found, and all others of these collections.

    The numbers are the database's, if each name has one, and each number one name; what only a model
    names keeps its number where that is free. from_zero: they are 0, 1, 2, ... without a gap, as YOLO
    wants them, in the order of the numbers that they had.
    """
    rows = db.execute(
        "select collection, class_id, name, supercategory from classes"
        " where collection in (select value from json_each(?)) order by collection, class_id",
        (json.dumps(sorted(found.collections)),),
    ).fetchall()
    named = {(collection, number): name for collection, number, name, _ in rows}
    above = {name: supercategory for *_, name, supercategory in rows if supercategory}
    known = found.known | {(number, name) for (_, number), name in named.items()}
    pairs = sorted(known)
    is_kept = _is_one_to_one(pairs)
    numbers = _numbered(pairs, 1, is_kept)
    names_known = set(numbers)
    for number, name in sorted(found.seen):
        if name in numbers:
            continue
        taken = set(numbers.values())
        if number in taken or not is_kept:
            is_kept = is_kept and number not in taken
            number = max(taken, default=0) + 1
        numbers[name] = number
    if from_zero:
        order = sorted(numbers, key=lambda name: (name not in names_known, numbers[name]))
        closed = {name: number for number, name in enumerate(order)}
        is_kept = is_kept and closed == numbers
        numbers = closed
    ordered = dict(sorted(numbers.items(), key=lambda entry: entry[1]))
    return Categories(ordered, above, not is_kept, named)


def _is_one_to_one(pairs: Sequence[tuple[int, str]]) -> bool:
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    return len(numbers) == len(names) == len(pairs)


def _numbered(pairs: Iterable[tuple[int, str]], first: int, is_kept: bool) -> dict[str, int]:
    """Name -> number: its own, or the names numbered in order, each once."""
    if is_kept:
        return {name: number for number, name in pairs}
    names = dict.fromkeys(name for _, name in pairs)
    return {name: number for number, name in enumerate(names, first)}
