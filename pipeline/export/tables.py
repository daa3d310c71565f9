"""items and clusters as tables, CSV or parquet: one row an item, with a column for everything of it."""

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.chosen import Chosen
from nearsql.pipeline.export.files import Source, WrittenFile, written
from nearsql.pipeline.export.rows import BATCH, Cluster, Item, Membership, Point

# A column each: a table of more is better kept as JSON.
MOST_LABEL_NAMES = 500


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and how its value is had from a row's object."""

    name: str
    type: Literal["integer", "real", "text", "boolean", "image", "neighbors"]
    value: Callable[[Any], Any]


def write_tables(folder: Path, source: Source, format_: str) -> list[WrittenFile]:
    """Writes items and clusters as `csv` or `parquet`."""
    items = item_columns(source.chosen, source.label_names())
    tables: tuple[tuple[str, list[Column], Iterable[Sequence[Any]]], ...] = (
        ("items", items, source.batches()),
        ("clusters", cluster_columns(source.chosen), _in_batches(source.clusters())),
    )
    files = []
    for name, columns, batches in tables:
        path = folder / f"{name}.{format_}"
        count = 0
        with closing(_TABLES[format_](path, columns)) as table:
            for batch in batches:
                table.write(batch)
                count += len(batch)
        files.append(written(path, count))
    return files


def item_columns(chosen: Chosen, label_names: Sequence[str]) -> list[Column]:
    """The columns of the items: what they are, their labels, places on maps, and clusters."""
    if len(label_names) > MOST_LABEL_NAMES:
        raise UserError(
            f"the items have {len(label_names):,} different labels, and a table has a column for each:"
            f" more than {MOST_LABEL_NAMES} go out with --format json only"
        )
    columns = [
        Column("id", "integer", lambda item: item.id),
        Column("kind", "text", lambda item: item.kind),
        Column("collection", "text", lambda item: item.collection),
        Column("sequence_number", "integer", lambda item: item.sequence_number),
        Column("uri", "text", lambda item: item.uri),
        Column("text", "text", lambda item: item.text),
        Column("width", "integer", lambda item: item.width),
        Column("height", "integer", lambda item: item.height),
        Column("created_at", "text", lambda item: item.created_at),
        Column("metadata_json", "text", lambda item: item.metadata_json),
    ]
    columns += [Column(f"label_{name}", "text", _of_label(name)) for name in label_names]
    for run in chosen.maps:
        columns += [
            Column(f"map_{run.id}_x", "real", _of_point(run.id, lambda point: point.x)),
            Column(f"map_{run.id}_y", "real", _of_point(run.id, lambda point: point.y)),
            Column(
                f"map_{run.id}_is_placed",
                "boolean",
                _of_point(run.id, lambda point: point.is_placed),
            ),
        ]
    for run in chosen.clusterings:
        for level in run.levels:
            at, of = (run.id, level.level), _of_membership
            name = f"cluster_{run.id}_{level.level}"
            columns += [
                Column(name, "integer", of(at, lambda found: found.cluster)),
                Column(f"{name}_name", "text", of(at, lambda found: found.name)),
                # An item that was not clustered is neither noise nor not.
                Column(f"{name}_is_noise", "boolean", of(at, lambda found: found.cluster is None)),
                Column(f"{name}_probability", "real", of(at, lambda found: found.probability)),
                Column(f"{name}_outlier_score", "real", of(at, lambda found: found.outlier_score)),
                Column(f"{name}_is_assigned", "boolean", of(at, lambda found: found.is_assigned)),
            ]
    return columns


def cluster_columns(chosen: Chosen) -> list[Column]:
    """The columns of the clusters, with their centres on each map."""
    columns = [
        Column("run", "integer", lambda cluster: cluster.run),
        Column("level", "integer", lambda cluster: cluster.level),
        Column("cluster", "integer", lambda cluster: cluster.cluster),
        Column("parent", "integer", lambda cluster: cluster.parent),
        Column("name", "text", lambda cluster: cluster.name),
        Column("description", "text", lambda cluster: cluster.description),
        Column("category", "text", lambda cluster: cluster.category),
        Column("strength", "real", lambda cluster: cluster.strength),
        Column("size", "integer", lambda cluster: cluster.size),
        Column("exemplar_item_id", "integer", lambda cluster: cluster.exemplar_item_id),
        Column("birth_lambda", "real", lambda cluster: cluster.birth_lambda),
        Column("max_lambda", "real", lambda cluster: cluster.max_lambda),
    ]
    for run in chosen.maps:
        columns += [
            Column(f"map_{run.id}_x", "real", _of_centre(run.id, 0)),
            Column(f"map_{run.id}_y", "real", _of_centre(run.id, 1)),
        ]
    return columns


def _of_label(name: str) -> Callable[[Item], str | None]:
    return lambda item: item.labels.get(name)


def _of_point(run: int, value: Callable[[Point], Any]) -> Callable[[Item], Any]:
    return lambda item: value(item.points[run]) if run in item.points else None


def _of_centre(run: int, axis: int) -> Callable[[Cluster], float | None]:
    return lambda cluster: cluster.centres[run][axis] if run in cluster.centres else None


def _of_membership(
    at: tuple[int, int], value: Callable[[Membership], Any]
) -> Callable[[Item], Any]:
    def of_item(item: Item) -> Any:
        found = item.memberships.get(at)
        return None if found is None else value(found)

    return of_item


def _in_batches(clusters: Iterator[Cluster]) -> Iterator[list[Cluster]]:
    while batch := list(itertools.islice(clusters, BATCH)):
        yield batch


class _CsvTable:
    """NULL is an empty field; true and false are 1 and 0, as SQLite prints them."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Any]) -> None:
        """Writes the columns of these objects, a line each."""
        for row in rows:
            values = (column.value(row) for column in self._columns)
            self._writer.writerow([int(v) if isinstance(v, bool) else v for v in values])

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class ParquetTable:
    """A row group a batch, compressed by zstd."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        try:
            import pyarrow
            from pyarrow.parquet import ParquetWriter
        except ImportError:
            raise UserError(
                "this format needs pyarrow: `pip install nearsql[parquet]`, or use --format csv"
            ) from None
        types = {
            "integer": pyarrow.int64(),
            "real": pyarrow.float64(),
            "text": pyarrow.string(),
            "boolean": pyarrow.bool_(),
            "image": pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
            "neighbors": pyarrow.struct(
                [
                    ("ids", pyarrow.list_(pyarrow.int64())),
                    ("distances", pyarrow.list_(pyarrow.float64())),
                ]
            ),
        }
        self._table = pyarrow.Table.from_pydict
        self._columns = columns
        self._schema = pyarrow.schema([(c.name, types[c.type]) for c in columns])
        self._writer = ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Any]) -> None:
        """Writes the columns of these objects."""
        values = {c.name: [c.value(row) for row in rows] for c in self._columns}
        self._writer.write_table(self._table(values, schema=self._schema))

    def close(self) -> None:
        """Writes the footer, without which there is no table."""
        self._writer.close()


_TABLES: dict[str, type[_CsvTable] | type[ParquetTable]] = {
    "csv": _CsvTable,
    "parquet": ParquetTable,
}
