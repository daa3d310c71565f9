"""The boxes on an item's page: which there are, where they lie, and that hostile rows stay inside the image."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from judged_images import HEIGHT, WIDTH, add_detector, add_images, annotate, judge
from served import Site, site

from nearsql.datasette_plugins import detections
from nearsql.datasette_plugins.pages import sql
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi, rle

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
    assert re.search(r"<h2>another <span[^>]*><a[^>]*>run 2</a>", page)
    assert [state for _, state, *_ in drawn(page)] == ["missed", "missed", "crowd"]
    (link,) = re.findall(r'href="([^"]+detector=1)"', page)
    other = pages.get(f"{ROOT}/1{unescape(link)}").text
    assert re.search(r"<h2>made-up <span[^>]*><a[^>]*>run 1</a>", other)
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
        title = asked["sql"].partition("\n")[0]
        counts[title] = len(pages.query("test", asked.pop("sql"), **asked).json()["rows"])
    assert [n for title, n in counts.items() if "losses" in title] == [2]
    assert [n for title, n in counts.items() if "metrics" in title] == [1]
    assert [n for title, n in counts.items() if "sees" in title or "objects" in title] == [3, 3]


def standings(page: str, of: str) -> dict[str, str]:
    """What each row of a table of losses or metrics says of where its number stands."""
    table = page[page.index(f"<tr><th>{of} ") :].partition("</table>")[0]
    rows = re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', table, re.DOTALL)
    plain = {name: re.sub(r"<svg.*?</svg>|<[^>]+>", " ", rest) for name, rest in rows}
    return {name: " ".join(text.split()) for name, text in plain.items()}


def test_losses_and_metrics_say_where_they_stand(db: dbapi.Connection, database: Path) -> None:
    add_images(db, 4)
    for item in range(1, 5):
        annotate(db, item, (item, "cat", BOX))
    losses = {1: (0.5, 3.0), 2: (1.5, 3.0), 3: (2.5, 1.0), 4: (None, 4.0)}
    found = {i: [("cat", BOX, 0.9, i)] for i in range(1, 4)}
    judge(
        *(db, add_detector(db), {**found, 4: []}),
        losses=losses,
        mean_iou_gt={1: 0.1, 2: 0.2, 3: 0.3, 4: 0.0},
    )
    with site(database) as opened:
        page = opened.get(f"{ROOT}/2").text
        assert standings(page, "Loss") == {
            "box": "1.5000 above 33% of 3",
            "cls": "3.0000 above 25% of 4, equal to 50%",
        }
        assert standings(page, "Metric") == {
            "mean_iou_gt": "0.200 above 50% of 4",
            "mean_iou": "0.800 above 0% of 3, equal to 100%",
        }
        assert standings(opened.get(f"{ROOT}/4").text, "Loss")["box"] == "none: undefined"


def test_of_many_images_some_stand_for_all(db: dbapi.Connection, database: Path) -> None:
    add_images(db, 2)
    model = add_detector(db)
    run = judge(db, model, {1: [], 2: []})
    with immediate(db):
        db.execute(
            "with recursive n(n) as (select 3 union all select n + 1 from n where n < 9000)"
            " insert into items (id, kind, collection, sha256, width, height, sequence_number)"
            " select n, 'image', 'more', printf('%064d', n), 9, 9, n from n"
        )
        db.execute(
            "insert into losses (run_id, item_id, component, value)"
            " select ?, id, 'cls', id from items where id > 2",
            (run,),
        )
    with site(database) as opened:
        (row,) = opened.query("test", sql("item_losses"), item=4500, run=run).json()["rows"]
    assert 2000 <= row["images"] <= 4000
    assert row["below"] / row["images"] == pytest.approx(0.5, abs=0.001)


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


def mask(box: tuple[float, ...], size: tuple[int, int] = (HEIGHT, WIDTH)) -> str:
    """The mask that fills a box."""
    bitmap = np.zeros(size, bool)
    x_min, y_min, x_max, y_max = map(int, box)
    bitmap[y_min:y_max, x_min:x_max] = True
    return json.dumps(rle.encode(bitmap))


@pytest.fixture
def masked(judged: dbapi.Connection) -> dbapi.Connection:
    """The same, with masks: of object 1 and prediction 1; object 2 with an outline only."""
    with immediate(judged):
        judged.execute("update annotations set mask_json = ? where id = 1", (mask(BOX),))
        judged.execute("update predictions set mask_json = ? where id = 1", (mask(BOX),))
        judged.execute(
            "update annotations set polygons_json = '[[120, 20, 140, 20, 130, 40]]' where id = 2"
        )
    return judged


def paths(page: str) -> dict[str, str]:
    return {
        name: path[1]
        for name, inside in re.findall(
            r'<g class="box \w+" data-box="(\w+)"[^>]*>(.*?)</g>', page, re.DOTALL
        )
        if (path := re.search(r'<path class="mask" d="([^"]*)"', inside))
    }


def test_masks_are_drawn_as_outlines(masked: dbapi.Connection, database: Path) -> None:
    with site(database) as opened:
        page = opened.get(f"{ROOT}/1?detector=1").text
        assert paths(page) == {
            "o1": "M10 10h50v50h-50v-50z",
            "p1": "M10 10h50v50h-50v-50z",
            "o2": "M120 20L140 20L130 40z",
        }
        assert 'data-part="masks"' in page
        assert 'data-part="masks"' not in opened.get(f"{ROOT}/2?detector=1").text


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ('"M0 0"', "its mask must be a mask as COCO RLE"),
        ('{"size": [100, 200], "counts": [5]}', "its mask has runs of 5 pixels"),
        (mask(BOX, (200, 100)), "its mask is of 100 x 200 pixels, and the image of 200 x 100"),
        (
            f'{{"size": [100, 200], "counts": "{"0" * 200_000}"}}',
            "one has more than 200,000 characters",
        ),
        (f'{{"size": ["{SCRIPT}", 200], "counts": [1]}}', "its mask must have as its size"),
    ],
)
def test_what_is_no_mask_of_this_image_is_not_drawn(
    masked: dbapi.Connection, database: Path, bad: str, sentence: str
) -> None:
    with immediate(masked):
        masked.execute("update predictions set mask_json = ? where id = 1", (bad,))
        masked.execute(
            "update annotations set polygons_json = ? where id = 2", (json.dumps(SCRIPT),)
        )
    with site(database) as opened:
        page = opened.get(f"{ROOT}/1?detector=1").text
    assert set(paths(page)) == {"o1"}
    assert SCRIPT not in page
    assert f"Not every mask is drawn: {sentence}" in unescape(page)


def test_the_more_masks_the_coarser_their_outlines(
    masked: dbapi.Connection, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detections, "_MASKS_IN_FULL", 1)
    monkeypatch.setattr(detections, "MOST_STEPS", 200)
    with site(database) as opened:
        page = opened.get(f"{ROOT}/1?detector=1").text
    assert paths(page)["p1"] == "M5 5h25v25h-25v-25z"
    assert page.count('transform="scale(2)"') == 2


def test_only_some_of_very_many_boxes_are_drawn(
    judged: dbapi.Connection, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detections, "BOXES_SHOWN", 2)
    with site(database) as opened:
        page = opened.get(f"{ROOT}/1?detector=1").text
    assert [name for name, *_ in drawn(page)] == ["o1", "o2", "p2", "p1"]
    assert "Only the surest 2 are drawn and listed." in page
    assert "Only the first 2 are drawn and listed." in page
