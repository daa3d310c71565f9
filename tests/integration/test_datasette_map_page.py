"""The page of a map, and which items somebody means on it: by SQL, by a name, by a line around them."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from gallery import IMAGES, PER_COLOUR, TEXTS, Gallery, build
from served import Site, site

from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection

ROOT = "/-/nearsql/gallery"
RED = list(range(1, PER_COLOUR + 1))


def options(page: str) -> list[str]:
    """What the points can be coloured by."""
    select = page[page.index('<select id="colour">') : page.index('class="level"')]
    return re.findall(r'<option value="([^"]+)"', unescape(select))


def settings_of(page: str) -> dict:
    found = re.search(r'data-settings="([^"]+)"', page)
    assert found
    return json.loads(unescape(found[1]))


def ids(site: Site, path: str, **asked: str) -> list[int]:
    """The ids that a route answers, read as its format says."""
    response = site.get(f"{ROOT}/map/{path}?{urlencode(asked)}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    return np.frombuffer(response.content, "<f8").astype(int).tolist()


def problem(site: Site, path: str, status: int = 400, **asked: str) -> str:
    response = site.get(f"{ROOT}/map/{path}?{urlencode(asked)}")
    assert response.status_code == status
    return unescape(re.search(r'class="problem"[^>]*>([^<]+)', response.text)[1])


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery with a second map (run 4), clusters at two levels (run 5), and a selection, reds."""
    built = build(tmp_path_factory.mktemp("maps") / "gallery.db")
    db = connection.connect(built.path)
    inputs = [space_input(db, "words/space")]
    with run(db, "project", parameters={"method": "pca"}, inputs=inputs) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, 1)",
            [(current.id, IMAGES + 1 + i, i) for i in range(TEXTS)],
        )
    with run(db, "cluster", parameters={}, inputs=inputs) as current, immediate(db):
        for level in (1, 2):
            db.execute(
                "insert into clusters (run_id, level, label, size) values (?, ?, 0, 6)",
                (current.id, level),
            )
            db.executemany(
                "insert into memberships (run_id, level, item_id) values (?, ?, ?)",
                [(current.id, level, IMAGES + 1 + i) for i in range(TEXTS)],
            )
    with immediate(db):
        db.execute("insert into selections (id, name, how) values (1, 'reds', 'ids')")
        db.executemany("insert into selection_items values (1, ?)", [(item,) for item in RED])
    db.close()
    return built.path


