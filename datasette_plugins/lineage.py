"""The picture of where a run stands: what it was made from to the left, what came of it to the right."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nearsql.datasette_plugins.pages import Row

# In the units of the SVG, which are CSS pixels until it has to shrink.
WIDTH, HEIGHT = 150, 42
ACROSS, DOWN = 44, 12  # between two columns, and two nodes of one
MARGIN = 6
TITLE_LENGTH, DETAIL_LENGTH = 19, 23  # in letters; the whole text is the node's tooltip

# Of a column with more nodes than this, the newest are drawn and the others counted.
SHOWN = 8
SHOWN_AT_MOST = 60


@dataclass(frozen=True, slots=True)
class Node:
    """A run, space or collection where it is drawn: x and y are its left and upper edges.

    kind: also 'more', for nodes that are only counted; its key is their number.
    """

    kind: str
    key: int | str
    title: str
    detail: str
    tooltip: str
    status: str | None
    is_chosen: bool
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Nodes and the lines between them, as SVG paths; hidden counts the nodes that are not drawn."""

    nodes: Sequence[Node]
    lines: Sequence[str]
    width: float
    height: float
    hidden: int
    node_width: int = WIDTH
    node_height: int = HEIGHT


def picture(rows: Sequence[Row], shown: int = SHOWN) -> Picture:
    """Lays out the rows of `run_graph.sql`; of each column at most `shown` nodes, the newest.

    A column holds what is as many steps away from the chosen run, by the longest way, so that all lines
    lead to the right; except where a run reads what it writes.
    """
    by_name = {row["node"]: row for row in rows}
    edges = [
        (source, row["node"])
        for row in rows
        for source in json.loads(row["sources_json"])
        if source != row["node"]
    ]
    places = _columns(by_name, edges)
    columns, hidden = _chosen_nodes(by_name, places, edges, shown)
    return _drawn(by_name, columns, edges, hidden)


def _columns(rows: Mapping[str, Row], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """The column of each node: 0 is the chosen run's, what it stands on is negative."""
    steps = {name: abs(row["steps"]) for name, row in rows.items()}
    after: dict[str, list[str]] = {name: [] for name, row in rows.items() if row["steps"] >= 0}
    before: dict[str, list[str]] = {name: [] for name, row in rows.items() if row["steps"] <= 0}
    for source, target in edges:
        if source in after and target in after and steps[target]:
            after[target].append(source)
        if source in before and target in before and steps[source]:
            before[source].append(target)
    places = _longest(after, steps)
    return places | {name: -place for name, place in _longest(before, steps).items()}


def _longest(nearer: dict[str, list[str]], steps: Mapping[str, int]) -> dict[str, int]:
    """By how many steps at most each leads to the one that has nothing nearer.

    nearer: the next ones on the way there; steps: how many the shortest way has. Ways that come back to
    themselves are left out: a file from elsewhere may say that two runs read each other.
    """
    found: dict[str, int] = {}
    while len(found) < len(nearer):
        ready = {
            name: 1 + max((found[n] for n in others), default=-1)
            for name, others in nearer.items()
            if name not in found and all(n in found for n in others)
        }
        if not ready:
            nearer = {
                name: [n for n in others if n in found or steps[n] < steps[name]]
                for name, others in nearer.items()
            }
        found |= ready
    return found


def _chosen_nodes(
    rows: Mapping[str, Row],
    places: Mapping[str, int],
    edges: Sequence[tuple[str, str]],
    shown: int,
) -> tuple[dict[int, list[str]], dict[int, int]]:
    """By column: the names of the nodes that are drawn, from top to bottom, and how many are not.

    From the middle outwards, so that nothing is drawn whose way to the chosen run is not. A column's
    nodes stand near those that they hang on.
    """
    near: dict[str, list[str]] = {}
    for source, target in edges:
        near.setdefault(source, []).append(target)
        near.setdefault(target, []).append(source)
    at: dict[str, float] = {}
    columns: dict[int, list[str]] = {}
    hidden: dict[int, int] = {}
    for column in sorted(set(places.values()), key=lambda place: (abs(place), place)):
        everyone = [name for name in rows if places[name] == column]
        reached = [
            name
            for name in everyone
            if column == 0 or any(other in at for other in near.get(name, ()))
        ]
        # Spaces before runs, for these hang on them; otherwise as the rows come, the newest first.
        drawn = sorted(reached, key=lambda name: rows[name]["kind"] == "run")[:shown]
        order = {name: _middle(at, near.get(name, ())) for name in drawn}
        drawn.sort(key=lambda name: order[name])
        for place, name in enumerate(drawn):
            at[name] = place - (len(drawn) - 1) / 2
        if drawn:
            columns[column] = drawn
        if len(everyone) > len(drawn):
            hidden[column] = len(everyone) - len(drawn)
    return columns, hidden


def _middle(at: Mapping[str, float], names: Iterable[str]) -> float:
    places = [at[name] for name in names if name in at]
    return sum(places) / len(places) if places else 0.0


def _drawn(
    rows: Mapping[str, Row],
    columns: Mapping[int, Sequence[str]],
    edges: Iterable[tuple[str, str]],
    hidden: Mapping[int, int],
) -> Picture:
    first, last = min(columns), max(columns)
    tallest = max(len(names) + (column in hidden) for column, names in columns.items())
    height = tallest * (HEIGHT + DOWN) - DOWN + 2 * MARGIN
    nodes: dict[str, Node] = {}
    counted = []
    for column in range(first, last + 1):
        names = columns.get(column, ())
        n = len(names) + (column in hidden)
        x = MARGIN + (column - first) * (WIDTH + ACROSS)
        top = (height - n * (HEIGHT + DOWN) + DOWN) / 2
        for place, name in enumerate(names):
            nodes[name] = _node(rows[name], x, top + place * (HEIGHT + DOWN), column == 0)
        if column in hidden:
            y = top + len(names) * (HEIGHT + DOWN)
            number = hidden[column]
            title = f"and {number:,} more"
            counted.append(Node("more", number, title, "", title, None, False, x, y))
    lines = [_line(nodes[a], nodes[b]) for a, b in edges if a in nodes and b in nodes]
    width = 2 * MARGIN + (last - first + 1) * (WIDTH + ACROSS) - ACROSS
    everyone = [*nodes.values(), *counted]
    return Picture(everyone, lines, width, height, sum(hidden.values()))


def _node(row: Row, x: float, y: float, is_chosen: bool) -> Node:
    title, detail = str(row["title"]), str(row["detail"] or "")
    return Node(
        row["kind"],
        row["key"],
        _cut(title, TITLE_LENGTH),
        _cut(detail, DETAIL_LENGTH),
        "".join(_words(row["kind"], title, detail, row["status"])),
        row["status"],
        is_chosen,
        x,
        y,
    )


def _words(kind: str, title: str, detail: str, status: str | None) -> Iterator[str]:
    yield title if kind == "run" else f"{kind} {title}"
    if detail and detail != kind:
        yield f", {detail}"
    if status and status != "finished":
        yield f", {status}"


def _line(a: Node, b: Node) -> str:
    """A curve from the right edge of one to the left edge of the other."""
    x, y, to_x, to_y = a.x + WIDTH, a.y + HEIGHT / 2, b.x, b.y + HEIGHT / 2
    bend = max(ACROSS / 2, abs(to_x - x) / 2)
    return f"M{x:g} {y:g}C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}"


def _cut(text: str, length: int) -> str:
    """The text, or its beginning and its end: what tells names apart is often at the end."""
    if len(text) <= length:
        return text
    end = length // 2
    return text[: length - end - 1] + "…" + text[-end:]
