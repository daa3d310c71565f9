"""What a detector says of the images of clusters: which loss or metric is shown, and its means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearsql.datasette_plugins.pages import Page, Problem, Row

# The argument of an address, the words before it, its values with their words, and the one that is chosen.
Control = tuple[str, str, list[tuple[Any, str]], Any]
# The rows of cluster_loss.sql or cluster_metric.sql by cluster_id; None is the noise.
Means = dict[int | None, Row]

# A finished run never changes, and its means take a while where it has judged many images.
_means_of_all: dict[tuple[Any, ...], Row] = {}
_MEANS_KEPT = 200


@dataclass(frozen=True, slots=True)
class Measure:
    """What a detector says of the images: a loss or a metric of one of its runs."""

    detectors: list[Row]
    detector: int
    names: list[str]
    name: str
    question: str
    parameters: Row

    def url(self, current: Page, run_id: int, level: int) -> str:
        """The SQL that gives its mean in each cluster of a level."""
        return current.sql_url(self.question, run=run_id, level=level, **self.parameters)

    @property
    def detector_row(self) -> Row:
        """The detector's run."""
        return next(row for row in self.detectors if row["run_id"] == self.detector)

    @property
    def detector_control(self) -> Control:
        """The choice of the detector."""
        values = [
            (row["run_id"], f"{row['model'] or 'a detector'}, run {row['run_id']}")
            for row in self.detectors
        ]
        return ("detector", "by", values, self.detector)


async def chosen_measure(current: Page, run_id: int) -> Measure | None:
    """The loss or metric that the address names, or the first; None where no detector saw the items."""
    detectors = await current.rows("cluster_detectors", run=run_id)
    if not detectors:
        return None
    runs = [str(row["run_id"]) for row in detectors]
    detector = int(one_of(current, "detector", runs))
    measures = {
        row["name"]: row for row in await current.rows("cluster_measures", detector=detector)
    }
    name = one_of(current, "measure", list(measures))
    kind = "metric" if measures[name]["component"] is None else "component"
    return Measure(
        detectors,
        detector,
        list(measures),
        name,
        "cluster_metric" if kind == "metric" else "cluster_loss",
        {"detector": detector, kind: measures[name][kind]},
    )


async def means_of(current: Page, measure: Measure | None, run_id: int, level: int) -> Means:
    """The mean of the measure in each cluster of a level; None is the noise."""
    if measure is None:
        return {}
    rows = await current.rows(measure.question, run=run_id, level=level, **measure.parameters)
    return {row["cluster_id"]: row for row in rows}


def one_of(current: Page, name: str, values: Sequence[str]) -> str:
    """The argument of the address, one of the values; the first of them where there is none."""
    wanted = current.request.args.get(name)
    if not wanted:
        return values[0]
    if wanted not in values:
        raise Problem(f"{name} must be one of {', '.join(values)}, not {wanted!r:.60}.")
    return wanted


async def judged_here(current: Page, measure: Measure | None, of: Row) -> list[Row]:
    """The means of all losses and metrics in a cluster, each with `mean_of_all` images judged.

    of: run, level and cluster (None is the noise). Those that none of its items has are left out.
    """
    if measure is None:
        return []
    rows = await current.rows("cluster_judged", **of, detector=measure.detector)
    of_all = await _of_all(current, measure.detector_row)
    return [row | {"mean_of_all": of_all[row["name"]]} for row in rows if row["items"]]


async def _of_all(current: Page, detector: Row) -> Row:
    """The mean of each loss and metric over all images that a run has judged, by name."""
    key = (current.db.path, current.db.name, *detector.values())
    if key not in _means_of_all:
        rows = await current.rows("detector_means", detector=detector["run_id"])
        while len(_means_of_all) >= _MEANS_KEPT:
            _means_of_all.pop(next(iter(_means_of_all)))
        _means_of_all[key] = {row["name"]: row["mean"] for row in rows}
    return _means_of_all[key]
