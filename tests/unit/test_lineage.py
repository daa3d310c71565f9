"""The drawings about runs: where the boxes of a lineage stand, and the ribbons of two clusterings."""

import json
import random
from itertools import pairwise
from typing import Any

import pytest

from nearsql.datasette_plugins.flows import NOISE, OTHERS, RIBBONS, SHOWN, flows
from nearsql.datasette_plugins.lineage import WIDTH, picture


def row(node: str, steps: int, *sources: str) -> dict[str, Any]:
    kind, _, key = node.partition(" ")
    return {
        "node": node,
        "steps": steps,
        "kind": kind,
        "key": key,
        "title": node,
        "detail": "",
        "status": None,
        "sources_json": json.dumps(sources),
    }


def test_a_column_is_the_longest_way() -> None:
    """Run 4 reads the space and a run made from it: it stands behind both."""
    rows = [
        row("run 1", -1),
        row("run 2", 0, "run 1"),
        row("space 1", 1, "run 2"),
        row("run 3", 2, "space 1"),
        row("run 4", 2, "space 1", "run 3"),
    ]
    found = picture(rows)
    x = {node.title: node.x for node in found.nodes}
    assert sorted(x, key=x.__getitem__) == ["run 1", "run 2", "space 1", "run 3", "run 4"]
    assert len(set(x.values())) == 5
    assert [node.title for node in found.nodes if node.is_chosen] == ["run 2"]
    assert len(found.lines) == 5
    assert found.width > max(x.values()) + WIDTH


def test_boxes_never_overlap() -> None:
    draw = random.Random(4)
    rows = [row("run 0", 0)]
    for number in range(1, 40):
        sources = draw.sample(rows, k=min(len(rows), 2))
        steps = 1 + min(source["steps"] for source in sources)
        rows.append(row(f"run {number}", steps, *(source["node"] for source in sources)))
    found = picture(rows, shown=6)
    places = sorted((node.x, node.y) for node in found.nodes)
    for (x, y), (other_x, other_y) in pairwise(places):
        assert other_x - x >= WIDTH or other_y - y >= found.node_height
    drawn = [node for node in found.nodes if node.kind != "more"]
    assert len(drawn) + found.hidden == len(rows)
    assert sum(int(node.key) for node in found.nodes if node.kind == "more") == found.hidden


def test_a_way_that_comes_back_ends() -> None:
    """Of what a file from elsewhere says: runs that read each other, themselves, or what they led to."""
    rows = [
        row("run 1", 0, "run 3", "run 1"),
        row("run 2", -2, "run 3", "run 6"),
        row("run 3", -1, "run 2", "run 1"),
        row("run 6", -3, "run 2"),
        row("run 4", 1, "run 1", "run 5"),
        row("run 5", 2, "run 4"),
    ]
    found = picture(rows)
    assert len(found.nodes) == 6
    x = {node.title: node.x for node in found.nodes}
    assert max(x["run 2"], x["run 3"]) < x["run 1"] < min(x["run 4"], x["run 5"])


def flow(a: int | None, b: int | None, n: int) -> dict[str, Any]:
    return {"cluster_a": a, "cluster_b": b, "items": n}


def test_ribbons_fill_their_bars() -> None:
    rows = [
        flow(0, 1, 60),
        flow(0, 2, 40),
        flow(1, None, 10),
        flow(None, 3, 5),
        flow(None, None, 85),
    ]
    found = flows(rows, {0: "cats"}, {})
    assert found is not None
    assert [(bar.name, bar.n) for bar in found.left] == [
        ("cats", 100),
        ("cluster 1", 10),
        ("noise", 90),
    ]
    assert [bar.label for bar in found.right] == [1, 2, 3, NOISE]
    for bars, side in ((found.left, "from_label"), (found.right, "to_label")):
        for bar in bars:
            assert sum(r.n for r in found.ribbons if getattr(r, side) == bar.label) == bar.n
    colours = {bar.label: bar.colour for bar in found.right}
    assert colours == {1: 0, 2: 0, 3: None, NOISE: None}
    assert found.ribbons[0].words == "cats → cluster 1: 60 items"
    assert all(ribbon.is_pair for ribbon in found.ribbons)


def test_many_clusters_become_others() -> None:
    rows = [flow(a, b, 1 + a + b) for a in range(60) for b in range(60)]
    found = flows(rows, {}, {})
    assert found is not None
    assert len(found.left) == len(found.right) == SHOWN
    assert found.left[-1].label == found.right[-1].label == OTHERS
    assert sum(bar.n for bar in found.left) == sum(entry["items"] for entry in rows)
    assert len(found.ribbons) == RIBBONS
    assert min(r.n for r in found.ribbons) > 0
    assert not all(ribbon.is_pair for ribbon in found.ribbons)


@pytest.mark.parametrize("rows", [[], [flow(0, 0, 0)]])
def test_nothing_is_not_drawn(rows: list[dict[str, Any]]) -> None:
    assert flows(rows, {}, {}) is None
