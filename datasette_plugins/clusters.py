"""The clusters of a run, level by level: how large, what is in them, and how much is noise."""

import json
from asyncio import gather
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.cluster_measures import (
    Control,
    Means,
    Measure,
    chosen_measure,
    means_of,
    one_of,
)
from nearsql.datasette_plugins.pages import Page, Problem, Row, page

CLUSTERINGS_SHOWN = 50
CLUSTERS_SHOWN = 50
# All of a level are read, to be sorted and counted; their exemplars and labels only where they are shown.
CLUSTERS_READ = 20_000
# Of what the clusters of one page fall into.
TREE_SHOWN = 2_000
LABELS_SHOWN = 6  # of a cluster's mix; what is left is drawn as one grey rest
COLOURS = 20  # in nearsql.css

# What an address may say of a list of clusters, in the order in which it says it.
_ARGUMENTS = ("level", "sort", "q", "label", "detector", "measure", "page")

# By what they can be sorted, and the words for it; the first is SQL's own order.
SORTS = {
    "size": "largest first",
    "small": "smallest first",
    "name": "by name",
    "number": "by number",
    "strength": "strongest first",
    "precision": "least fitting names first",
}
BY_MEAN = {"high": "highest {} first", "low": "lowest {} first"}

Mixes = dict[int | None, "Mix"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a bar: a label's value, how often it occurs, and where it lies from 0 to 1."""

    value: str
    n: int
    start: float
    share: float
    colour: int


@dataclass(frozen=True, slots=True)
class Mix:
    """The labels of a cluster: the commonest as segments, how many carry one, how many there are."""

    segments: list[Segment]
    total: int
    different: int


@page
async def newest_clusters(current: Page) -> Response:
    """The newest clustering, or how to make the first one."""
    clusterings = await current.rows("cluster_runs", limit=1)
    if not clusterings:
        return await current.html("nearsql_no_clusters.html")
    return Response.redirect(current.url("clusters", clusterings[0]["run_id"]))


@page
async def clusters_of_run(current: Page) -> Response:
    """The clusters of a level with sizes, exemplars, labels and what they fall into; the noise last."""
    run_id = current.number("run")
    run, levels = await run_and_levels(current, run_id)
    level = chosen_level(current, levels)
    label, label_names = await chosen_label(current)
    measure = await chosen_measure(current, run_id)
    sorts = [*SORTS, *(BY_MEAN if measure else ())]
    sort = one_of(current, "sort", sorts)
    search = (current.request.args.get("q") or "").strip()
    asked = {"run": run_id, "level": level["level"], "parent": None, "search": search or None}
    clusters = await current.rows("clusters", **asked, limit=CLUSTERS_READ)
    measuring = partial(means_of, current, measure, run_id, level["level"])
    means = await measuring() if sort in BY_MEAN else None
    if sort != "size":  # which is SQL's own order
        clusters.sort(key=_sort_key(sort, means or {}))
    number, pages = chosen_page(current, len(clusters), CLUSTERS_SHOWN)
    shown = clusters[(number - 1) * CLUSTERS_SHOWN : number * CLUSTERS_SHOWN]
    ids = json.dumps([cluster["cluster_id"] for cluster in shown])
    mixing = {"run": run_id, "level": level["level"], "clusters": ids, "with_noise": 1}
    dressing = (dress(current, shown), label_mixes(current, label, **mixing))
    if means is None:
        _, mixes, means = await gather(*dressing, measuring())
    else:
        _, mixes = await gather(*dressing)
    return await current.html(
        "nearsql_clusters.html",
        run=run,
        levels=levels,
        level=level,
        has_names=any(cluster["name"] for cluster in clusters),
        clusters=shown,
        found=len(clusters),
        is_cut=len(clusters) == CLUSTERS_READ,
        number=number,
        pages=pages,
        clusterings=await current.rows("cluster_runs", limit=CLUSTERINGS_SHOWN),
        maps=await current.rows("cluster_maps", run=run_id),
        label=label,
        label_url=current.sql_url("label_mix", label=label, most=LABELS_SHOWN, **mixing),
        mixes=mixes,
        measure=measure,
        measure_url=measure and measure.url(current, run_id, level["level"]),
        means=means,
        controls=_controls(clusters, sort, label, label_names, measure),
        search=search,
        address=lambda **changes: address(current, **changes),
        sql_url=current.sql_url("clusters", **asked, limit=1000),
    )


async def run_and_levels(current: Page, run_id: int) -> tuple[Row, list[Row]]:
    """The run and its levels. Raises Problem where it has clustered nothing."""
    run, levels = await gather(
        current.one("cluster_run", run=run_id), current.rows("levels", run=run_id)
    )
    if run is None or not levels:
        raise Problem(
            f"Run {run_id} found no clusters: `nearsql cluster FILE SPACE` makes a clustering.", 404
        )
    return run, levels


async def dress(current: Page, clusters: list[Row]) -> None:
    """Gives clusters their `exemplars`, and what they fall into as `within`."""
    ids = json.dumps([cluster["cluster_id"] for cluster in clusters])
    exemplars, tree = await gather(
        current.rows("cluster_exemplars", clusters=ids),
        current.rows("cluster_tree", clusters=ids, limit=TREE_SHOWN),
    )
    shown = {row["cluster_id"]: json.loads(row["exemplars_json"]) for row in exemplars}
    within: dict[int, list[Row]] = {}
    for row in tree:
        within.setdefault(row["root_id"], []).append(row)
    for cluster in clusters:
        cluster["exemplars"] = shown[cluster["cluster_id"]]
        cluster["within"] = within.get(cluster["cluster_id"], [])


async def label_mixes(
    current: Page, label: str | None, most: int = LABELS_SHOWN, **of: Any
) -> Mixes:
    """Which values of a label the members of clusters carry, by cluster_id; None is the noise.

    of: run, level, clusters (a JSON array of ids) and with_noise of label_mix.sql.
    """
    if label is None:
        return {}
    rows = await current.rows("label_mix", label=label, most=most, **of)
    mixes = {}
    for cluster_id, group in groupby(rows, key=lambda row: row["cluster_id"]):
        values = list(group)
        total = values[0]["total"]
        segments = [
            Segment(
                row["value"],
                row["n"],
                row["before"] / total,
                row["n"] / total,
                row["code"] % COLOURS,
            )
            for row in values
        ]
        mixes[cluster_id] = Mix(segments, total, values[0]["different"])
    return mixes


def chosen_level(current: Page, levels: list[Row]) -> Row:
    """The level that the address names, or the coarsest."""
    wanted = current.request.args.get("level")
    if wanted is None:
        return levels[0]
    for level in levels:
        if str(level["level"]) == wanted:
            return level
    there_are = ", ".join(str(level["level"]) for level in levels)
    raise Problem(f"level must be one of {there_are}, not {wanted!r:.40}.")


async def chosen_label(current: Page) -> tuple[str | None, list[str]]:
    """The label whose values are shown, the commonest unless the address names one; and all names."""
    names = [row["name"] for row in await current.rows("label_names")]
    return current.request.args.get("label") or (names[0] if names else None), names


def chosen_page(current: Page, n: int, size: int) -> tuple[int, int]:
    """The number of the page that the address names, and how many pages n things of this size make."""
    wanted = current.request.args.get("page") or "1"
    if not wanted.isdecimal() or not 1 <= int(wanted[:9]) <= 1_000_000:
        raise Problem(f"page must be a whole number from 1, not {wanted!r:.40}.")
    return int(wanted[:9]), max(1, -(-n // size))


def address(current: Page, **changes: Any) -> str:
    """This page with other arguments; another page of the list only if that is what changes."""
    asked = {name: current.request.args.get(name) for name in _ARGUMENTS if name != "page"}
    words = {name: value for name, value in {**asked, **changes}.items() if value not in (None, "")}
    return "?" + urlencode(words)


def _controls(
    clusters: list[Row],
    sort: str,
    label: str | None,
    label_names: list[str],
    measure: Measure | None,
) -> list[Control]:
    """What can be chosen here. Choices between one thing and itself are left out."""
    words = SORTS | (
        {key: text.format(measure.name) for key, text in BY_MEAN.items()} if measure else {}
    )
    of_some = ("strength", "precision")
    offered = [
        (key, text)
        for key, text in words.items()
        if key not in of_some or key == sort or any(c[key] is not None for c in clusters)
    ]
    controls: list[Control] = [
        ("sort", "sorted", offered, sort),
        ("label", "labels", [(name, name) for name in label_names], label),
    ]
    if measure:
        controls.append(("measure", "mean", [(name, name) for name in measure.names], measure.name))
        controls.append(measure.detector_control)
    return [control for control in controls if len(control[2]) > 1]


def _sort_key(sort: str, means: Means) -> Callable[[Row], Any]:
    """The key to sort clusters by; those without a value come last, in SQL's order."""

    def last(value: float | None, sign: int) -> tuple[bool, float]:
        return value is None, sign * (value or 0.0)

    def mean(cluster: Row) -> float | None:
        found = means.get(cluster["cluster_id"])
        return found["mean"] if found else None

    keys: dict[str, Callable[[Row], Any]] = {
        "small": lambda c: (c["size"], c["label"]),
        "name": lambda c: (c["name"] is None, (c["name"] or "").casefold(), c["label"]),
        "number": lambda c: c["label"],
        "strength": lambda c: last(c["strength"], -1),
        "precision": lambda c: last(c["precision"], 1),
        "high": lambda c: last(mean(c), -1),
        "low": lambda c: last(mean(c), 1),
    }
    return keys[sort]
