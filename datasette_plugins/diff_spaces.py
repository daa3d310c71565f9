"""Two spaces: how far they agree on who is near whom, and the items of which they say different things."""

import json
import shlex
from pathlib import Path
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.pages import Page, Problem, TooLong
from nearsql.datasette_plugins.runs import page_number

K = 10
ITEMS_SHOWN = 60


async def compare(current: Page, a: str, b: str) -> Response:
    """The page of two spaces: how many items have how many of their k nearest neighbours in both."""
    heads = {
        row["name"]: row for row in await current.rows("diff_space_heads", space_a=a, space_b=b)
    }
    for name in (a, b):
        if name not in heads:
            there = [row["name"] for row in await current.rows("diff_space_names")]
            raise Problem(
                f"There is no space {name!r} in this database: the spaces are {', '.join(there)}."
                if there
                else f"There is no space {name!r} in this database, nor any other.",
                404,
            )
    k = _whole(current, "k", K, 1)
    asked = {"space_a": a, "space_b": b, "k": k}
    try:
        rows = await current.rows("diff_spaces", **asked)
        sheet = None
        if current.request.args.get("shared"):
            shared = _whole(current, "shared", 0, 0)
            number = page_number(current.request.args.get("page"))
            items = await current.rows(
                "diff_spaces_items",
                **asked,
                shared=shared,
                limit=ITEMS_SHOWN + 1,
                offset=ITEMS_SHOWN * (number - 1),
            )
            sheet = {
                "items": items[:ITEMS_SHOWN],
                "has_more": len(items) > ITEMS_SHOWN,
                "number": number,
                "shared": shared,
            }
    except TooLong as problem:
        raise Problem(
            f"{problem.sentence} The command has no limit: {_command(current, a, b)}"
        ) from problem
    for row in rows:
        row["some"] = json.loads(row["some_json"])
    n = rows[0]["all_items"]
    used = min(k, n - 1)  # an item has no more neighbours than there are other items
    return await current.html(
        "nearsql_diff_spaces.html",
        a=heads[a],
        b=heads[b],
        k=used,
        rows=rows,
        largest=max(row["items"] for row in rows),
        n=n,
        overlap=rows[0]["mean_shared"] / used,
        jaccard=rows[0]["mean_jaccard"],
        chance=used / (n - 1),
        sheet=sheet,
        sql_url=current.sql_url("diff_spaces", **asked),
        items_url=current.sql_url(
            "diff_spaces_items",
            **asked,
            shared=sheet["shared"] if sheet else 0,
            limit=1000,
            offset=0,
        ),
        address=lambda **changed: (
            "?" + urlencode({"kind": "spaces", "a": a, "b": b, "k": k} | changed)
        ),
    )


def _whole(current: Page, name: str, default: int, least: int) -> int:
    text = current.request.args.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise Problem(f"{name} must be a whole number from {least}, not {text!r}.")
    return int(text)


def _command(current: Page, a: str, b: str) -> str:
    name = Path(current.db.path).name if current.db.path else "FILE"
    return f"`{shlex.join(['nearsql', 'diff', name, a, b])}`"
