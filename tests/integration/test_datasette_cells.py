"""Our values in Datasette's own tables: vectors as curves, masks as shapes, items as thumbnails, few questions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery import IMAGES, Gallery
from judged_images import HEIGHT, WIDTH, add_detector, add_images, annotate, judge
from served import Site, site

from nearsql.datasette_plugins import cells
from nearsql.datasette_plugins.cell_drawings import curve, mask_shape, outlines_shape
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi, rle

BOX = (10.0, 10.0, 60.0, 60.0)


def points(drawing: str) -> list[tuple[float, float]]:
    found = re.search(r'points="([^"]+)"', drawing)
    assert found
    return [(float(x), float(y)) for x, y in (p.split(",") for p in found[1].split())]


def test_a_curve_goes_as_its_numbers_go() -> None:
    drawing = curve(np.array([0, 1, 2, 1, 0], "<f4"))
    assert points(drawing) == [(0, 23), (24, 12), (48, 1), (72, 12), (96, 23)]
    assert 'role="img" aria-label="5 numbers from 0 to 2"' in drawing
    assert drawing.endswith("5 &times; float32")


def test_zero_stays_in_view() -> None:
    assert '<path d="M0 23H96"' in curve(np.array([5, 6], "<f4"))
    assert '<path d="M0 1H96"' in curve(np.array([-5, -6], "<f4"))
    assert '<path d="M0 12H96"' in curve(np.array([-5, 5], "<f4"))


def test_a_long_vector_is_a_short_drawing() -> None:
    values = np.repeat(np.arange(48), 1000).astype("<f4")
    drawing = curve(values)
    assert len(points(drawing)) == 48
    assert len(drawing) < 1000
    assert [y for _, y in points(drawing)] == sorted((y for _, y in points(drawing)), reverse=True)


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ([np.nan, 1, np.inf], "3 numbers from 1 to 1, 2 not finite"),
        ([0, 0], "2 numbers from 0 to 0"),
        ([7], "1 numbers from 7 to 7"),
        ([-1.7e308, 1.7e308], "2 numbers from -1.7e+308 to 1.7e+308"),
        ([1.7e308] * 100, "100 numbers from 1.7e+308 to 1.7e+308"),
        ([5e-324, 0], "2 numbers from 0 to 4.94e-324"),
    ],
)
def test_strange_numbers_stay_inside_the_drawing(values: list[float], label: str) -> None:
    drawing = curve(np.array(values, "<f8"))
    assert f'aria-label="{label}"' in drawing
    assert all(0 <= x <= 96 and 0 <= y <= 24 for x, y in points(drawing))


def test_without_finite_numbers_there_is_no_curve() -> None:
    assert curve(np.full(3, np.nan, "<f4")) == "3 &times; float32, none of them finite"


def test_a_mask_is_a_shape_within_its_image() -> None:
    bitmap = np.zeros((100, 200), bool)
    bitmap[10:30, 50:100] = True
    drawing = mask_shape(json.dumps(rle.encode(bitmap)))
    assert 'aria-label="mask of 1,000 pixels in 200 x 100"' in drawing
    # Every third row and column, in a frame of 200 x 100 pixels.
    assert 'd="M17 4h17v6h-17v-6z"' in drawing
    assert 'viewBox="0 0 66.6667 33.3333"' in drawing
    assert 'width="40" height="20"' in drawing


def test_an_outline_is_a_shape_as_large_as_it_is() -> None:
    drawing = outlines_shape("[[10, 10, 30, 10, 30, 50], [0, 0, 1, 1, 2, 0]]")
    assert 'viewBox="0 0 30 50"' in drawing
    assert 'aria-label="outline of 6 corners"' in drawing


@pytest.mark.parametrize("text", ["", "3", "{}", '"><script>', "[[1]]", "0" * 300_000])
def test_what_is_no_shape_stays_what_it_is(text: str) -> None:
    assert mask_shape(text) is None
    assert outlines_shape(text) is None


@pytest.fixture
def drawn(db: dbapi.Connection, database: Path) -> Iterator[Site]:
    """One judged image with masks, an evaluation's blobs, and the axes of a map."""
    add_images(db, 3)
    annotate(db, 1, (1, "cat", BOX))
    run = judge(db, add_detector(db), {1: [("cat", BOX, 0.9, 1)]})
    mask = json.dumps(rle.encode(np.ones((HEIGHT, WIDTH), bool)))
    with immediate(db):
        db.execute("update predictions set mask_json = ?", (mask,))
        db.execute(
            "update annotations set polygons_json = '[[0, 0, 9, 0, 9, 9]]', mask_json = ?", (mask,)
        )
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('s', 'feature', 2, 'l2')"
        )
        db.execute(
            "insert into cv_neighbors values (?, 1, 1, ?, ?)",
            (
                run,
                np.arange(7, dtype="<i8").tobytes(),
                np.linspace(0, 3, 7).astype("<f8").tobytes(),
            ),
        )
        db.execute(
            "insert into projection_axes values (?, 0, ?, null)", (run, np.ones(5, "<f8").tobytes())
        )
    with site(database) as opened:
        yield opened


