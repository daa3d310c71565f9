"""The map of a projection run, or two of them side by side: a page, and where its scripts find the rest."""

import json
from itertools import groupby
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.assets import modules
from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql

SELECTIONS_OFFERED = 500


@page
async def newest_map(current: Page) -> Response:
    """The newest projection, or how to make the first one."""
    projections = await current.rows("projections")
    if not projections:
        return await current.html("nearsql_no_map.html")
    return Response.redirect(current.url("map", projections[0]["run_id"]))


@page
async def map_page(current: Page) -> Response:
    """The page around the map: its colourings, its controls, and the addresses of the rest.

    `?beside=RUN` shows another map beside it, with the same items pointed at and selected.
    """
    run_id = current.number("run")
    projections = await current.rows("projections")
    maps = [_of_run(projections, str(run_id))]
    if beside := current.request.args.get("beside"):
        maps.append(_of_run(projections, beside))
    colourings = await _colourings(current, maps[0]["space"])
    return await current.html(
        "nearsql_map.html",
        projection=maps[0],
        maps=maps,
        projections=projections,
        colourings=colourings,
        selections=await current.rows("selection_names", limit=SELECTIONS_OFFERED),
        settings=json.dumps(_settings(current, maps)),
        modules=modules("map.js"),
        early=_asked_first(current, maps, colourings),
    )


def _of_run(projections: list[Row], run: str) -> Row:
    for projection in projections:
        if str(projection["run_id"]) == run:
            return projection
    raise Problem(
        f"Run {run} has no map: `nearsql project FILE SPACE` lays a space out as one.", 404
    )


def _settings(current: Page, maps: list[Row]) -> Row:
    """What the scripts are told: addresses, of each map and of what they share."""
    run = maps[0]["run_id"]
    return {
        "maps": [
            {
                "run": m["run_id"],
                "space": m["space"],
                "columns": current.url("map", m["run_id"], "columns"),
                "colours": current.url("map", m["run_id"], "colours"),
                "inside": current.url("map", m["run_id"], "inside"),
                "insideSql": current.query_url(sql("selection_in_polygon"), {"run": m["run_id"]}),
            }
            for m in maps
        ],
        "within": current.url("map", run, "within"),
        "sheet": current.url("map", run, "sheet"),
        "items": current.url("items"),
        "selections": current.url("selections"),
        "tags": current.url("tags"),
        "idsSql": current.query_url(sql("map_chosen"), {}),
    }


def _asked_first(
    current: Page, maps: list[Row], colourings: list[tuple[str, list[Row]]]
) -> list[str]:
    """What the scripts will ask for, which a browser may fetch before it has them.

    An address that names other colours has those fetched besides.
    """
    first = colourings[0][1][0]["key"] if colourings else "plain"
    found = []
    for m in maps:
        found.append(current.url("map", m["run_id"], "columns"))
        found.append(f"{current.url('map', m['run_id'], 'colours')}?{urlencode({'by': first})}")
    return found


async def _colourings(current: Page, space: str | None) -> list[tuple[str, list[Row]]]:
    """What the points can be coloured by, in groups with a title, the best default first.

    Each has a title and the `key` that the address carries; of a clustering, also its levels.
    """
    rows = await current.rows("colours", space=space)
    kinds: dict[str, list[Row]] = {
        kind: list(group) for kind, group in groupby(rows, key=lambda row: str(row["kind"]))
    }
    for row in rows:
        run, levels = row["run_id"], json.loads(row["levels_json"] or "[]")
        of_run = f"of run {run}" if row["is_own_space"] else f"of run {run}: {row['space']}"
        if row["kind"] == "label":
            row["key"], row["title"] = f"label:{row['name']}", row["name"]
        elif row["kind"] in ("cluster", "outlier"):
            row["key"] = f"{row['kind']}:{run}:{levels[0]}"
            row["title"] = f"{_WORDS[row['kind']]} {of_run}"
        else:
            row["key"] = f"{row['kind']}:{run}:{row['name']}"
            name = f"{row['name']} loss" if row["kind"] == "loss" else row["name"]
            row["title"] = f"{name} of run {run}" + (f": {row['space']}" if row["space"] else "")
    return [(title, kinds[kind]) for kind, title in _GROUPS.items() if kind in kinds]


_WORDS = {"cluster": "Clusters", "outlier": "Outlier score"}
_GROUPS = {
    "cluster": "Clusters",
    "label": "Labels",
    "metric": "Metrics of detectors",
    "loss": "Losses of detectors",
    "outlier": "Outlier scores",
}