def test_the_page_offers_its_own_clustering_first(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/map/{gallery.projection}").text
    clusters = gallery.clusters
    assert options(page) == [
        f"cluster:{clusters}:1",
        "label:colour",
        "label:topic",
        f"outlier:{clusters}:1",
        "plain",
        "sql",
    ]
    settings = settings_of(page)
    assert [m["space"] for m in settings["maps"]] == ["paint/space"]
    assert "nearsql serve FILE" in page  # a visitor who may only read


def test_levels_and_selections_are_offered(rich: Path) -> None:
    with site(rich) as opened:
        page = opened.get(f"{ROOT}/map/4").text
        assert options(page)[:2] == ["cluster:5:1", "cluster:1:1"]
        assert 'data-run="5" data-levels="[1,2]"' in unescape(page)
        assert '<option value="reds">' in page


def test_another_map_stands_beside(rich: Path) -> None:
    with site(rich) as opened:
        page = opened.get(f"{ROOT}/map/2?beside=4").text
        maps = settings_of(page)["maps"]
        assert [(m["run"], m["space"]) for m in maps] == [(2, "paint/space"), (4, "words/space")]
        assert page.count('class="canvas"') == 2
        assert re.search(r'<option value="[^"]+\?beside=4" selected>words/space', page)
        assert "Run 77 has no map" in problem(opened, "2", 404, beside="77")
        assert "Run <b> has no map" in problem(opened, "2", 404, beside="<b>")


def test_within_takes_what_the_sql_functions_take(rich: Path) -> None:
    with site(rich) as opened:
        sql = "select item_id from item_labels where value = 'red'"
        assert ids(opened, "2/within", within=sql) == RED
        assert ids(opened, "2/within", within="reds") == RED
        # In order, each once, and only what is on this map.
        assert ids(opened, "2/within", within="[95, 30, 2, 30]") == [2, 30]
        assert ids(opened, "4/within", within="reds") == []
        assert ids(opened, "2/within", within="values (5)") == [5]


@pytest.mark.parametrize(
    ("within", "sentence"),
    [
        ("delete from items", "there is no selection 'delete from items'"),
        ("select 1; delete from items", "must be one statement"),
        ("with x as (select 1) delete from items", "would write"),
        ("select 'a'", "must give item ids (whole numbers), and gave 'a'"),
        ("select no_such", "no such column: no_such"),
        ("[1", "not valid JSON"),
        ("", "must be a SELECT of item ids"),
    ],
)
def test_what_names_no_items_gets_a_sentence(
    gallery_site: Site, gallery: Gallery, within: str, sentence: str
) -> None:
    assert sentence in problem(gallery_site, f"{gallery.projection}/within", within=within)


def test_sql_of_a_visitor_is_stopped_in_time(gallery: Gallery) -> None:
    endless = "with recursive n (i) as (select 1 union all select i + 1 from n) select i from n"
    with site(gallery.path, settings={"sql_time_limit_ms": 50}) as opened:
        said = problem(opened, f"{gallery.projection}/within", within=endless)
    assert "longer than 0.05 s" in said


def test_inside_gives_what_the_sql_behind_it_gives(gallery_site: Site, gallery: Gallery) -> None:
    # Around the middle third of the points, a concave one.
    polygon = [[6, 6], [15, 6], [10.2, 9.8], [15, 15], [6, 15]]
    found = ids(gallery_site, f"{gallery.projection}/inside", polygon=json.dumps(polygon))
    db = connection.connect(gallery.path, read_only=True)
    points = db.execute("select item_id, x, y from projection_points order by item_id").fetchall()
    db.close()

    def is_inside(x: float, y: float) -> bool:
        crossed = 0
        for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            crossed += (ay > y) != (by > y) and x < ax + (bx - ax) * (y - ay) / (by - ay)
        return crossed % 2 == 1

    assert found == [item for item, x, y in points if is_inside(x, y)]
    assert 5 < len(found) < PER_COLOUR
    page = gallery_site.get(f"{ROOT}/map/{gallery.projection}").text
    link = settings_of(page)["maps"][0]["insideSql"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    rows = gallery_site.query(
        "gallery", asked["sql"], run=asked["run"], polygon=json.dumps(polygon)
    )
    assert [row["item_id"] for row in rows.json()["rows"]] == found


@pytest.mark.parametrize(
    "polygon", ["", "[]", "[[1, 2], [3, 4]]", "[[1, 2], [3, 4], [5]]", "[[1,2],[3,4],[5,NaN]]", "1"]
)
def test_what_is_no_polygon_gets_a_sentence(
    gallery_site: Site, gallery: Gallery, polygon: str
) -> None:
    said = problem(gallery_site, f"{gallery.projection}/inside", polygon=polygon)
    assert said.startswith("polygon must be three corners or more")


def test_a_sheet_shows_items(gallery_site: Site, gallery: Gallery) -> None:
    sheet = gallery_site.get(f"{ROOT}/map/{gallery.projection}/sheet?items=3,91,4000").text
    assert re.findall(r'<li data-item="(\d+)"', sheet) == ["3", "91"]
    assert "<html" not in sheet
    assert "<script>" not in sheet
    for items in ("", "x", "1;2", ",".join("1" for _ in range(61))):
        said = problem(gallery_site, f"{gallery.projection}/sheet", items=items)
        assert "up to 60 ids" in said
