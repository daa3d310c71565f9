"""map.npz and map.csv: a map and the names of its clusters at each level, as DataMapPlot draws them.

data = np.load("map.npz")
layers = [data[f"names_{n}"][data[f"codes_{n}"]] for n in data["levels"]]
datamapplot.create_interactive_plot(data["coordinates"], *layers)
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export.files import Source, WrittenFile, written
from nearsql.pipeline.export.rows import Cluster, Item

# DataMapPlot's own word for noise.
UNLABELLED = "Unlabelled"
# Longer names would cover the map, and make the array of all names as wide as the longest one.
LONGEST_NAME = 100
LONGEST_HOVER = 200


def write_datamapplot(folder: Path, source: Source) -> list[WrittenFile]:
    """Writes the one map of the source's runs, with the one clustering, in both files.

    In npz: item_ids, (n,) int64, ascending; coordinates, (n, 2) float64; levels, the finest first, as
    DataMapPlot wants its layers; and for each level L names_L, the distinct labels as texts, the first of
    them UNLABELLED, and codes_L, (n,), the place of each item's label among them. In CSV the same in full,
    with a text to show for each item. Items that are not on the map are left out.
    """
    (drawn,), (clustering,) = source.chosen.maps, source.chosen.clusterings
    levels = [level.level for level in reversed(clustering.levels)]
    labels: dict[int, dict[int, str]] = {level: {} for level in levels}
    for level, found in cluster_names(source.clusters()).items():
        labels[level] = found
    codes = {
        level: {label: code for code, label in enumerate(names, 1)}
        for level, names in labels.items()
    }
    item_ids = np.empty(drawn.points, np.int64)
    coordinates = np.empty((drawn.points, 2))
    coded = {level: np.zeros(drawn.points, np.int32) for level in levels}
    n = 0
    path = folder / "map.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["item_id", "x", "y", "hover", *(f"level_{level}" for level in levels)])
        for batch in source.batches():
            for item in batch:
                point = item.points.get(drawn.id)
                if point is None:
                    continue
                if not (math.isfinite(point.x) and math.isfinite(point.y)):
                    raise UserError(
                        f"item {item.id} lies at {point.x}, {point.y} on the map of run {drawn.id}, which"
                        " cannot be drawn"
                    )
                item_ids[n], coordinates[n] = item.id, point[:2]
                shown = []
                for level in levels:
                    place = item.memberships.get((clustering.id, level))
                    label = None if place is None else place.cluster
                    if label is None:
                        shown.append(UNLABELLED)
                    else:
                        coded[level][n] = codes[level][label]
                        shown.append(labels[level][label])
                out.writerow([item.id, point.x, point.y, hover_text(item), *shown])
                n += 1
    arrays: dict[str, Any] = {
        "item_ids": item_ids[:n],
        "coordinates": coordinates[:n],
        "levels": np.array(levels, np.int64),
    }
    for level in levels:
        arrays[f"names_{level}"] = np.array([UNLABELLED, *labels[level].values()])
        arrays[f"codes_{level}"] = coded[level][:n]
    npz = folder / "map.npz"
    np.savez_compressed(npz, **arrays)
    return [written(npz, n), written(path, n)]


def hover_text(item: Item) -> str:
    """What is shown of an item under the pointer: the beginning of its text, or its file's name."""
    if item.text is not None:
        text = " ".join(item.text[: 2 * LONGEST_HOVER].split())
        return text if len(text) <= LONGEST_HOVER else text[: LONGEST_HOVER - 1] + "…"
    return item.uri.rpartition("/")[2] if item.uri else f"item {item.id}"


def cluster_names(clusters: Iterable[Cluster]) -> dict[int, dict[int, str]]:
    """level -> label -> a name that no other cluster of the level has: plots know them by it."""
    given: dict[int, dict[int, str]] = {}
    for cluster in clusters:
        name = cluster.name or f"Cluster {cluster.cluster}"
        short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        given.setdefault(cluster.level, {})[cluster.cluster] = short
    return {level: _distinct(names) for level, names in given.items()}


def _distinct(names: dict[int, str]) -> dict[int, str]:
    """The names, those that several clusters have with their labels in brackets."""
    times = Counter([UNLABELLED, *names.values()])
    taken = {name for name, n in times.items() if n == 1}
    found = {}
    for label, name in names.items():
        distinct = name
        if times[name] > 1:
            distinct = f"{name} ({label})"
            while distinct in taken:  # another cluster is called just that
                distinct += " "
            taken.add(distinct)
        found[label] = distinct
    return found
