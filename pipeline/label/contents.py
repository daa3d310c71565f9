"""What there is to read of an item: the beginning of a text, or what is known of an image.

Of a text, only its words count: its labels may be the very truth that clusters are compared with. An
image has no words, so its labels and the classes that detectors saw in it stand for it.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

_SQL = read_sql(__package__, "contents")
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Content:
    """Of a text its first characters, of an image its labels and the classes seen in it, sorted."""

    item_id: int
    text: str | None
    is_cut: bool
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return not (self.text and self.text.strip()) and not self.labels and not self.classes


def read_contents(
    db: dbapi.Connection,
    item_ids: Sequence[int],
    *,
    characters: int,
    label_names: Sequence[str] | None = None,
) -> Iterator[Content]:
    """The contents of these items, each once, ascending by id; a page is read at a time.

    characters: how many of a text are read. label_names: only these labels of images, all if None.
    """
    ids = sorted(set(item_ids))
    names = None if label_names is None else json.dumps(list(label_names))
    for start in range(0, len(ids), _PAGE):
        values = {
            "items": json.dumps(ids[start : start + _PAGE]),
            "characters": characters,
            "names": names,
        }
        for item, text, is_cut, labels, classes in db.execute(_SQL, values).fetchall():
            yield Content(
                item,
                text,
                bool(is_cut),
                tuple(sorted(_label(name, value) for name, value in json.loads(labels or "[]"))),
                tuple(sorted(json.loads(classes or "[]"))),
            )


def _label(name: str, value: str) -> str:
    """The value, if it is a word; a bare number says nothing without the name of what it counts."""
    return value if any(character.isalpha() for character in value) else f"{name} {value}"
