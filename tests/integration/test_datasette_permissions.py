"""Who may save through the pages, and from where: only by our own pages, and only where it was allowed."""

import json
from pathlib import Path

import pytest
from datasette.app import Datasette
from gallery import Gallery
from served import ROOT, Site, query_path, site
from written import ANNA, PAGES, SELECTIONS, rows, save, tagged

ACTIONS = ("/selections", "/selections/1", "/selections/1/delete", "/tags")


def test_nobody_saves_without_the_permission(writable: Site) -> None:
    save(writable, item_ids=[1])
    before = rows(writable, "select * from selections"), tagged(writable)
    for actor in (None, ANNA):
        for path in ACTIONS:
            fields = {"name": "n", "value": "v", "item_ids": [1]}
            assert writable.post(PAGES + path, fields, actor).status_code == 403, path
        assert "Change it" not in writable.get(f"{SELECTIONS}/1", actor).text
    assert (rows(writable, "select * from selections"), tagged(writable)) == before


def test_the_configuration_says_who_may(written_gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    path.write_bytes(written_gallery.path.read_bytes())
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


def test_an_immutable_file_is_read_only(written_gallery: Gallery) -> None:
    with site(immutables=[str(written_gallery.path)]) as still:
        still.let_root()
        assert still.get(SELECTIONS, ROOT).status_code == 200
        assert "<textarea" not in still.get(SELECTIONS, ROOT).text
        assert still.post(SELECTIONS, {"name": "n", "item_ids": [1]}).status_code == 403


def test_only_post_writes(writable: Site) -> None:
    assert writable.get(PAGES + "/tags", ROOT).status_code == 405
    assert writable.get(f"{SELECTIONS}/1/delete", ROOT).status_code == 405
    assert writable.request("PUT", SELECTIONS).status_code in (403, 405)


@pytest.mark.parametrize("path", ACTIONS)
def test_another_site_cannot_post(writable: Site, path: str) -> None:
    """With the cookies of somebody who may write, as a browser sends them along, but from elsewhere."""
    save(writable, item_ids=[1])
    before = rows(writable, "select * from selections"), tagged(writable)
    cookies, _ = writable.signed_in(ROOT)
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
        answer = writable.runner.run(
            writable.datasette.client.post(
                PAGES + path, cookies=cookies, headers=headers, **request
            )
        )
        assert answer.status_code == 403
    assert (rows(writable, "select * from selections"), tagged(writable)) == before


def test_a_page_of_another_base_url(written_gallery: Gallery, tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    path.write_bytes(written_gallery.path.read_bytes())
    with site(path, settings={"base_url": "/photos/"}) as moved:
        answer = moved.post(SELECTIONS, {"name": "n", "item_ids": [1]})
        assert answer.json()["url"] == f"/photos{SELECTIONS}/1"
        page = moved.get(SELECTIONS, ROOT).text
        assert f'action="/photos{SELECTIONS}"' in page
        assert query_path("gallery", "html", is_first_line=moved.is_first_line) in page