def test_tables_show_masks_and_blobs_of_numbers(drawn: Site) -> None:
    predictions = drawn.get("/test/predictions").text
    assert f"mask of {WIDTH * HEIGHT:,} pixels in {WIDTH} x {HEIGHT}" in predictions
    assert "counts" not in predictions.partition("<tbody>")[2].partition("</tbody>")[0]
    assert "outline of 3 corners" in drawn.get("/test/annotations").text
    neighbours = drawn.get("/test/cv_neighbors").text
    assert "0, 1, 2, 3, 4, ..., 7 in all" in neighbours
    assert "7 numbers from 0 to 3" in neighbours
    assert "7 &times; float64" in neighbours
    assert "5 &times; float64" in drawn.get("/test/projection_axes").text


def test_answers_of_sql_show_them_too(drawn: Site) -> None:
    answer = drawn.query("test", "select mask_json, item_id from predictions", "html").text
    assert "mask of" in answer
    assert "items/1/thumbnail?size=96&amp;v=" in answer
    # A blob that cannot be float32 numbers is left to Datasette.
    assert "float32" not in drawn.query("test", "select x'010203' as vector", "html").text


def test_a_page_of_items_is_one_question(
    gallery_site: Site, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    execute = gallery_site.datasette.databases["gallery"].execute

    async def counting(sql: str, *args: Any, **options: Any) -> Any:
        if "cells need to know" in sql:
            asked.append(args)
        return await execute(sql, *args, **options)

    monkeypatch.setattr(gallery_site.datasette.databases["gallery"], "execute", counting)
    page = gallery_site.get("/gallery/item_labels?_size=100").text
    assert len(re.findall(r'<img src="[^"]+/thumbnail', page)) == IMAGES
    assert len(asked) == 1
    asked.clear()
    monkeypatch.setattr(cells, "_AHEAD", 0)
    two = "select 2 as item_id, 9 as neighbor_id, 500 as other_item_id union all select 9, 2, 500"
    answer = gallery_site.query("gallery", two, "html").text
    assert len(asked) == 1
    assert answer.count("/items/9/thumbnail") == 2
    assert "/items/500" not in answer


def test_other_databases_are_left_alone(gallery: Gallery, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    raw = dbapi.connect(str(other))
    raw.execute("create table t (item_id integer, vector blob, mask_json text)")
    mask = json.dumps(rle.encode(np.ones((2, 2), bool)))
    raw.execute("insert into t values (1, ?, ?)", (bytes(8), mask))
    raw.commit()
    raw.close()
    with site(gallery.path, other) as opened:
        page = opened.get("/other/t").text
    assert "<img" not in page
    assert "float32" not in page
    assert "mask of" not in page
