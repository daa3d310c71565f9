"""Searching by an image that is sent: as a form and as the page's script send it, and what is refused."""

from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from searched import PIXELS, TFIDF, Searched, distances, grey, greys, raw, shown
from served import Site, site

from nearsql.datasette_plugins import search_image
from nearsql.datasette_plugins.pages import Problem
from nearsql.datasette_plugins.search_image import multipart_fields
from nearsql.udfs import connection

ROOT = "/-/nearsql/searched/search"


@pytest.fixture
def own(searched_site: Site) -> Site:
    return searched_site


def form(own: Site, fields: dict[str, str], image: bytes | None, **options: Any) -> Any:
    cookies, token = own.signed_in(None)
    files = (
        {"file": ("photo.png", image, "image/png")} if image is not None else {"file": ("", b"")}
    )
    return own.runner.run(
        own.datasette.client.post(
            ROOT, data={"csrftoken": token, **fields}, files=files, cookies=cookies, **options
        )
    )


def test_an_image_is_found_by_itself(own: Site) -> None:
    answer = form(own, {"space": PIXELS}, greys()[4])
    assert answer.status_code == 303
    page = own.get(answer.headers["location"]).text
    assert shown(page)[0] == 5
    assert distances(page)[0] == "0"
    assert "Nearest to the image in pixels" in page
    same = raw(own, f"{ROOT}?space={PIXELS}", greys()[4]).json()
    assert same == {"ok": True, "url": answer.headers["location"]}


def test_an_image_from_elsewhere_and_the_rest_of_the_search(own: Site) -> None:
    answer = form(own, {"space": PIXELS, "label": "shade=bright", "k": "12"}, grey(40))
    asked = {k: v[0] for k, v in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert len(asked.pop("image")) == 8 * 16
    assert asked == {"space": PIXELS, "label": "shade=bright", "k": "12"}
    page = own.get(answer.headers["location"]).text
    assert set(shown(page)) == set(range(17, 25))
    # Together with an item, it is one of several wishes.
    page = own.get(answer.headers["location"] + "&like=24").text
    assert "Nearest to these in pixels" in page
    assert 24 not in shown(page)


def test_an_image_that_is_none_is_a_sentence(own: Site) -> None:
    for refused in (
        form(own, {"space": PIXELS}, b"no image at all"),
        raw(own, f"{ROOT}?space={PIXELS}", b"no image at all"),
    ):
        assert refused.status_code == 400
        assert "the image has no place in the space: it is none of JPEG" in unescape(refused.text)
    nothing = form(own, {"space": PIXELS}, None)
    assert "Choose an image first" in nothing.text
    assert "Say in which space" in raw(own, ROOT, greys()[0]).json()["error"]
    assert "has no place for images" in raw(own, f"{ROOT}?space={TFIDF}", grey(9)).json()["error"]
    assert "there is no space 'x'" in raw(own, f"{ROOT}?space=x", grey(9)).json()["error"]


def test_an_image_has_its_limit(own: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_image, "IMAGE_LIMIT", 50)
    refused = raw(own, f"{ROOT}?space={PIXELS}", greys()[0])
    assert refused.status_code == 413
    assert refused.json()["error"] == "At most 50 bytes can be sent here."
    monkeypatch.setattr(search_image, "IMAGE_LIMIT", 10**6)
    monkeypatch.setattr(search_image, "DIMENSIONS_MOST", 15)
    refused = raw(own, f"{ROOT}?space={PIXELS}", greys()[0])
    assert "has 16 dimensions, and the address of a page has room for 15" in refused.json()["error"]


def test_an_image_asks_for_the_right_to_query(searched: Searched) -> None:
    with site(searched.path, settings={"default_allow_sql": False}) as closed:
        assert raw(closed, f"{ROOT}?space={PIXELS}", grey(9)).status_code == 403
        assert closed.get(ROOT).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"},
        {"origin": "https://elsewhere.example"},
        {"sec-fetch-site": "same-site"},
        {"origin": "null"},
    ],
)
def test_an_image_from_another_site_is_refused(own: Site, headers: dict[str, str]) -> None:
    assert form(own, {"space": PIXELS}, greys()[0], headers=headers).status_code == 403
    own_page = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert form(own, {"space": PIXELS}, greys()[0], headers=own_page).status_code == 303


def test_a_search_by_image_works_where_nothing_can_be_written(searched: Searched) -> None:
    copy = searched.path.parent / "frozen.db"
    db = connection.connect(searched.path)
    db.execute("vacuum into ?", (str(copy),))
    db.close()
    frozen = Site(immutables=[str(copy)], settings={"base_url": "/here/"})
    try:
        answer = raw(frozen, f"/-/nearsql/frozen/search?space={PIXELS}", greys()[4])
        url = answer.json()["url"]
        assert url.startswith("/here/-/nearsql/frozen/search?")
        page = frozen.get(url.removeprefix("/here")).text
        assert shown(page)[0] == 5
        assert 'action="/here/-/nearsql/frozen/search"' in page
        assert 'name="sql"' not in page  # nothing can be saved here
    finally:
        frozen.close()


def test_a_form_is_taken_apart() -> None:
    head = "multipart/form-data; boundary=xyz"
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="csrftoken"\r\n\r\nabc\r\n'
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a;b.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n--xy\r\n\r\n\r\n--xyz--\r\n"
    )
    assert multipart_fields(head, body) == {
        "csrftoken": b"abc",
        "file": b"\x89PNG\r\n\x1a\n--xy\r\n\r\n",
    }
    for kind, broken in (("multipart/form-data", body), (head, b"--xyz\r\nno head\r\n--xyz--")):
        with pytest.raises(Problem, match="is not a form"):
            multipart_fields(kind, broken)
    assert multipart_fields(head, b"") == {}
