"""Two clusterings: what became of the clusters of one in the other, and which items went elsewhere."""

from collections import Counter
from typing import Any
from urllib.parse import urlencode

from datasette.utils.asgi import Response

from nearsql.datasette_plugins.flows import NOISE, flows
from nearsql.datasette_plugins.pages import Page, Problem, Row, TooLong
from nearsql.datasette_plugins.runs import page_number

ITEMS_SHOWN = 60
CHANGES_SHOWN = 500
MOVES = ("moved", "to noise", "from noise")

# A word for each change, and its place in the summary.
CHANGES = {
    "same": "the same",
    "split": "split",
    "merged": "merged",
    "mixed": "mixed",
    "gone": "gone",
    "new": "new",
    None: "not compared",
}


async def compare(current: Page, one: Row, other: Row) -> Response:
    """The page of two clustering runs, at one level of each."""
    levels = await _levels(current, one["run_id"], other["run_id"])
    level_a = _number(current, "level", levels[one["run_id"]][0])
    level_b = _number(current, "level_b", level_a)
    runs = {"run_a": one["run_id"], "run_b": other["run_id"]}
    asked = {**runs, "level_a": level_a, "level_b": level_b}
    if any(name in current.request.args for name in ("from", "to", "move", "page")):
        return await _items(current, one, other, asked)
    changes = await current.rows("diff_clusters", **asked)
    names_a = {c["cluster_a"]: c["name_a"] for c in changes if c["name_a"]}
    names_b = {c["cluster_b"]: c["name_b"] for c in changes if c["name_b"]}
    found = await current.rows("diff_clusters_flows", **asked)
    kept = {(c["cluster_a"], c["cluster_b"]) for c in changes}
    moves = _moves(found, kept)
    try:
        agreement = await current.one("diff_clusters_agreement", **asked)
    except TooLong as problem:
        agreement = {"problem": problem.sentence}
    maps = await current.rows("overview_maps", limit=1)
    return await current.html(
        "nearsql_diff_clusterings.html",
        a=one,
        b=other,
        asked=asked,
        levels=levels,
        has_levels=any(len(found) > 1 for found in levels.values()),
        parameters=await current.rows("diff_parameters", **runs),
        vectors=await current.rows("diff_vectors", **runs),
        agreement=agreement,
        changes=changes[:CHANGES_SHOWN],
        n_changes=len(changes),
        counted=_counted(changes),
        picture=flows(found, names_a, names_b),
        names=(names_a, names_b),
        moves=moves,
        moved={move: sum(m["items"] for m in moves if m["move"] == move) for move in MOVES},
        sheet=await _sheet(current, asked),
        map=maps[0]["run_id"] if maps else None,
        map_filter=_map_address(asked),
        noise=NOISE,
        address=lambda **changed: _address(asked, changed),
    )


async def _items(current: Page, one: Row, other: Row, asked: Row) -> Response:
    """Only the items: those of one pair of clusters, or those that moved. Not the whole comparison anew."""
    rows = await current.rows("diff_cluster_names", **asked)
    places = ((one["run_id"], asked["level_a"]), (other["run_id"], asked["level_b"]))
    names = tuple(
        {
            row["label"]: row["name"]
            for row in rows
            if row["name"] and (row["run_id"], row["level"]) == place
        }
        for place in places
    )
    maps = await current.rows("overview_maps", limit=1)
    sheet = await _sheet(current, asked)
    move = sheet["move"] or ""
    return await current.html(
        "nearsql_diff_items.html",
        a=one,
        b=other,
        asked=asked,
        names=names,
        sheet=sheet,
        moves=MOVES,
        moved_sql=_moved_sql(asked, move),
        map=maps[0]["run_id"] if maps else None,
        map_filter=_map_address(asked, move),
        address=lambda **changed: _address(asked, changed),
    )


async def _levels(current: Page, run_a: int, run_b: int) -> dict[int, list[int]]:
    """The levels of both; of a run that found only noise, 1."""
    levels: dict[int, list[int]] = {run_a: [], run_b: []}
    for row in await current.rows("diff_levels", run_a=run_a, run_b=run_b):
        levels[row["run_id"]].append(row["level"])
    return {run: found or [1] for run, found in levels.items()}


