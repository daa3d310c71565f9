"""What is around an item: its clusters from the coarsest down, its neighbours by distance and by loss."""

import asyncio
from collections import Counter
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from nearsql.datasette_plugins.pages import Page, Problem, Row, TooLong
from nearsql.udfs import dbapi

NEIGHBOURS_SHOWN = 12

# More spaces are shown when asked for: each is searched.
SPACES_SHOWN = 8

# Of a detector's losses, the one whose distances say most: box and dfl are not monotone.
_COMPONENT = "cls"

# What `knn_loss` ranks, and how that reads.
DIRECTIONS = {
    "image": "Images that fit what was found here",
    "target": "Items whose detections this image fits",
}


def paths(rows: list[Row]) -> list[Row]:
    """The rows of item_clusters.sql by run, each with its `steps` from level 1 on."""
    found = []
    for (run, space), group in groupby(rows, key=lambda row: (row["run_id"], row["space"])):
        steps = list(group)
        # Further down than the noise there is nothing.
        end = next((i for i, row in enumerate(steps, 1) if row["cluster"] is None), len(steps))
        found.append({"run_id": run, "space": space, "steps": steps[:end], "last": steps[end - 1]})
    return found


async def neighbours_in_spaces(current: Page, item: int) -> tuple[list[Row], int]:
    """The spaces that hold the item, each with its neighbours there; and how many more there are.

    A neighbour that occurs in several of them says so in `shared`.
    """
    spaces = await current.rows("item_spaces", item=item)
    shown = spaces if current.request.args.get("spaces") == "all" else spaces[:SPACES_SHOWN]
    found = await asyncio.gather(*(neighbours(current, item, row["space"]) for row in shown))
    times = Counter(n["id"] for each in found for n in each["neighbours"])
    for space, near in zip(shown, found, strict=True):
        for each in near["neighbours"]:
            each["shared"] = times[each["id"]]
        space.update(near)
    return shown, len(spaces) - len(shown)


async def neighbours(current: Page, item: int, space: str) -> Row:
    """The nearest items in a space, or the sentence that says why there are none."""
    parameters = {"space": space, "item": item, "k": NEIGHBOURS_SHOWN}
    return await _found(current, "neighbours", parameters)


async def neighbours_by_loss(current: Page, item: int) -> Row | None:
    """The item's neighbours by a detector's loss, both ways; None where no run has its distances.

    By the newest run and its classification loss, or by that of the address: `?by=RUN:COMPONENT`.
    """
    choices = await current.rows("item_loss_runs", item=item)
    if not choices:
        return None
    for each in choices:
        each["by"] = f"{each['run_id']}:{each['component']}"
    chosen = _chosen(current, choices, item)
    names = {
        "run": chosen["run_id"],
        "component": chosen["component"],
        "item": item,
        "k": NEIGHBOURS_SHOWN,
    }
    ways = []
    for direction, title in DIRECTIONS.items():
        found = await _found(current, "item_loss_neighbours", {**names, "direction": direction})
        ways.append({"direction": direction, "title": title, **found})
    return {"choices": choices, "chosen": chosen, "ways": ways}


def _chosen(current: Page, choices: list[Row], item: int) -> Row:
    wanted = current.request.args.get("by")
    if not wanted:
        newest = [each for each in choices if each["run_id"] == choices[0]["run_id"]]
        return next((each for each in newest if each["component"] == _COMPONENT), newest[0])
    for each in choices:
        if each["by"] == wanted:
            return each
    there = ", ".join(each["by"] for each in choices)
    raise Problem(f"Item {item} has no loss distances {wanted!r}: there are {there}.", 404)


async def _found(current: Page, name: str, parameters: Row) -> Row:
    """`neighbours`, the rows of a question; `problem`, why there are none; `sql_url`."""
    found: Row = {"neighbours": [], "problem": None}
    try:
        found["neighbours"] = await current.rows(name, **parameters)
    except TooLong as problem:
        found["problem"] = problem.sentence
    except dbapi.OperationalError as error:
        found["problem"] = str(error)
    found["sql_url"] = current.sql_url(name, **parameters)
    return found


def same_page(current: Page, **changed: Any) -> str:
    """The query string of this page with other arguments; None takes one away."""
    args = {name: current.request.args.get(name) for name in current.request.args}
    args.update(changed)
    return "?" + urlencode({name: value for name, value in args.items() if value is not None})
