"""items.json (or items-0001.json, ...) and clusters.json, what a viewer in a browser loads; or both as JSON
lines, an object a line and nothing else.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.files import Source, WrittenFile, written
from nearsql.pipeline.export.rows import Cluster, Item

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def write_json(folder: Path, source: Source, page_size: int) -> list[WrittenFile]:
    """Writes both, an object a line in each; items in pages of page_size when they are more than that."""
    items = itertools.chain.from_iterable(source.batches())
    pages = max(1, -(-source.n_items // page_size))
    if pages == 1:
        files = [_write_items(folder / "items.json", items)]
    else:
        digits = max(4, len(str(pages)))
        files = [
            _write_items(
                folder / f"items-{page:0{digits}}.json", itertools.islice(items, page_size)
            )
            for page in range(1, pages + 1)
        ]
    path = folder / "clusters.json"
    count, _, _ = _write_objects(path, ((None, cluster_json(c)) for c in source.clusters()))
    return [*files, written(path, count)]


def write_json_lines(folder: Path, source: Source) -> list[WrittenFile]:
    """Writes items.jsonl and clusters.jsonl: the same objects."""
    items = ((item.id, item_json(item)) for item in itertools.chain.from_iterable(source.batches()))
    clusters = ((None, cluster_json(cluster)) for cluster in source.clusters())
    return [
        written(path, *_write_objects(path, objects, lines=True))
        for path, objects in (
            (folder / "items.jsonl", items),
            (folder / "clusters.jsonl", clusters),
        )
    ]


def item_json(item: Item) -> str:
    """An item as a JSON object."""
    values = {
        "id": item.id,
        "kind": item.kind,
        "collection": item.collection,
        "sequence_number": item.sequence_number,
        "uri": item.uri,
        "text": item.text,
        "width": item.width,
        "height": item.height,
        "created_at": item.created_at,
        "labels": item.labels,
        "maps": [
            {"run": run, "x": point.x, "y": point.y, "is_placed": point.is_placed}
            for run, point in item.points.items()
        ],
        "clusters": [
            {
                "run": run,
                "level": level,
                "cluster": found.cluster,
                "probability": found.probability,
                "outlier_score": found.outlier_score,
                "is_assigned": found.is_assigned,
            }
            for (run, level), found in item.memberships.items()
        ],
    }
    # SQLite has read and written the metadata anew: it is JSON, and is not parsed once more.
    return _dumps(values, f"item {item.id}")[:-1] + f', "metadata": {item.metadata_json}}}'


def cluster_json(cluster: Cluster) -> str:
    """A cluster as a JSON object. Its birth lambda, which may be infinite, is left to the tables."""
    values = {
        "run": cluster.run,
        "level": cluster.level,
        "cluster": cluster.cluster,
        "parent": cluster.parent,
        "name": cluster.name,
        "description": cluster.description,
        "category": cluster.category,
        "strength": cluster.strength,
        "size": cluster.size,
        "exemplar_item_id": cluster.exemplar_item_id,
        "centres": [{"run": run, "x": x, "y": y} for run, (x, y) in cluster.centres.items()],
    }
    return _dumps(values, f"cluster {cluster.cluster} of run {cluster.run}")


def _dumps(values: dict[str, Any], what: str) -> str:
    try:
        return _ENCODER.encode(values)
    except ValueError:
        raise UserError(
            f"{what} has an infinite number, and JSON has none: use --format parquet or csv"
        ) from None


def _write_items(path: Path, items: Iterable[Item]) -> WrittenFile:
    return written(path, *_write_objects(path, ((item.id, item_json(item)) for item in items)))


def _write_objects(
    path: Path,
    objects: Iterator[tuple[int | None, str]],
    *,
    lines: bool = False,
) -> tuple[int, int | None, int | None]:
    """Writes (id, object as JSON) pairs as an array, or each as a line; gives how many, the first id and
    the last.
    """
    count, first, last = 0, None, None
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write("" if lines else "[")
        for last, text in objects:
            if not lines:
                out.write(",\n" if count else "\n")
            out.write(text + "\n" * lines)
            first = last if count == 0 else first
            count += 1
        out.write("" if lines else "\n]\n")
    return count, first, last
