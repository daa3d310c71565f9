"""The boxes on an item's page: which there are, where they lie, and that hostile rows stay inside the image."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from judged_images import HEIGHT, WIDTH, add_detector, add_images, annotate, judge
from served import Site, site

from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi

ROOT = "/-/nearsql/test/items"
BOX = (10.0, 10.0, 60.0, 60.0)
FAR = (120.0, 20.0, 140.0, 40.0)
SCRIPT = "<script>window.hacked = true</script>"


@pytest.fixture
def judged(db: dbapi.Connection) -> dbapi.Connection:
    """Image 1: a cat found, a dog missed, a crowd, a false alarm, an unsure cat. Image 2: not annotated.

    Image 3: annotated, and seen by nobody. Image 4: nothing. Run 1 is a detector's, run 2 another's.
    """
    add_images(db, 4)
    annotate(db, 1, (1, "cat", BOX), (2, "dog", FAR))
    annotate(db, 1, (3, "cat", (0, 80, 200, 100)), is_crowd=True)
    annotate(db, 3, (4, SCRIPT, BOX))
    seen = [("cat", BOX, 0.9, 1), ("dog", (0, 0, 5, 5), 0.5, None), ("cat", BOX, 0.1, None)]
    losses = {1: (None, 1.5)}
    judge(db, add_detector(db), {1: seen, 2: [("cat", BOX, 0.9, None)]}, losses=losses)
    judge(db, add_detector(db, "another"), {1: []})
    return db


@pytest.fixture
def pages(judged: dbapi.Connection, database: Path) -> Iterator[Site]:
    with site(database) as opened:
        yield opened


def drawn(page: str) -> list[tuple[str, str, tuple[float, ...], str]]:
    """(name, state, (x, y, width, height), text) of each box, in the order they are drawn."""
    found = []
    for state, name, inside in re.findall(
        r'<g class="box (\w+)" data-box="(\w+)"[^>]*>(.*?)</g>', page, re.DOTALL
    ):
        line = re.search(r'<rect class="line" ([^>]*)/>', inside)[1]
        numbers = [
            float(re.search(rf'\b{k}="([^"]*)"', line)[1]) for k in ("x", "y", "width", "height")
        ]
        text = re.search(r"<text[^>]*>(.*?)</text>", inside, re.DOTALL)[1].strip()
        found.append((name, state, tuple(numbers), unescape(text)))
    return found


def test_every_box_is_drawn_where_it_is(pages: Site) -> None:
    page = pages.get(f"{ROOT}/1?detector=1").text
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in page
    assert drawn(page) == [
        ("o1", "found", (10, 10, 50, 50), "cat"),
        ("o2", "missed", (120, 20, 20, 20), "dog"),
        ("o3", "crowd", (0, 80, 200, 20), "cat"),
        # The surest on top.
        ("p3", "unsure", (10, 10, 50, 50), "cat 0.10"),
        ("p2", "wrong", (0, 0, 5, 5), "dog 0.50"),
        ("p1", "right", (10, 10, 50, 50), "cat 0.90"),
    ]
    layers = re.findall(r'data-layer="(\w+)"( checked)?', page)
    assert [name for name, checked in layers if checked] == [
        *("found", "missed", "crowd", "right", "wrong"),
    ]
    assert ("unsure", "") in layers
    rows = re.findall(r'<tr data-box="(\w+)"', page)
    assert rows == ["p1", "p2", "p3", "o1", "o2", "o3"]
    for text in (
        "none: undefined",
        "1.5000",
        "2: 1 found, 1 missed",
        "0.800",
        "too unsure to count",
    ):
        assert text in page


def test_the_newest_run_is_shown_and_others_are_a_step_away(pages: Site) -> None:
    page = pages.get(f"{ROOT}/1").text
    assert "another, run 2" in page
    assert [state for _, state, *_ in drawn(page)] == ["missed", "missed", "crowd"]
    (link,) = re.findall(r'href="([^"]+detector=1)"', page)
    assert "made-up, run 1" in pages.get(unescape(link)).text
    response = pages.get(f"{ROOT}/1?detector=7")
    assert response.status_code == 404
    assert "No run 7 of a detector has seen item 1: those are 2, 1" in response.text


def test_without_ground_truth_nothing_is_right_or_wrong(pages: Site) -> None:
    page = pages.get(f"{ROOT}/2").text
    assert [box[:2] for box in drawn(page)] == [("p4", "predicted")]
    assert "nobody annotated this image" in page
    page = pages.get(f"{ROOT}/3").text
    assert [box[:2] for box in drawn(page)] == [("o4", "annotated")]
    assert SCRIPT not in page
    bare = pages.get(f"{ROOT}/4").text
    assert "boxes" not in re.sub(r"with-boxes|nearsql\.css", "", bare)


def test_sql_links_give_the_rows_of_the_tables(pages: Site) -> None:
    page = pages.get(f"{ROOT}/1?detector=1").text
    counts = {}
    for link in re.findall(r'class="sql" href="([^"]+)"', page):
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
        rows = pages.query("test", asked.pop("sql"), **asked).json()["rows"]
        counts[next(iter(rows[0]))] = counts.get(next(iter(rows[0])), 0) + len(rows)
    assert counts == {"component": 2, "id": 6}


def test_hostile_rows_stay_inside_the_image(judged: dbapi.Connection, database: Path) -> None:
    model = add_detector(judged, SCRIPT)
    run = judge(
        judged,
        model,
        {1: [("dog", BOX, 0.5, None)]},
        losses={1: (None, 1.0)},
        settings={"metrics_conf": SCRIPT},
    )
    with immediate(judged):
        judged.execute(
            "update predictions set x_min = -9e999, y_min = -5, x_max = 9e999, y_max = 1e300,"
            " class_name = ? where run_id = ?",
            (SCRIPT, run),
        )
        judged.execute("update losses set reason = ? where reason is not null", (SCRIPT,))
    with site(database) as opened:
        response = opened.get(f"{ROOT}/1")
        assert response.status_code == 200
        assert SCRIPT not in response.text
        ((_, _, place, name),) = [box for box in drawn(response.text) if box[0].startswith("p")]
        assert place == (0, 0, WIDTH, HEIGHT)
        assert name == f"{SCRIPT} 0.50"


def test_the_newest_worst_image_is_linked_from_datasettes_tables(pages: Site) -> None:
    """A question's rows link each image to its page."""
    from nearsql.schema import query_files

    (file,) = [f for f in query_files() if f.name == "worst_images_by_loss.sql"]
    page = pages.query("test", file.read_text("utf-8"), "html", detector=1).text
    links = set(re.findall(r'href="(/-/nearsql/test/items/\d+)"', page))
    assert links == {f"{ROOT}/1", f"{ROOT}/2"}
    assert all(pages.get(link).status_code == 200 for link in links)
