"""Saving through the pages: selections and tags, by whom they may be, and only by our own pages."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasette.app import Datasette
from gallery import COLOURS, IMAGES, PER_COLOUR, SCRIPT, Gallery, build
from served import ROOT, Site, query_path, site

from nearsql.pipeline.runs import run
from nearsql.udfs import connection

PAGES = "/-/nearsql/gallery"
SELECTIONS = PAGES + "/selections"
ANNA = {"id": "anna"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="module")
def shared(original: Gallery) -> Iterator[Site]:
    with site(original.path) as opened:
        opened.let_root()
        yield opened


@pytest.fixture
def own(shared: Site, original: Gallery) -> Iterator[Site]:
    """A site that the test may write to: what it has saved goes afterwards."""
    yield shared
    db = connection.connect(original.path)
    db.execute("delete from selections")
    db.execute("delete from item_labels where source = 'hand'")
    db.commit()
    db.close()


def rows(own: Site, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the file now holds, asked beside the site."""
    db = connection.connect(own.datasette.get_database("gallery").path)
    found = [tuple(row) for row in db.execute(sql, parameters)]
    db.close()
    return found


def items_of(own: Site, name: str) -> list[int]:
    sql = "select item_id from selection_items join selections on id = selection_id where name = ?"
    return [item for (item,) in rows(own, sql + " order by 1", name)]


def save(own: Site, name: str = "few", **fields: Any) -> Any:
    return own.post(SELECTIONS, {"name": name, **fields})


# What is saved --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[3, 1, 3], "3, 1", "[1, 3]", "1 3"])
def test_ids(own: Site, ids: Any) -> None:
    answer = save(own, how="ids", item_ids=ids, note=" to look at ")
    assert answer.status_code == 200, answer.text[-300:]
    said = answer.json()
    assert said == {"ok": True, "selection": 1, "items": 2, "url": f"{SELECTIONS}/1"}
    assert items_of(own, "few") == [1, 3]
    assert rows(own, "select how, sql, note, polygon_json from selections") == [
        ("ids", None, "to look at", None)
    ]
    assert own.get(said["url"]).status_code == 200


def test_sql(own: Site) -> None:
    sql = "select item_id from item_labels where value = 'red'"
    answer = save(own, sql=sql)
    assert answer.json()["items"] == PER_COLOUR
    assert items_of(own, "few") == list(range(1, PER_COLOUR + 1))
    assert rows(own, "select how, sql from selections") == [("sql", sql)]


def test_a_polygon_with_the_items_that_were_shown(own: Site, original: Gallery) -> None:
    corners = [[0, 0], [1, 0], [1, 1.5]]
    run = original.projection
    answer = save(own, how="polygon", item_ids=[5, 9], polygon_json=corners, projection_run_id=run)
    assert answer.json()["items"] == 2
    ((how, polygon, by),) = rows(own, "select how, polygon_json, projection_run_id from selections")
    assert (how, json.loads(polygon), by) == ("polygon", corners, run)


def test_a_polygon_selects_what_lies_within(own: Site, original: Gallery) -> None:
    """Against another way to say it: seen from within, the corners go round once. Not convex."""
    run = original.projection
    corners = [[-3, -3], [14, -4], [14, 14], [5, 3], [-2, 12], [-4, 4], [3, 0]]
    answer = save(own, how="polygon", polygon_json=json.dumps(corners), projection_run_id=str(run))
    points = rows(own, "select item_id, x, y from projection_points where run_id = ?", run)
    seen = np.array(corners) @ [1, 1j] - np.array(points)[:, 1:] @ [[1], [1j]]
    turns = np.angle(np.roll(seen, -1, axis=1) / seen).sum(axis=1)
    wanted = sorted(
        int(item) for (item, *_), turn in zip(points, turns, strict=True) if abs(turn) > 3
    )
    assert 10 < len(wanted) < IMAGES - 10
    assert items_of(own, "few") == wanted
    assert answer.json()["items"] == len(wanted)


