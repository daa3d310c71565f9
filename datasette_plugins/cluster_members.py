"""One cluster, or a level's noise: what it is about, what it lies in, its contact sheet, and its name."""

import json
from asyncio import gather
from typing import Any

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.actions import Action, action
from nearsql.datasette_plugins.cluster_measures import (
    Control,
    Measure,
    chosen_measure,
    judged_here,
    one_of,
)
from nearsql.datasette_plugins.clusters import (
    Mix,
    address,
    chosen_label,
    chosen_page,
    label_mixes,
    run_and_levels,
)
from nearsql.datasette_plugins.pages import Page, Problem, Row, page, sql

MEMBERS_SHOWN = 120
CHILDREN_SHOWN = 200
LABELS_LISTED = 10
NAME_LENGTH = 200  # characters

# The argument of members.sql, and the words for it; the first is the order of a cluster's members.
SORTS = {
    "surest": "surest first",
    "least": "least sure first",
    "outlying": "most outlying first",
    "inlying": "least outlying first",
    "number": "by number",
}


@page
async def members(current: Page) -> Response:
    """What a cluster is about, the clusters around and within it, and its members; or a level's noise."""
    run_id, level_number = current.number("run"), current.number("level")
    run, levels = await run_and_levels(current, run_id)
    is_noise = current.request.url_vars["label"] == "noise"
    number = None if is_noise else current.number("label")
    level = next((row for row in levels if row["level"] == level_number), None)
    of = {"run": run_id, "level": level_number, "cluster": number}
    cluster = None if is_noise else await current.one("cluster", **of)
    if level is None or (cluster is None and not is_noise):
        raise Problem(f"Run {run_id} has no such cluster at level {level_number}.", 404)
    # Noise is sure of nothing: there the nearest misses come first.
    sorts = ["inlying", "outlying", "number"] if is_noise else list(SORTS)
    sort = one_of(current, "sort", sorts)
    label, label_names = await chosen_label(current)
    measure = await chosen_measure(current, run_id)
    ((size,), mix, judged, around) = await gather(
        current.rows("cluster_size", **of),
        _mix(current, of, cluster, label),
        judged_here(current, measure, of),
        _around(current, run_id, cluster),
    )
    page_number, pages = chosen_page(current, size["items"], MEMBERS_SHOWN)
    asked = {**of, "sort": sort}
    return await current.html(
        "nearsql_members.html",
        run=run,
        level=level,
        levels=levels,
        label_number=number,
        cluster=cluster,
        size=size,
        mix=mix,
        label=label,
        mix_url=current.sql_url("label_mix", **_mixing(of, cluster, label)),
        judged=judged,
        detector=measure and measure.detector_row,
        means_url=measure and current.sql_url("detector_means", detector=measure.detector),
        judged_url=measure and current.sql_url("cluster_judged", **of, detector=measure.detector),
        **around,
        children_shown=CHILDREN_SHOWN,
        number=page_number,
        pages=pages,
        items=await current.rows(
            "members", **asked, limit=MEMBERS_SHOWN, offset=(page_number - 1) * MEMBERS_SHOWN
        ),
        sort=sort,
        controls=_controls(sorts, sort, label, label_names, measure),
        address=lambda **changes: address(current, **changes),
        here=current.url("clusters", run_id, level_number, current.request.url_vars["label"]),
        # For a selection, and for the map's filter: with the numbers in it, to be kept as a text.
        ids_sql=_ids_sql(of),
        sql_url=current.sql_url("members", **asked, limit=1000, offset=0),
        maps=await current.rows("cluster_maps", run=run_id),
        name_length=NAME_LENGTH,
    )


@action
async def name_cluster(current: Action) -> Response:
    """Gives a cluster a name by hand: a row of cluster_labels with its author. The newest name counts."""
    of = {
        "run": current.number("run"),
        "level": current.number("level"),
        "cluster": current.number("label"),
    }
    form = await current.form()
    name = _clean_name(form.get("name"))
    actor = current.request.actor or {}
    author = str(actor["id"]) if actor.get("id") else None

    if await current.one("cluster", **of) is None:
        raise Problem(f"Run {of['run']} has no such cluster at level {of['level']}.", 404)
    await current.write(
        lambda connection: connection.execute(
            sql("cluster_name"), {**of, "name": name, "author": author}
        )
    )
    url = current.url("clusters", of["run"], of["level"], of["cluster"])
    return current.done(form, name=name, author=author, url=url)


def _clean_name(value: Any) -> str:
    """The name as it is kept: spaces once and not at the ends."""
    if not isinstance(value, str):
        raise Problem("A name must be sent as `name`, a text.")
    name = " ".join(value.split())
    if not name:
        raise Problem("A name cannot be empty.")
    if len(name) > NAME_LENGTH:
        raise Problem(f"A name has at most {NAME_LENGTH} characters; this one has {len(name):,}.")
    if not name.isprintable():
        raise Problem(
            "A name cannot have characters that are not seen, such as control characters."
        )
    return name


async def _mix(current: Page, of: Row, cluster: Row | None, label: str | None) -> Mix | None:
    mixes = await label_mixes(current, **_mixing(of, cluster, label))
    return mixes.get(cluster["cluster_id"] if cluster else None)


def _mixing(of: Row, cluster: Row | None, label: str | None) -> Row:
    """The parameters of label_mix.sql for one cluster, or for the noise."""
    return {
        "label": label,
        "run": of["run"],
        "level": of["level"],
        "clusters": json.dumps([cluster["cluster_id"]] if cluster else []),
        "with_noise": int(cluster is None),
        "most": LABELS_LISTED,
    }


async def _around(current: Page, run_id: int, cluster: Row | None) -> Row:
    """The names of a cluster, the clusters around it, and those within it."""
    if cluster is None:
        return {"names": [], "path": [], "children": []}
    within = {"run": run_id, "level": None, "parent": cluster["cluster_id"], "search": None}
    names, path, children = await gather(
        current.rows("cluster_names", cluster_id=cluster["cluster_id"]),
        current.rows("cluster_path", cluster_id=cluster["cluster_id"]),
        current.rows("clusters", **within, limit=CHILDREN_SHOWN),
    )
    children_url = current.sql_url("clusters", **within, limit=CHILDREN_SHOWN)
    return {"names": names, "path": path, "children": children, "children_url": children_url}


def _ids_sql(of: Row) -> str:
    """A SELECT of the members' ids, to be kept as a text: only numbers of the address go into it."""
    is_of = "is null" if of["cluster"] is None else f"= {of['cluster']:d}"
    return (
        "select m.item_id as id from memberships m left join clusters c on c.id = m.cluster_id"
        f" where m.run_id = {of['run']:d} and m.level = {of['level']:d} and c.label {is_of}"
    )


def _controls(
    sorts: list[str], sort: str, label: str | None, label_names: list[str], measure: Measure | None
) -> list[Control]:
    """What can be chosen here: see clusters.Control."""
    controls: list[Control] = [
        ("sort", "sorted", [(key, SORTS[key]) for key in sorts], sort),
        ("label", "labels", [(name, name) for name in label_names], label),
    ]
    if measure:
        controls.append(measure.detector_control)
    return [control for control in controls if len(control[2]) > 1]
