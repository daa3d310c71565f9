"""The clusters of a run: how large, what is in them, and how much is noise."""

import json
from dataclasses import dataclass
from itertools import groupby

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, Row, page

CLUSTERS_SHOWN = 500
MEMBERS_SHOWN = 120
LABELS_SHOWN = 6  # of a cluster's mix; what is left is drawn as one grey rest
COLOURS = 20  # in nearsql.css


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a bar: a label's value, how often it occurs, and where it lies from 0 to 1."""

    value: str
    n: int
    start: float
    share: float
    colour: int


@page
async def newest_clusters(current: Page) -> Response:
    """The newest clustering, or how to make the first one."""
    clusterings = await current.rows("clusterings")
    if not clusterings:
        return await current.html("nearsql_no_clusters.html")
    return Response.redirect(current.url("clusters", clusterings[0]["run_id"]))


@page
async def clusters_of_run(current: Page) -> Response:
    """Every cluster of a run with its size, exemplars and label mix; the noise of each level last."""
    run_id = current.number("run")
    run = await current.one("run", run=run_id)
    levels = await current.rows("levels", run=run_id)
    if run is None or not levels:
        raise Problem(
            f"Run {run_id} found no clusters: `nearsql cluster FILE SPACE` makes a clustering.", 404
        )
    label_names = [row["name"] for row in await current.rows("label_names")]
    label = current.request.args.get("label") or (label_names[0] if label_names else None)
    clusters = await current.rows("clusters", run=run_id, limit=CLUSTERS_SHOWN)
    for cluster in clusters:
        cluster["shown"] = json.loads(cluster["shown_json"])
    mix = _mixes(await current.rows("label_mix", run=run_id, label=label)) if label else {}
    return await current.html(
        "nearsql_clusters.html",
        run=run,
        levels=levels,
        clusters=clusters,
        shown=CLUSTERS_SHOWN,
        label=label,
        label_names=label_names,
        mix=mix,
    )


def _mixes(rows: list[Row]) -> dict[tuple[int, int | None], list[Segment]]:
    """The rows of label_mix.sql as the segments of bars, by (level, cluster)."""
    mixes = {}
    for key, group in groupby(rows, key=lambda row: (row["level"], row["cluster"])):
        values = list(group)
        total = sum(row["n"] for row in values)
        segments, before = [], 0
        for row in values[:LABELS_SHOWN]:
            colour = row["code"] % COLOURS
            segments.append(
                Segment(row["value"], row["n"], before / total, row["n"] / total, colour)
            )
            before += row["n"]
        mixes[key] = segments
    return mixes


@page
async def members(current: Page) -> Response:
    """The contact sheet of one cluster, or of a level's noise."""
    run_id, level = current.number("run"), current.number("level")
    is_noise = current.request.url_vars["label"] == "noise"
    label = None if is_noise else current.number("label")
    run = await current.one("run", run=run_id)
    cluster = await current.one("cluster", run=run_id, level=level, cluster=label)
    noise = [row for row in await current.rows("levels", run=run_id) if row["level"] == level]
    if run is None or not noise or (cluster is None and not is_noise):
        raise Problem(f"Run {run_id} has no such cluster at level {level}.", 404)
    number = current.request.args.get("page") or "1"
    if not number.isdecimal() or not 1 <= int(number) <= 1_000_000:
        raise Problem(f"page must be a whole number from 1, not {number!r}.")
    size = noise[0]["noise"] if cluster is None else cluster["size"]
    parameters = {"run": run_id, "level": level, "cluster": label}
    return await current.html(
        "nearsql_members.html",
        run=run,
        level=level,
        label=label,
        cluster=cluster,
        size=size,
        number=int(number),
        pages=max(1, -(-size // MEMBERS_SHOWN)),
        items=await current.rows(
            "members", **parameters, limit=MEMBERS_SHOWN, offset=(int(number) - 1) * MEMBERS_SHOWN
        ),
        sql_url=current.sql_url("members", **parameters, limit=1000, offset=0),
    )