def test_a_selection_takes_the_place_of_another_only_when_asked(own: Site) -> None:
    assert save(own, item_ids=[1]).status_code == 200
    refused = save(own, item_ids=[2])
    assert refused.status_code == 409
    assert refused.json() == {
        "ok": False,
        "error": "There is a selection 'few' already: choose another name, or replace it.",
    }
    assert items_of(own, "few") == [1]
    assert save(own, item_ids=[2], replace=True).json()["selection"] == 1
    assert items_of(own, "few") == [2]


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
def test_what_cannot_be_saved(own: Site, fields: dict[str, Any], sentence: str) -> None:
    answer = own.post(SELECTIONS, {"name": "few", **fields})
    assert answer.status_code in (400, 404)
    assert sentence in answer.json()["error"]
    assert rows(own, "select count(*) from selections") == [(0,)]
    assert rows(own, "select count(*) from items") == [(IMAGES + 6,)]


def test_what_is_not_a_form(own: Site) -> None:
    cookies, token = own.signed_in(ROOT)
    for body, sentence in (
        (b"\xff", "not text in UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"{", "not a JSON object"),
    ):
        answer = own.runner.run(
            own.datasette.client.post(
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


def test_a_form_leads_to_what_it_made(own: Site) -> None:
    answer = own.post(SELECTIONS, {"name": "few", "sql": "select 7"}, as_form=True)
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{SELECTIONS}/1"
    wrong = own.post(SELECTIONS, {"name": "few", "sql": "select 7"}, as_form=True)
    assert wrong.status_code == 409
    assert "There is a selection" in wrong.text
    assert wrong.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    "next_", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "x", "/a\nb"]
)
def test_a_form_leads_to_no_other_site(own: Site, next_: str) -> None:
    answer = own.post(SELECTIONS, {"name": "few", "item_ids": "1", "next": next_}, as_form=True)
    assert answer.headers["location"] == f"{SELECTIONS}/1"


def test_rename_and_note(own: Site) -> None:
    save(own, item_ids=[1, 2])
    save(own, "other", item_ids=[3])
    done = own.post(f"{SELECTIONS}/1", {"name": "some", "note": "why"}, as_form=True)
    assert done.headers["location"] == f"{SELECTIONS}/1"
    assert rows(own, "select name, note from selections order by id") == [
        ("some", "why"),
        ("other", None),
    ]
    assert items_of(own, "some") == [1, 2]
    assert own.post(f"{SELECTIONS}/1", {"name": "some"}).status_code == 200  # its own name
    taken = own.post(f"{SELECTIONS}/1", {"name": "other"})
    assert taken.status_code == 409
    assert "There is a selection 'other' already" in taken.json()["error"]
    assert own.post(f"{SELECTIONS}/9", {"name": "new"}).status_code == 404
    assert own.post(f"{SELECTIONS}/1", {"name": "select"}).status_code == 400


def test_delete(own: Site) -> None:
    save(own, item_ids=[1, 2])
    done = own.post(f"{SELECTIONS}/1/delete", {}, as_form=True)
    assert done.headers["location"] == SELECTIONS
    assert rows(own, "select count(*) from selections") == [(0,)]
    assert rows(own, "select count(*) from selection_items") == [(0,)]
    assert rows(own, "select count(*) from items") == [(IMAGES + 6,)]
    assert own.post(f"{SELECTIONS}/1/delete", {}).status_code == 404
    assert own.get(f"{SELECTIONS}/1").status_code == 404


# Tags -----------------------------------------------------------------------------------------------


def tagged(own: Site) -> list[tuple[Any, ...]]:
    sql = "select item_id, name, value from item_labels where source = 'hand' order by 1, 2"
    return rows(own, sql)


def test_tags(own: Site) -> None:
    save(own, "some", item_ids=[2, 3])
    tags = PAGES + "/tags"
    assert (
        own.post(tags, {"name": "look", "value": "good", "item_ids": [1, 2]}).json()["items"] == 2
    )
    assert tagged(own) == [(1, "look", "good"), (2, "look", "good")]
    by_name = own.post(tags, {"name": "look", "value": "bad", "selection": "some"})
    assert by_name.json()["items"] == 2
    assert tagged(own) == [(1, "look", "good"), (2, "look", "bad"), (3, "look", "bad")]
    page = own.get(SELECTIONS).text
    assert '<span class="note">look</span> bad <span class="n">2</span>' in page
    # Only those with this value lose it; then all.
    taken = own.post(tags, {"name": "look", "value": "good", "item_ids": [1, 2, 3], "remove": 1})
    assert taken.json()["items"] == 1
    assert tagged(own) == [(2, "look", "bad"), (3, "look", "bad")]
    assert own.post(tags, {"name": "look", "selection": 1, "remove": "1"}).json()["items"] == 2
    assert tagged(own) == []


def test_a_tag_never_takes_the_place_of_another_label(own: Site) -> None:
    tags = PAGES + "/tags"
    refused = own.post(tags, {"name": "colour", "value": "pink", "item_ids": [1, 2, 91]})
    assert refused.status_code == 409
    assert refused.json()["error"].startswith(
        "2 of these items have a label 'colour' already, from tests"
    )
    removed = own.post(tags, {"name": "colour", "item_ids": [1], "remove": True})
    assert removed.json()["items"] == 0
    assert rows(own, "select value, source from item_labels where item_id in (1, 91)") == [
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
def test_what_cannot_be_a_tag(own: Site, fields: dict[str, Any], sentence: str) -> None:
    answer = own.post(PAGES + "/tags", fields)
    assert answer.status_code in (400, 404)
    assert sentence in answer.json()["error"]
    assert tagged(own) == []


# The pages ------------------------------------------------------------------------------------------


def test_the_pages_of_selections(own: Site, original: Gallery) -> None:
    empty = own.get(SELECTIONS).text
    assert "No selections yet" in empty
    assert "nearsql select FILE NAME" in empty
    assert "<textarea" not in empty  # who may not save sees no form
    corners = [[-1, -1], [3, -1], [1, 3]]
    save(
        own, "by lasso", how="polygon", polygon_json=corners, projection_run_id=original.projection
    )
    save(own, f"it's {SCRIPT}", sql=f"select id from items where id < 3 -- {SCRIPT}", note=SCRIPT)
    for path in ("", "/1", "/2"):
        page = own.get(SELECTIONS + path, actor=ROOT)
        assert page.status_code == 200
        assert SCRIPT not in page.text
    page = own.get(f"{SELECTIONS}/1").text
    assert '<svg class="outline"' in page
    assert f'href="{PAGES}/map/{original.projection}"' in page
    page = own.get(f"{SELECTIONS}/2", actor=ROOT).text
    assert "it&#39;&#39;s" in page  # as SQL writes it, within the example
    assert 'name="csrftoken"' in page


def test_what_a_page_says_of_runs_over_it(own: Site) -> None:
    save(own, "few", item_ids=[1])
    db = connection.connect(own.datasette.get_database("gallery").path)
    with run(db, "cluster", parameters={"within": "few"}) as limited:
        pass
    try:
        page = own.get(f"{SELECTIONS}/1").text
    finally:
        db.execute("delete from runs where id = ?", (limited.id,))
        db.commit()
        db.close()
    assert f'Runs limited to it: <a href="{PAGES}/runs/{limited.id}">' in page


def test_the_pages_of_a_long_selection(own: Site) -> None:
    save(own, "all", sql="select id from items")
    db = connection.connect(own.datasette.get_database("gallery").path)
    db.executemany(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'more', ?, 'x', ?)",
        [(i, f"{i:064x}", i) for i in range(1000, 1130)],
    )
    db.commit()
    db.close()
    try:
        save(own, "all", sql="select id from items", replace=True)
        check_pages(own)
    finally:
        db = connection.connect(own.datasette.get_database("gallery").path)
        db.execute("delete from items where id >= 1000")
        db.commit()
        db.close()


def check_pages(own: Site) -> None:
    assert "Page 1 of 2" in own.get(f"{SELECTIONS}/1").text
    second = own.get(f"{SELECTIONS}/1?page=2").text
    assert f'href="{PAGES}/items/1129"' in second
    assert "There are no more items" in own.get(f"{SELECTIONS}/1?page=3").text
    for wrong in ("0", "x", "-1", "²", "99999999999999999999"):
        assert own.get(f"{SELECTIONS}/1?page={wrong}").status_code == 400


def test_csv(own: Site) -> None:
    save(own, 'a "b" ü', item_ids=[1, IMAGES + 1])
    answer = own.get(f"{SELECTIONS}/1/items.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    wanted = "attachment; filename*=UTF-8''a%20%22b%22%20%C3%BC.csv"
    assert answer.headers["content-disposition"] == wanted
    image, text = csv.DictReader(io.StringIO(answer.text))
    assert (image["id"], image["kind"], image["text"]) == ("1", "image", "")
    assert json.loads(image["labels_json"]) == {"colour": "red"}
    assert text["text"] == f"text 0 {SCRIPT}"


# Who may ------------------------------------------------------------------------------------------

ACTIONS = ("/selections", "/selections/1", "/selections/1/delete", "/tags")


def test_nobody_saves_without_the_permission(own: Site) -> None:
    save(own, item_ids=[1])
    before = rows(own, "select * from selections"), tagged(own)
    for actor in (None, ANNA):
        for path in ACTIONS:
            fields = {"name": "n", "value": "v", "item_ids": [1]}
            assert own.post(PAGES + path, fields, actor).status_code == 403, path
        assert "Change it" not in own.get(f"{SELECTIONS}/1", actor).text
    assert (rows(own, "select * from selections"), tagged(own)) == before


def test_the_configuration_says_who_may(original: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    path.write_bytes(original.path.read_bytes())
    rules = {"databases": {"gallery": {"permissions": {"nearsql-write": ANNA}}}}
    word = "config" if hasattr(Datasette, "allowed") else "metadata"
    opened = Site(path, **{word: rules})
    try:
        assert opened.post(SELECTIONS, {"name": "n", "item_ids": [1]}, ANNA).status_code == 200
        assert (
            opened.post(SELECTIONS, {"name": "m", "item_ids": [1]}, {"id": "bob"}).status_code
            == 403
        )
        assert opened.post(SELECTIONS, {"name": "m", "item_ids": [1]}, None).status_code == 403
        # And she sees the forms; she alone.
        assert "<textarea" in opened.get(SELECTIONS, ANNA).text
        assert "<textarea" not in opened.get(SELECTIONS, {"id": "bob"}).text
    finally:
        opened.close()


def test_an_immutable_file_is_read_only(original: Gallery) -> None:
    with site(immutables=[str(original.path)]) as still:
        still.let_root()
        assert still.get(SELECTIONS, ROOT).status_code == 200
        assert "<textarea" not in still.get(SELECTIONS, ROOT).text
        assert still.post(SELECTIONS, {"name": "n", "item_ids": [1]}).status_code == 403


def test_only_post_writes(own: Site) -> None:
    assert own.get(PAGES + "/tags", ROOT).status_code == 405
    assert own.get(f"{SELECTIONS}/1/delete", ROOT).status_code == 405
    assert own.request("PUT", SELECTIONS).status_code in (403, 405)


@pytest.mark.parametrize("path", ACTIONS)
def test_another_site_cannot_post(own: Site, path: str) -> None:
    """With the cookies of somebody who may write, as a browser sends them along, but from elsewhere."""
    save(own, item_ids=[1])
    before = rows(own, "select * from selections"), tagged(own)
    cookies, _ = own.signed_in(ROOT)
    fields = {"name": "n", "value": "v", "item_ids": "1", "csrftoken": "guessed"}
    forged = (
        {"data": fields},
        {"content": json.dumps(fields), "headers": {"content-type": "text/plain"}},
        {"json": fields},
    )
    for request in forged:
        headers = request.pop("headers", {}) | {
            "origin": "https://elsewhere.example",
            "sec-fetch-site": "cross-site",
        }
        answer = own.runner.run(
            own.datasette.client.post(PAGES + path, cookies=cookies, headers=headers, **request)
        )
        assert answer.status_code == 403
    assert (rows(own, "select * from selections"), tagged(own)) == before


def test_a_page_of_another_base_url(original: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    path.write_bytes(original.path.read_bytes())
    with site(path, settings={"base_url": "/photos/"}) as moved:
        answer = moved.post(SELECTIONS, {"name": "n", "item_ids": [1]})
        assert answer.json()["url"] == f"/photos{SELECTIONS}/1"
        page = moved.get(SELECTIONS, ROOT).text
        assert f'action="/photos{SELECTIONS}"' in page
        assert query_path("gallery", "html", is_first_line=moved.is_first_line) in page


def test_the_sql_of_a_selection_has_a_time_limit(
    own: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsql.datasette_plugins import pages

    monkeypatch.setattr(pages, "TIME_LIMIT", 100)
    monkeypatch.setitem(own.datasette._settings, "sql_time_limit_ms", 50)
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n where i < 0"
    answer = save(own, sql=endless)
    assert answer.status_code == 400
    assert "took longer than 0.1 s" in answer.json()["error"]
