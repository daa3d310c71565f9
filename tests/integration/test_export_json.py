"""`nearsql export` as JSON: every file read back and compared with what SQL says."""

import json
from pathlib import Path

import numpy as np
import pytest
from exported import json_items, memberships, nearsql_export, points
from gallery import IMAGES, SCRIPT, TEXTS, Gallery

from nearsql.pipeline.export import export
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("several_batches")


@pytest.mark.parametrize("page_size", [10_000, 96, 95, 10, 1])
def test_json_holds_what_sql_says(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path, page_size: int
) -> None:
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--page-size", page_size)
    assert done.exit_code == 0, done.output
    found = json_items(tmp_path / "out")
    expected = opened.execute(
        "select id, kind, collection, sequence_number, uri, content as text, width, height, created_at"
        " from items order by id"
    )
    names = [column[0] for column in expected.description]
    assert [[item[name] for name in names] for item in found] == [list(row) for row in expected]
    of_run, on_map = memberships(opened, painted.clusters), points(opened, painted.projection)
    for item in found:
        labels = opened.execute(
            "select name, value from item_labels where item_id = ?", (item["id"],)
        )
        assert item["labels"] == dict(labels.fetchall())
        (metadata,) = opened.execute(
            "select metadata_json from items where id = ?", (item["id"],)
        ).fetchone()
        assert item["metadata"] == json.loads(metadata)
        assert [(m["run"], m["x"], m["y"], m["is_placed"]) for m in item["maps"]] == (
            [(painted.projection, *on_map[item["id"]], item["id"] == 4)]
            if item["id"] in on_map
            else []
        )
        assert {c["run"] for c in item["clusters"]} <= {painted.clusters}
        assert {
            c["level"]: (c["cluster"], c["probability"], c["outlier_score"], int(c["is_assigned"]))
            for c in item["clusters"]
        } == {level: (place[0], *place[2:]) for level, place in of_run.get(item["id"], {}).items()}
    noise = [item for item in found for c in item["clusters"] if c["cluster"] is None]
    assert len(noise) >= IMAGES // 10
    pages = -(-(IMAGES + TEXTS) // page_size)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    if pages == 1:
        assert files == ["clusters.json", "index.json", "items.json"]
    else:
        assert files == [
            *("clusters.json", "index.json"),
            *(f"items-{page:04}.json" for page in range(1, pages + 1)),
        ]


def test_the_index_says_what_is_where(painted: Gallery, tmp_path: Path) -> None:
    nearsql_export(painted.path, "--to", tmp_path / "out", "--page-size", 50)
    index = json.loads((tmp_path / "out" / "index.json").read_text("utf-8"))
    assert index["items"] == IMAGES + TEXTS
    for file in index["files"]:
        path = tmp_path / "out" / file["name"]
        held = json.loads(path.read_text("utf-8"))
        assert file["rows"] == len(held)
        assert file["bytes"] == path.stat().st_size
        if file["name"].startswith("items"):
            assert (file["first_id"], file["last_id"]) == (held[0]["id"], held[-1]["id"])
    (drawn,), (clustering,) = index["maps"], index["clusterings"]
    assert drawn["run"] == painted.projection
    assert (drawn["space"], drawn["method"], drawn["points"], drawn["placed"]) == (
        *("paint/space", "pca", IMAGES, 1),
    )
    assert (clustering["run"], clustering["seed"]) == (painted.clusters, 7)
    assert clustering["parameters"] == {"min_cluster_size": 5, "min_samples": 3}
    assert clustering["levels"] == [
        {"level": 1, "clusters": 3, "items": IMAGES, "noise": IMAGES // 10, "assigned": 0},
        {"level": 2, "clusters": 2, "items": 20, "noise": 0, "assigned": 2},
    ]


def test_clusters_have_names_parents_and_places(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    opened.execute(
        "insert into cluster_labels (cluster_id, name, description, category, strength, method)"
        " select id, 'newest', 'why', 'what', 7.5, 'tests' from clusters where level = 1 and label = 1"
    )
    opened.commit()
    export(opened, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "clusters.json").read_text("utf-8"))
    assert [(c["run"], c["level"], c["cluster"], c["parent"], c["name"]) for c in found] == [
        (painted.clusters, 1, 0, None, None),
        (painted.clusters, 1, 1, None, "newest"),
        (painted.clusters, 1, 2, None, f"blue {SCRIPT}"),
        (painted.clusters, 2, 0, 0, None),
        (painted.clusters, 2, 1, 0, None),
    ]
    assert (found[1]["description"], found[1]["category"], found[1]["strength"]) == (
        *("why", "what", 7.5),
    )
    assert [c["exemplar_item_id"] for c in found] == [1, 31, 61, None, None]
    on_map, of_run = points(opened, painted.projection), memberships(opened, painted.clusters)
    for cluster in found:
        places = [
            on_map[item]
            for item, levels in of_run.items()
            if levels.get(cluster["level"], (None,))[0] == cluster["cluster"]
        ]
        (centre,) = cluster["centres"]
        assert centre["run"] == painted.projection
        assert (centre["x"], centre["y"]) == pytest.approx(tuple(np.mean(places, axis=0)))
