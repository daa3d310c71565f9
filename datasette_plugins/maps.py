"""The map of a projection run: a page, and the columns that its script draws.

The columns travel as one binary answer, because JSON would be ten times as long and slow to read:
4 bytes with the length of a JSON header, the header (padded to 4 bytes), then four columns of
`points` little-endian numbers each: float32 x, float32 y, int32 item id, and a colour. The colour is
an int32 code of the header's legend, or a float32 where the header says that it is a number.
"""

import json
from typing import Any

import numpy as np
from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql
from nearsql.udfs import dbapi

# Above this many points the map draws an even sample, and says so.
POINTS_SHOWN = 500_000

# Codes of points that are in no group.
NOISE, WITHOUT = -1, -2


@page
async def newest_map(current: Page) -> Response:
    """The newest projection, or how to make the first one."""
    projections = await current.rows("projections")
    if not projections:
        return await current.html("nearsql_no_map.html")
    return Response.redirect(current.url("map", projections[0]["run_id"]))


@page
async def map_page(current: Page) -> Response:
    """The page around the map: its colourings, and where its script finds the rest."""
    run_id = current.number("run")
    projections = await current.rows("projections")
    shown = [p for p in projections if p["run_id"] == run_id]
    if not shown:
        raise Problem(
            f"Run {run_id} has no map: `nearsql project FILE SPACE` lays a space out as one.", 404
        )
    colourings = await _colourings(current, shown[0]["space"])
    return await current.html(
        "nearsql_map.html",
        run=await current.one("run", run=run_id),
        projection=shown[0],
        projections=projections,
        colourings=colourings,
        settings=json.dumps(
            {
                "columns": current.url("map", run_id, "columns"),
                "items": current.url("items"),
                "space": shown[0]["space"],
            }
        ),
    )


async def _colourings(current: Page, space: str | None) -> list[Row]:
    """What the points can be coloured by, the best default first; `key` is what the address carries."""
    rows = await current.rows("colours", space=space)
    order = {"cluster": 0, "label": 1, "outlier": 2}
    rows.sort(key=lambda row: (not row["is_own_space"], order[row["kind"]]))
    levels = {(row["run_id"], row["level"]) for row in rows if row["kind"] == "cluster"}
    for row in rows:
        run_id, level = row["run_id"], row["level"]
        of_run = f"run {run_id}" + (f", level {level}" if (run_id, 2) in levels else "")
        if row["space"] is not None and not row["is_own_space"]:
            of_run += f", {row['space']}"
        if row["kind"] == "label":
            row["key"], row["title"] = f"label:{row['name']}", f"Label: {row['name']}"
        elif row["kind"] == "cluster":
            row["key"], row["title"] = f"cluster:{run_id}:{level}", f"Cluster ({of_run})"
        else:
            row["key"], row["title"] = f"outlier:{run_id}:{level}", f"Outlier score ({of_run})"
    return [*rows, {"kind": "plain", "key": "plain", "title": "One colour"}]


@page
async def columns(current: Page) -> Response:
    """The binary columns of a map, coloured as `?colour=` says."""
    run_id = current.number("run")
    colour = current.request.args.get("colour") or "plain"
    kind, _, rest = colour.partition(":")
    parameters: Row = {"run": run_id}
    if kind == "label":
        parameters["name"] = rest
    elif kind in ("cluster", "outlier"):
        run, _, level = rest.partition(":")
        if not run.isdecimal() or not level.isdecimal():
            raise Problem(f"colour must be {kind}:RUN:LEVEL, not {colour!r}.")
        parameters |= {"by_run": int(run), "level": int(level)}
    elif colour != "plain":
        raise Problem(
            f"colour must be plain, cluster:RUN:LEVEL, label:NAME or outlier:RUN:LEVEL, not {colour!r}."
        )
    body = await current.read(lambda connection: _columns(connection, kind, parameters))
    return Response(
        body,
        headers={"cache-control": "no-cache", "x-content-type-options": "nosniff"},
        content_type="application/octet-stream",
    )


def _columns(connection: dbapi.Connection, kind: str, parameters: Row) -> bytes:
    """The answer of the columns route. One read transaction, so that points and legend fit together."""
    raw = connection.apsw
    with raw:
        total = raw.execute(
            "select count(*) from projection_points where run_id = ?", (parameters["run"],)
        ).get
        keep_below = 2**32 if total <= POINTS_SHOWN else 2**32 * POINTS_SHOWN // total
        bound = {**parameters, "keep_below": keep_below}
        rows = np.array(list(raw.execute(sql(f"map_{_BY[kind]}"), bound)), dtype=np.float64)
        rows = rows.reshape(-1, 4)
        legend = (
            [
                {"code": code, "name": name, "items": items}
                for code, name, items in raw.execute(sql(_LEGEND[kind]), parameters)
            ]
            if kind in _LEGEND
            else []
        )
    x, y, ids, colours = rows.T
    if len(ids) and ids.max() >= 2**31:
        raise Problem(
            f"The item id {int(ids.max())} is too large for the map, which ends at 2^31 - 1."
        )
    header: dict[str, Any] = {
        "points": len(rows),
        "total": total,
        "is_number": kind == "outlier",
        "legend": legend,
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        (
            len(text).to_bytes(4, "little"),
            text,
            x.astype("<f4").tobytes(),
            y.astype("<f4").tobytes(),
            ids.astype("<i4").tobytes(),
            colours.astype("<f4" if kind == "outlier" else "<i4").tobytes(),
        )
    )


_BY = {"cluster": "by_cluster", "label": "by_label", "outlier": "by_outlier", "plain": "plain"}
_LEGEND = {"cluster": "legend_clusters", "label": "legend_labels"}
