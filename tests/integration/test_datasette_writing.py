"""Saving through the pages: what selections and tags become, and the pages that show them."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from gallery import COLOURS, IMAGES, PER_COLOUR, SCRIPT, Gallery
from served import ROOT, Site
from written import PAGES, SELECTIONS, items_of, rows, save, tagged

from nearsql.pipeline.runs import run
from nearsql.udfs import connection

# What is saved --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[3, 1, 3], "3, 1", "[1, 3]", "1 3"])
def test_ids(writable: Site, ids: Any) -> None:
    answer = save(writable, how="ids", item_ids=ids, note=" to look at ")
    assert answer.status_code == 200, answer.text[-300:]
    said = answer.json()
    assert said == {"ok": True, "selection": 1, "items": 2, "url": f"{SELECTIONS}/1"}
    assert items_of(writable, "few") == [1, 3]
    assert rows(writable, "select how, sql, note, polygon_json from selections") == [
        ("ids", None, "to look at", None)
    ]
    assert writable.get(said["url"]).status_code == 200


def test_sql(writable: Site) -> None:
    sql = "select item_id from item_labels where value = 'red'"
    answer = save(writable, sql=sql)
    assert answer.json()["items"] == PER_COLOUR
    assert items_of(writable, "few") == list(range(1, PER_COLOUR + 1))
    assert rows(writable, "select how, sql from selections") == [("sql", sql)]


def test_a_polygon_with_the_items_that_were_shown(writable: Site, written_gallery: Gallery) -> None:
    corners = [[0, 0], [1, 0], [1, 1.5]]
    run = written_gallery.projection
    answer = save(
        writable, how="polygon", item_ids=[5, 9], polygon_json=corners, projection_run_id=run
    )
    assert answer.json()["items"] == 2
    ((how, polygon, by),) = rows(
        writable, "select how, polygon_json, projection_run_id from selections"
    )
    assert (how, json.loads(polygon), by) == ("polygon", corners, run)


def test_a_polygon_selects_what_lies_within(writable: Site, written_gallery: Gallery) -> None:
    """Against another way to say it: seen from within, the corners go round once. Not convex."""
    run = written_gallery.projection
    corners = [[-3, -3], [14, -4], [14, 14], [5, 3], [-2, 12], [-4, 4], [3, 0]]
    answer = save(
        writable, how="polygon", polygon_json=json.dumps(corners), projection_run_id=str(run)
    )
    points = rows(writable, "select item_id, x, y from projection_points where run_id = ?", run)
    seen = np.array(corners) @ [1, 1j] - np.array(points)[:, 1:] @ [[1], [1j]]
    turns = np.angle(np.roll(seen, -1, axis=1) / seen).sum(axis=1)
    wanted = sorted(
        int(item) for (item, *_), turn in zip(points, turns, strict=True) if abs(turn) > 3
    )
    assert 10 < len(wanted) < IMAGES - 10
    assert items_of(writable, "few") == wanted
    assert answer.json()["items"] == len(wanted)


def test_a_selection_takes_the_place_of_another_only_when_asked(writable: Site) -> None:
    assert save(writable, item_ids=[1]).status_code == 200
    refused = save(writable, item_ids=[2])
    assert refused.status_code == 409
    assert refused.json() == {
        "ok": False,
        "error": "There is a selection 'few' already: choose another name, or replace it.",
    }
    assert items_of(writable, "few") == [1]
    assert save(writable, item_ids=[2], replace=True).json()["selection"] == 1
    assert items_of(writable, "few") == [2]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": " "}, "'' is no name for a selection"),
        ({"name": "two\nlines"}, "is no name for a selection"),
        ({"name": "select it", "item_ids": [1]}, "it would be taken for SQL or JSON"),
        ({"name": "x" * 201, "item_ids": [1]}, "has at most 200 characters, not 201"),
        ({"name": 7, "item_ids": [1]}, "name must be a text, not 7"),
        ({}, "Say which items"),
        ({"item_ids": []}, "Say which items"),
        ({"item_ids": [1, 97, 98]}, "97 is not the id of an item of this file, nor are 1 others"),
        ({"item_ids": [1.5]}, "item_ids must give item ids (whole numbers), and gave 1.5"),
        ({"item_ids": [2**63]}, "item_ids must give item ids"),
        ({"item_ids": {"a": 1}}, "item_ids must be a list of item ids"),
        ({"item_ids": "1, x"}, "'x' is none"),
        ({"item_ids": "[1,"}, "item_ids is not JSON"),
        ({"how": "sql"}, "Give the SQL"),
        ({"how": "lasso", "item_ids": [1]}, "how must be polygon, sql or ids, not 'lasso'"),
        ({"how": "sql", "sql": "select 1", "item_ids": [1]}, "not by both"),
        ({"sql": "delete from items"}, "must begin with SELECT, WITH or VALUES"),
        ({"sql": "select 1; drop table items"}, "must be one statement"),
        ({"sql": "select no_such from items"}, "no such column: no_such"),
        ({"sql": "select kind from items"}, "must give item ids (whole numbers), and gave 'image'"),
        ({"sql": "select id from items where id < 0"}, "would have no items"),
        ({"sql": "with x as (select 1) delete from items returning id"}, "must only read"),
        ({"how": "polygon", "item_ids": [1]}, "A polygon needs polygon_json"),
        ({"how": "polygon", "polygon_json": [[0, 0], [1, 1]]}, "three corners or more"),
        ({"how": "polygon", "polygon_json": [[0, 0], [1, 1], [1, "x"]]}, "each [x, y]"),
        ({"how": "polygon", "polygon_json": "[[0"}, "polygon_json is not JSON"),
        ({"how": "polygon", "polygon_json": [[0, 0], [1, 1], [1, 0]]}, "and projection_run_id"),
        (
            {"polygon_json": [[0, 0], [1, 1], [1, 0]], "projection_run_id": 1},
            "Run 1 has no map",
        ),
        (
            {"polygon_json": [[0, 0], [1, 1], [1, 0]], "projection_run_id": -1},
            "projection_run_id must be a whole number, not -1",
        ),
        ({"item_ids": [1], "replace": "maybe"}, "replace must be 1 or 0"),
    ],
)
def test_what_cannot_be_saved(writable: Site, fields: dict[str, Any], sentence: str) -> None:
    answer = writable.post(SELECTIONS, {"name": "few", **fields})
    assert answer.status_code in (400, 404)
    assert sentence in answer.json()["error"]
    assert rows(writable, "select count(*) from selections") == [(0,)]
    assert rows(writable, "select count(*) from items") == [(IMAGES + 6,)]


def test_what_is_not_a_form(writable: Site) -> None:
    cookies, token = writable.signed_in(ROOT)
    for body, sentence in (
        (b"\xff", "not text in UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"{", "not a JSON object"),
    ):
        answer = writable.runner.run(
            writable.datasette.client.post(
                SELECTIONS,
                content=body,
                cookies=cookies,
                headers={
                    "x-csrftoken": token,
                    "content-type": "application/json",
                    "accept": "application/json",
                },
            )
        )
        assert answer.status_code == 400
        assert sentence in answer.json()["error"]


# Forms ----------------------------------------------------------------------------------------------


def test_a_form_leads_to_what_it_made(writable: Site) -> None:
    answer = writable.post(SELECTIONS, {"name": "few", "sql": "select 7"}, as_form=True)
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{SELECTIONS}/1"
    wrong = writable.post(SELECTIONS, {"name": "few", "sql": "select 7"}, as_form=True)
    assert wrong.status_code == 409
    assert "There is a selection" in wrong.text
    assert wrong.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "next_", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "x", "/a\nb"]
)
def test_a_form_leads_to_no_other_site(writable: Site, next_: str) -> None:
    answer = writable.post(
        SELECTIONS, {"name": "few", "item_ids": "1", "next": next_}, as_form=True
    )
    assert answer.headers["location"] == f"{SELECTIONS}/1"


def test_rename_and_note(writable: Site) -> None:
    save(writable, item_ids=[1, 2])
    save(writable, "other", item_ids=[3])
    done = writable.post(f"{SELECTIONS}/1", {"name": "some", "note": "why"}, as_form=True)
    assert done.headers["location"] == f"{SELECTIONS}/1"
    assert rows(writable, "select name, note from selections order by id") == [
        ("some", "why"),
        ("other", None),
    ]
    assert items_of(writable, "some") == [1, 2]
    assert writable.post(f"{SELECTIONS}/1", {"name": "some"}).status_code == 200  # its own name
    taken = writable.post(f"{SELECTIONS}/1", {"name": "other"})
    assert taken.status_code == 409
    assert "There is a selection 'other' already" in taken.json()["error"]
    assert writable.post(f"{SELECTIONS}/9", {"name": "new"}).status_code == 404
    assert writable.post(f"{SELECTIONS}/1", {"name": "select"}).status_code == 400


def test_delete(writable: Site) -> None:
    save(writable, item_ids=[1, 2])
    done = writable.post(f"{SELECTIONS}/1/delete", {}, as_form=True)
    assert done.headers["location"] == SELECTIONS
    assert rows(writable, "select count(*) from selections") == [(0,)]
    assert rows(writable, "select count(*) from selection_items") == [(0,)]
    assert rows(writable, "select count(*) from items") == [(IMAGES + 6,)]
    assert writable.post(f"{SELECTIONS}/1/delete", {}).status_code == 404
    assert writable.get(f"{SELECTIONS}/1").status_code == 404


def test_the_sql_of_a_selection_has_a_time_limit(
    writable: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsql.datasette_plugins import pages

    monkeypatch.setattr(pages, "TIME_LIMIT", 100)
    monkeypatch.setitem(writable.datasette._settings, "sql_time_limit_ms", 50)
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n where i < 0"
    answer = save(writable, sql=endless)
    assert answer.status_code == 400
    assert "took longer than 0.1 s" in answer.json()["error"]


# Tags -----------------------------------------------------------------------------------------------


def test_tags(writable: Site) -> None:
    save(writable, "some", item_ids=[2, 3])
    tags = PAGES + "/tags"
    assert (
        writable.post(tags, {"name": "look", "value": "good", "item_ids": [1, 2]}).json()["items"]
        == 2
    )
    assert tagged(writable) == [(1, "look", "good"), (2, "look", "good")]
    by_name = writable.post(tags, {"name": "look", "value": "bad", "selection": "some"})
    assert by_name.json()["items"] == 2
    assert tagged(writable) == [(1, "look", "good"), (2, "look", "bad"), (3, "look", "bad")]
    page = writable.get(SELECTIONS).text
    assert '<span class="note">look</span> bad <span class="n">2</span>' in page
    # Only those with this value lose it; then all.
    taken = writable.post(
        tags, {"name": "look", "value": "good", "item_ids": [1, 2, 3], "remove": 1}
    )
    assert taken.json()["items"] == 1
    assert tagged(writable) == [(2, "look", "bad"), (3, "look", "bad")]
    assert writable.post(tags, {"name": "look", "selection": 1, "remove": "1"}).json()["items"] == 2
    assert tagged(writable) == []


def test_a_tag_never_takes_the_place_of_another_label(writable: Site) -> None:
    tags = PAGES + "/tags"
    refused = writable.post(tags, {"name": "colour", "value": "pink", "item_ids": [1, 2, 91]})
    assert refused.status_code == 409
    assert refused.json()["error"].startswith(
        "2 of these items have a label 'colour' already, from tests"
    )
    removed = writable.post(tags, {"name": "colour", "item_ids": [1], "remove": True})
    assert removed.json()["items"] == 0
    assert rows(writable, "select value, source from item_labels where item_id in (1, 91)") == [
        (COLOURS[0], "tests"),
        (SCRIPT, "tests"),
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"value": "x", "item_ids": [1]}, "Give name"),
        ({"name": "look", "item_ids": [1]}, "Give value"),
        ({"name": "look", "value": "x"}, "Say which items get the tag"),
        ({"name": "look", "value": "x", "item_ids": [1], "selection": "some"}, "Say which items"),
        ({"name": "look", "value": "x", "selection": "none"}, "There is no selection 'none'"),
        ({"name": "look", "value": "x", "selection": [1]}, "There is no selection [1]"),
        ({"name": "look", "value": "x", "item_ids": [1, 1000]}, "1000 is not the id of an item"),
        ({"name": "a\nb", "value": "x", "item_ids": [1]}, "name must be on one line"),
        ({"name": "look", "value": "x" * 201, "item_ids": [1]}, "value may have 200 characters"),
    ],
)
def test_what_cannot_be_a_tag(writable: Site, fields: dict[str, Any], sentence: str) -> None:
    answer = writable.post(PAGES + "/tags", fields)
    assert answer.status_code in (400, 404)
    assert sentence in answer.json()["error"]
    assert tagged(writable) == []


# The pages ------------------------------------------------------------------------------------------


def test_the_pages_of_selections(writable: Site, written_gallery: Gallery) -> None:
    empty = writable.get(SELECTIONS).text
    assert "No selections yet" in empty
    assert "nearsql select FILE NAME" in empty
    assert "<textarea" not in empty  # who may not save sees no form
    corners = [[-1, -1], [3, -1], [1, 3]]
    save(
        writable,
        "by lasso",
        how="polygon",
        polygon_json=corners,
        projection_run_id=written_gallery.projection,
    )
    save(
        writable,
        f"it's {SCRIPT}",
        sql=f"select id from items where id < 3 -- {SCRIPT}",
        note=SCRIPT,
    )
    for path in ("", "/1", "/2"):
        page = writable.get(SELECTIONS + path, actor=ROOT)
        assert page.status_code == 200
        assert SCRIPT not in page.text
    page = writable.get(f"{SELECTIONS}/1").text
    assert '<svg class="outline"' in page
    assert f'href="{PAGES}/map/{written_gallery.projection}"' in page
    page = writable.get(f"{SELECTIONS}/2", actor=ROOT).text
    assert "it&#39;&#39;s" in page  # as SQL writes it, within the example
    assert 'name="csrftoken"' in page


def test_what_a_page_says_of_runs_over_it(writable: Site) -> None:
    save(writable, "few", item_ids=[1])
    db = connection.connect(writable.datasette.get_database("gallery").path)
    with run(db, "cluster", parameters={"within": "few"}) as limited:
        pass
    try:
        page = writable.get(f"{SELECTIONS}/1").text
    finally:
        db.execute("delete from runs where id = ?", (limited.id,))
        db.commit()
        db.close()
    assert f'Runs limited to it: <a href="{PAGES}/runs/{limited.id}">' in page


def test_the_pages_of_a_long_selection(writable: Site) -> None:
    save(writable, "all", sql="select id from items")
    db = connection.connect(writable.datasette.get_database("gallery").path)
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'more', ?, 'x', ?)",
        [(i, f"{i:064x}", i) for i in range(1000, 1130)],
    )
    db.commit()
    db.close()
    try:
        save(writable, "all", sql="select id from items", replace=True)
        check_pages(writable)
    finally:
        db = connection.connect(writable.datasette.get_database("gallery").path)
        db.execute("delete from items where id >= 1000")
        db.commit()
        db.close()


def check_pages(writable: Site) -> None:
    assert "Page 1 of 2" in writable.get(f"{SELECTIONS}/1").text
    second = writable.get(f"{SELECTIONS}/1?page=2").text
    assert f'href="{PAGES}/items/1129"' in second
    assert "There are no more items" in writable.get(f"{SELECTIONS}/1?page=3").text
    for wrong in ("0", "x", "-1", "²", "99999999999999999999"):
        assert writable.get(f"{SELECTIONS}/1?page={wrong}").status_code == 400


def test_csv(writable: Site) -> None:
    save(writable, 'a "b" ü', item_ids=[1, IMAGES + 1])
    answer = writable.get(f"{SELECTIONS}/1/items.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    wanted = "attachment; filename*=UTF-8''a%20%22b%22%20%C3%BC.csv"
    assert answer.headers["content-disposition"] == wanted
    image, text = csv.DictReader(io.StringIO(answer.text))
    assert (image["id"], image["kind"], image["text"]) == ("1", "image", "")
    assert json.loads(image["labels_json"]) == {"colour": "red"}
    assert text["text"] == f"text 0 {SCRIPT}"
