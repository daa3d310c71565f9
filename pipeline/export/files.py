"""What the writers of all formats are given, and what they give back."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nearsql.pipeline.export import rows
from nearsql.pipeline.export.chosen import Chosen
from nearsql.pipeline.export.rows import Cluster, Item
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Source:
    """What an export reads: one state of the file, whatever others write meanwhile.

    n_items: how many `batches` gives; advance: is told how many more of them are written.
    """

    db: dbapi.Connection
    chosen: Chosen
    n_items: int
    advance: Callable[[int], None] = lambda n: None

    def batches(self) -> Iterator[list[Item]]:
        """The items by id, a bounded number at a time."""
        for batch in rows.batches(self.db, self.chosen):
            yield batch
            self.advance(len(batch))

    def clusters(self) -> Iterator[Cluster]:
        """The clusters by run, level and label."""
        return rows.clusters(self.db, self.chosen)

    def label_names(self) -> list[str]:
        """Which labels the items have."""
        return rows.label_names(self.db, self.chosen)


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Some images of an export: places are where they lie below its folder, by item id."""

    items: list[Item]
    places: dict[int, str]


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file of an export, by its name in the folder; first_id and last_id: of the items in it."""

    name: str
    rows: int
    bytes: int
    first_id: int | None = None
    last_id: int | None = None


def written(
    path: Path, n_rows: int, first_id: int | None = None, last_id: int | None = None
) -> WrittenFile:
    """The file as it is now on disk."""
    return WrittenFile(path.name, n_rows, path.stat().st_size, first_id, last_id)
