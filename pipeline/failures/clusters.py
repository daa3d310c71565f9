"""Clusters of failures: images on which the detector behaves alike, and badly, named by what it saw there.

The clusters are those of the space MODEL/metrics (see pipeline/detect/metric_space.py), where images lie near each
other whose losses and metrics are alike. How badly the detector does in a cluster: by how many standard
deviations of all images the mean of each loss lies above that of all, and the mean of each metric below it;
and of these the mean. Above 0, the cluster is one of failures.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearsql.pipeline.cluster.run import cluster_spaces
from nearsql.pipeline.console import UserError, say
from nearsql.pipeline.failures.findings import CLUSTER, Finding
from nearsql.pipeline.failures.judged import Detector, Image
from nearsql.pipeline.label import label_clusters
from nearsql.pipeline.label.levels import Reading
from nearsql.pipeline.replay import CannotReplay
from nearsql.pipeline.runs import space_input
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# The smallest clusters, and next to no smoothing of the density: failures are few, of many kinds, and lie
# sparsely around the many images on which the detector does well.
SELECTION = "leaf"
MIN_SAMPLES = 1

# What a vector of the space holds besides losses; more is better.
_METRICS = ("mean_iou", "mean_conf", "hit_freq", "dice_score")


@dataclass(frozen=True, slots=True)
class Column:
    """A loss or a metric: its value by item where it is defined, and the mean and deviation of these.

    sign: 1 of a loss, -1 of a metric.
    """

    name: str
    sign: int
    values: Mapping[int, float]
    mean: float
    deviation: float


def metric_space(db: dbapi.Connection, detector: Detector) -> str:
    """The name of the space of this detector's losses and metrics.

    Raises UserError when there is none, or it is of other settings: it holds what one collection of them gave.
    """
    name = f"{detector.model}/metrics"
    row = db.execute(
        "select json_extract(m.parameters_json, '$.settings') from spaces s"
        " join models m on m.id = s.model_id where s.name = ? and s.kind = 'metric'",
        (name,),
    ).fetchone()
    if row is None:
        raise UserError(f"there is no space {name!r} to cluster: it needs two annotated images")
    if row[0] != detector.settings:
        raise UserError(
            f"the space {name!r} is of the newest run of {detector.model}, which has other settings than"
            f" run {detector.runs[-1]}: leave out --run, or run `nearsql detect` with those again"
        )
    return name


def cluster_and_name(
    db: dbapi.Connection, space: str, min_cluster_size: int, quiet: bool
) -> tuple[int, int | None]:
    """The runs that have the space's clusters and their names; each is a run of its own.

    Clusters found before of the same vectors in the same way are taken. No name: the detector saw nothing.
    Raises UserError when the space cannot be clustered.
    """
    found = _clustered_before(db, space, min_cluster_size)
    if found is None:
        (result,) = cluster_spaces(
            db,
            [space],
            min_cluster_size=min_cluster_size,
            min_samples=MIN_SAMPLES,
            selection=SELECTION,
            quiet=quiet,
        )
        if result.run_id is None:
            raise UserError(f"space {space!r} cannot be clustered: {result.skipped}")
        found = result.run_id
    if not db.execute("select 1 from clusters where run_id = ?", (found,)).fetchone():
        return found, None
    try:
        # No labels of the images: the names are to say what the detector saw.
        return found, label_clusters(db, found, reading=Reading(label_names=()), quiet=quiet).run_id
    except UserError as error:
        say(f"clusters of failures have no names: {error}")
        return found, None


def _clustered_before(db: dbapi.Connection, space: str, min_cluster_size: int) -> int | None:
    source = space_input(db, space)
    values = {
        "space_id": source.space_id,
        "generation": source.generation,
        "generation_token": source.generation_token,
        "min_cluster_size": min_cluster_size,
        "min_samples": MIN_SAMPLES,
        "selection": SELECTION,
    }
    row = db.execute(read_sql(__package__, "clustered_before"), values).fetchone()
    return None if row is None else int(row[0])


def columns_of(images: Sequence[Image], losses: Mapping[str, Mapping[int, float]]) -> list[Column]:
    """The losses by name, then the metrics; those that are the same for all images tell nothing, and are none.

    losses: by component, the values by item.
    """
    metrics = {
        name: {i.item_id: value for i in images if (value := i.metrics[name]) is not None}
        for name in _METRICS
    }
    columns = []
    for sign, named in ((1, losses), (-1, metrics)):
        for name, values in sorted(named.items()):
            deviation = statistics.pstdev(values.values()) if values else 0.0
            if deviation > 0:
                mean = statistics.fmean(values.values())
                columns.append(Column(name, sign, values, mean, deviation))
    return columns


def failure_clusters(
    db: dbapi.Connection, columns: Sequence[Column], cluster_run: int, label_run: int | None
) -> list[Finding]:
    """A finding for each cluster in which the detector does worse than on all images.

    It is about the cluster's exemplar. Raises CannotReplay when an exemplar is no longer there.
    """
    findings = []
    rows = db.execute(
        read_sql(__package__, "clusters_with_names"), {"run": cluster_run, "label_run": label_run}
    ).fetchall()
    for cluster, label, size, exemplar, name, predicted, items_json in rows:
        if exemplar is None:
            raise CannotReplay(f"the exemplar of cluster {label} of run {cluster_run} is deleted")
        items = json.loads(items_json)
        means, score = _behaviour(items, columns)
        if score > 0:
            evidence = {
                "cluster_run": cluster_run,
                "cluster_id": cluster,
                "cluster": label,
                "label_run": label_run,
                "name": name,
                "predicted": predicted,
                "images": size,
                "items": items,
                "means": means,
                "means_of_all": {column.name: round(column.mean, 6) for column in columns},
            }
            findings.append(Finding(CLUSTER, exemplar, score, evidence))
    return findings


def _behaviour(
    items: Sequence[int], columns: Sequence[Column]
) -> tuple[dict[str, float | None], float]:
    """The mean of each column over the items, None where it is undefined for all; and how bad these are."""
    means: dict[str, float | None] = {}
    worse = []
    for column in columns:
        values = [column.values[item] for item in items if item in column.values]
        if values:
            mean = statistics.fmean(values)
            worse.append(column.sign * (mean - column.mean) / column.deviation)
        means[column.name] = round(mean, 6) if values else None
    return means, statistics.fmean(worse) if worse else 0.0