def _number(current: Page, name: str, default: int) -> int:
    text = current.request.args.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(f"{name} must be a whole number, not {text!r}.")
    return int(text)


def _moves(found: list[Row], kept: set[tuple[Any, Any]]) -> list[Row]:
    """From which cluster to which the items went that did not go where their cluster went.

    kept: the pairs of clusters that are counterparts. The same items that SQL's cluster_moves gives.
    """
    moves = []
    for row in found:
        a, b = row["cluster_a"], row["cluster_b"]
        if a == b is None or (a is not None and b is not None and (a, b) in kept):
            continue
        move = "to noise" if b is None else "from noise" if a is None else "moved"
        moves.append({**row, "move": move})
    return moves


def _counted(changes: list[Row]) -> list[tuple[str, str]]:
    """Of each change how many clusters: of those that several share, how many became how many."""
    of_a: Counter[str | None] = Counter()
    of_b: Counter[str | None] = Counter()
    for change in CHANGES:
        rows = [c for c in changes if c["change"] == change]
        of_a[change] = len({c["cluster_a"] for c in rows} - {None})
        of_b[change] = len({c["cluster_b"] for c in rows} - {None})
    counted = []
    for change, word in CHANGES.items():
        n_a, n_b = of_a[change], of_b[change]
        if n_a or n_b:
            into = change in ("split", "merged", "mixed")
            number = f"{n_a:,} → {n_b:,}" if into else f"{max(n_a, n_b):,}"
            counted.append((word, number))
    return counted


async def _sheet(current: Page, asked: Row) -> Row:
    """The contact sheet: the items of one pair of clusters, or those that moved."""
    arguments = current.request.args
    number = page_number(arguments.get("page"))
    shown = {"limit": ITEMS_SHOWN + 1, "offset": ITEMS_SHOWN * (number - 1)}
    everything = {"limit": 1000, "offset": 0}
    if "from" in arguments or "to" in arguments:
        pair = {
            f"cluster_{side}": _label(arguments.get(name))
            for side, name in (("a", "from"), ("b", "to"))
        }
        items = await current.rows("diff_clusters_pair", **asked, **pair, **shown)
        url = current.sql_url("diff_clusters_pair", **asked, **pair, **everything)
        where = {"from": arguments.get("from") or "noise", "to": arguments.get("to") or "noise"}
        title = None
    else:
        move = arguments.get("move") or ""
        if move and move not in MOVES:
            raise Problem(f"move must be one of {', '.join(MOVES)}, not {move!r}.")
        items = await current.rows("diff_clusters_moved", **asked, move=move, **shown)
        url = current.sql_url("diff_clusters_moved", **asked, move=move, **everything)
        pair, where, title = None, {"move": move} if move else {}, move
    return {
        "items": items[:ITEMS_SHOWN],
        "has_more": len(items) > ITEMS_SHOWN,
        "number": number,
        "sql_url": url,
        "pair": pair,
        "move": title,
        "where": where,
    }


def _label(text: str | None) -> int | None:
    """A cluster's label in the address; noise is None."""
    if text is None or text in ("", "noise"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Problem(f"A cluster is a whole number or 'noise', not {text!r}.")
    return int(text)


def _address(asked: Row, changed: Row) -> str:
    """The same comparison with something else chosen; what is None is left out."""
    parts = {"a": asked["run_a"], "b": asked["run_b"], "level": asked["level_a"]}
    parts["level_b"] = asked["level_b"]
    return "?" + urlencode({k: v for k, v in (parts | changed).items() if v is not None})


def _moved_sql(asked: Row, move: str = "") -> str:
    """The SQL of the items that moved, with its values in it: for a map's filter, or a selection."""
    runs = ", ".join(str(asked[name]) for name in ("run_a", "run_b", "level_a", "level_b"))
    return f"select id from cluster_moves({runs})" + (f" where move = '{move}'" if move else "")


def _map_address(asked: Row, move: str = "") -> str:
    """The part of a map's address after #: only what moved is bright, in the colours of the second run."""
    colour = f"cluster:{asked['run_b']}:{asked['level_b']}"
    return urlencode({"colour": colour, "filter": _moved_sql(asked, move)})
