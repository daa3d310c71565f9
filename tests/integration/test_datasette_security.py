"""What the pages must not do: show what the visitor may not see, run what a file says, leak files."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from datasette.app import Datasette
from everything import Everything, addresses, make_hostile
from everything import build as everything_of
from gallery import IMAGES, SCRIPT, Gallery, build, png
from served import ROOT, Site, site

from nearsql.datasette_plugins import register_routes
from nearsql.udfs import connection

ROOT_URL = "/-/nearsql/gallery"
GUARDS = {
    "database": {"databases": {"gallery": {"allow": {"id": "root"}}}},
    "instance": {"allow": {"id": "root"}},
    "sql": {"databases": {"gallery": {"allow_sql": {"id": "root"}}}},
}


@contextmanager
def guarded(path: Path, rules: dict[str, Any]) -> Iterator[Site]:
    """A file under these rules, which 0.65 calls metadata and 1.0 config."""
    word = "config" if hasattr(Datasette, "allowed") else "metadata"
    with site(path, **{word: rules}) as opened:
        yield opened


# A value for each part of an address, by its name in the route.
PARTS = {"database": "gallery", "label": "0", "level": "1"}


def routes() -> list[tuple[str, Any]]:
    """Every route of a database: (an address that it answers, the view)."""
    found = []
    for pattern, view in register_routes():
        if "(?P<database>" not in pattern:
            continue
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda part: PARTS.get(part[1], "1"), pattern)
        path = path.strip("^$").replace("\\.", ".")
        assert re.match(pattern, path), pattern
        found.append((path, view))
    return found


ROUTES = dict(routes())


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    return everything_of(tmp_path_factory.mktemp("everything") / "gallery.db")


@pytest.fixture(scope="module")
def everything_site(everything: Everything) -> Iterator[Site]:
    with site(everything.path) as opened:
        opened.let_root()
        yield opened


def asked(own: Site, path: str, actor: dict[str, Any] | None) -> list[int]:
    """How the address answers to be read, and to be written to by our own pages."""
    return [own.get(path, actor).status_code, own.post(path, {}, actor).status_code]


@pytest.mark.parametrize("guard", GUARDS)
def test_every_route_asks_for_the_right_to_query(
    everything: Everything, guard: str, tmp_path: Path
) -> None:
    # A copy, since root may do everything that he is asked to do here.
    path = Path(shutil.copy(everything.path, tmp_path / "gallery.db"))
    with guarded(path, GUARDS[guard]) as own:
        own.let_root()
        for address in ROUTES:
            answers = asked(own, address, None)
            # 405: there is nothing to be read, or nothing to be written, for anybody.
            assert set(answers) <= {403, 405}, address
            assert 403 in answers, address
            by_root = asked(own, address, ROOT)
            assert set(by_root) - {403, 405}, address
            assert 500 not in by_root, address
        if guard == "sql":
            assert ROOT_URL not in own.get("/gallery").text
            assert ROOT_URL in own.get("/gallery", actor=ROOT).text


def test_without_the_right_to_run_sql_there_are_no_pages(everything: Everything) -> None:
    with site(everything.path, settings={"default_allow_sql": False}) as own:
        assert {own.get(path).status_code for path in ROUTES} <= {403, 405}


def test_what_writes_asks_for_the_right_to_write(everything_site: Site) -> None:
    """Whoever may only read: every address that a POST changes something at refuses him."""
    refused = set()
    for path in ROUTES:
        status = everything_site.post(path, {}, {"id": "anna"}).status_code
        # 400: a search by an image, which changes nothing.
        assert status in (400, 403, 405), path
        if status == 403:
            refused.add(path.rsplit("/", 1)[-1])
    assert {"selections", "1", "delete", "tags", "decide", "name"} <= refused


# What a page of another site can make a browser send: a form, a text, and what a script of it may try.
FORGERIES: tuple[dict[str, Any], ...] = (
    {
        "data": {
            "name": "n",
            "value": "v",
            "item_ids": "1",
            "decision": "keep",
            "csrftoken": "guess",
        }
    },
    {"content": b'{"name": "n", "item_ids": [1]}', "headers": {"content-type": "text/plain"}},
    {"json": {"name": "n", "item_ids": [1], "decision": "keep", "confirm": 1}},
)
# A form with a file, which one address takes: Datasette 0.65's own check fails at such forms.
FILE_FORGERY = {"files": {"file": ("i.png", png((1, 2, 3)), "image/png")}, "data": {"space": "s"}}
# Every address of a database that answers a POST, by what stands in for its parts.
POSTS = {
    "/search",
    "/clusters/1/1/0/name",
    "/findings/1/decide",
    "/selections",
    "/selections/1",
    "/selections/1/delete",
    "/tags",
}
ELSEWHERE = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}


def everything_in(own: Site) -> list[Any]:
    """All that the pages can write: their own tables, whole."""
    database = own.datasette.get_database("gallery")

    def read(opened: Any) -> list[Any]:
        tables = (
            "selections",
            "selection_items",
            "item_labels",
            "cluster_labels",
            "findings",
            "runs",
        )
        return [
            opened.execute(f"select * from {table} order by 1, 2").fetchall() for table in tables
        ]

    return list(own.runner.run(database.execute_fn(read)))


def test_no_page_of_another_site_can_post_anywhere(everything: Everything, tmp_path: Path) -> None:
    """With the cookies of somebody who may do everything, as his browser would send them along."""
    path = Path(shutil.copy(everything.path, tmp_path / "gallery.db"))
    with site(path) as own:
        own.let_root()
        cookies, _ = own.signed_in(ROOT)
        before = everything_in(own)
        posted = set()
        for address in ROUTES:
            # An address that only reads says so to whoever asks.
            if own.post(address, {}, {"id": "anna"}).status_code == 405:
                continue
            posted.add(address.removeprefix(ROOT_URL))
            files = (FILE_FORGERY,) if address.endswith("/search") else ()
            for forgery in (*FORGERIES, *files):
                headers = {**forgery.get("headers", {}), **ELSEWHERE}
                answer = own.runner.run(
                    own.datasette.client.post(
                        address, cookies=cookies, **{**forgery, "headers": headers}
                    )
                )
                assert answer.status_code == 403, (address, forgery)
        assert everything_in(own) == before
        # Each that writes, and the search by an image; a new one is among them by being a route.
        assert posted == POSTS


@pytest.mark.parametrize(
    "table", ["runs", "items", "spaces", "clusters", "folds", "cv_predictions"]
)
def test_a_file_that_lost_rows_has_pages_or_a_sentence(
    everything: Everything, table: str, tmp_path: Path
) -> None:
    """Written by another program, or half copied: no reason for an error without words."""
    path = Path(shutil.copy(everything.path, tmp_path / "gallery.db"))
    with closing(connection.connect(path)) as db:
        db.execute("pragma foreign_keys = off")
        assert db.execute(f"delete from {table}").rowcount > 0
        db.commit()
    with site(path) as own:
        answers = {address: own.get(ROOT_URL + address) for address in addresses(everything)}
    assert not [address for address, answer in answers.items() if answer.status_code >= 500]


def test_the_addresses_of_the_pages_are_complete(
    everything: Everything, everything_site: Site
) -> None:
    """A new page comes into the tests of scripts and of accessibility, too."""
    paths = [ROOT_URL + path.partition("?")[0] for path in addresses(everything)]
    for pattern, _ in register_routes():
        if "(?P<database>" not in pattern:
            continue
        example = next(path for path in ROUTES if re.match(pattern, path))
        if everything_site.get(example, ROOT).status_code != 405:
            assert any(re.match(pattern, path) for path in paths), pattern


def test_every_page_answers(everything: Everything, everything_site: Site) -> None:
    for path in addresses(everything):
        assert everything_site.get(ROOT_URL + path).status_code in (200, 302), path


def test_every_page_answers_for_an_immutable_file(everything: Everything) -> None:
    with site(immutables=[str(everything.path)]) as own:
        own.let_root()
        for path in addresses(everything):
            answer = own.get(ROOT_URL + path, ROOT)
            assert answer.status_code in (200, 302), path
            assert 'name="nearsql-csrf"' not in answer.text, path


def test_every_link_of_every_page_keeps_the_base_url(everything: Everything) -> None:
    with site(everything.path, settings={"base_url": "/photos/"}) as own:
        own.let_root()
        for path in addresses(everything):
            answer = own.get(ROOT_URL + path, ROOT, follow_redirects=True)
            if answer.headers["content-type"].startswith("text/html"):
                links = re.findall(r'(?:href|src|action)="(/[^"]*)"', answer.text)
                assert all(link.startswith("/photos/") for link in links), path


def test_whatever_a_file_says_is_inert(everything: Everything, tmp_path: Path) -> None:
    """Every text of the file ends with a script: names, labels, notes, errors, paths, parameters."""
    path = tmp_path / "gallery.db"
    db = connection.connect(everything.path)
    db.execute("vacuum into ?", (str(path),))
    db.close()
    assert make_hostile(path) > 40
    with site(path) as own:
        own.let_root()
        escaped = 0
        for address in addresses(everything):
            answer = own.get(ROOT_URL + address, ROOT, follow_redirects=True)
            assert answer.status_code in (200, 400, 404), address
            if answer.headers["content-type"].startswith("text/html"):
                assert SCRIPT not in answer.text, address
                escaped += "&lt;script&gt;window.hacked" in answer.text
            else:
                assert answer.headers["x-content-type-options"] == "nosniff", address
        assert escaped > 15
        for table in (
            "items",
            "vectors",
            "clusters",
            "selections",
            "findings",
            "memberships",
            "runs",
        ):
            page = own.get(f"/gallery/{table}")
            assert page.status_code == 200, table
            assert SCRIPT not in page.text, table
        assert SCRIPT not in own.query("gallery", "select 91 as item_id", "html").text


FORGED = ("0", "-1", "9223372036854775808", "1" * 400, "1e3", "%C2%B2", "1;", "..%2f1")


def test_forged_numbers(everything_site: Site) -> None:
    """In the place of a number of each address: a sentence or nothing, never an error of ours."""
    for path in ROUTES:
        parts = list(re.finditer(r"/\d+", path))
        for place, number in enumerate(FORGED if parts else ()):
            part = parts[place % len(parts)]
            forged = path[: part.start()] + "/" + number + path[part.end() :]
            status = everything_site.get(forged, ROOT).status_code
            assert status in (200, 302, 400, 404, 405), forged


def test_images_come_with_their_type_and_guards(gallery_site: Site, gallery: Gallery) -> None:
    response = gallery_site.get(f"{ROOT_URL}/items/1/image")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in response.headers["cache-control"]
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    again = gallery_site.get(
        f"{ROOT_URL}/items/1/image", headers={"if-none-match": response.headers["etag"]}
    )
    assert again.status_code == 304
    assert again.content == b""
    beside = gallery_site.get(f"{ROOT_URL}/items/{IMAGES}/image")
    assert beside.content == gallery.image_file.read_bytes()


def test_an_image_that_is_none_is_not_served(tmp_path: Path) -> None:
    gallery = build(tmp_path / "gallery.db")
    page = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    db = connection.connect(gallery.path)
    db.execute(
        "update item_images set data = ?, media_type = 'image/svg+xml' where item_id = 1", (page,)
    )
    db.execute("update item_images set media_type = 'image/svg+xml' where item_id = 2")
    db.commit()
    db.close()
    with site(gallery.path) as own:
        refused = own.get(f"{ROOT_URL}/items/1/image")
        assert refused.status_code == 404
        assert "holds no image" in unescape(refused.text)
        assert own.get(f"{ROOT_URL}/items/2/image").headers["content-type"] == "image/png"


def secret_file(folder: Path) -> tuple[str, bytes]:
    secret = folder / "secret.txt"
    secret.write_bytes(b"the password is moss")
    return str(secret), secret.read_bytes()


def another_image(folder: Path) -> tuple[str, bytes]:
    """A private image whose bytes the database does not know."""
    image = folder / "private.png"
    image.write_bytes(png((1, 2, 3)))
    return str(image), png((9, 9, 9))


def linked(folder: Path) -> tuple[str, bytes]:
    image = folder / "real.png"
    image.write_bytes(png((1, 2, 3)))
    (folder / "link.png").symlink_to(image)
    return str(folder / "link.png"), image.read_bytes()


def through_dots(folder: Path) -> tuple[str, bytes]:
    (folder / "sub").mkdir()
    image = folder / "real.png"
    image.write_bytes(png((1, 2, 3)))
    return str(folder / "sub" / ".." / "real.png"), image.read_bytes()


def relative(folder: Path) -> tuple[str, bytes]:
    (folder / "real.png").write_bytes(png((1, 2, 3)))
    return "real.png", png((1, 2, 3))


def a_folder(folder: Path) -> tuple[str, bytes]:
    return str(folder), b""


def gone(folder: Path) -> tuple[str, bytes]:
    return str(folder / "gone.png"), png((1, 2, 3))


def a_device(folder: Path) -> tuple[str, bytes]:
    return "/dev/zero", b""


def on_another_host(folder: Path) -> tuple[str, bytes]:
    image = folder / "real.png"
    image.write_bytes(png((1, 2, 3)))
    return f"file://elsewhere{image}", image.read_bytes()


@pytest.mark.parametrize(
    "lure",
    [
        secret_file,
        another_image,
        linked,
        through_dots,
        relative,
        a_folder,
        gone,
        a_device,
        on_another_host,
    ],
)
def test_a_file_that_is_not_the_ingested_image_is_not_served(
    lure: Callable[[Path], tuple[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = build(tmp_path / "gallery.db")
    folder = tmp_path / "lure"
    folder.mkdir()
    monkeypatch.chdir(folder)
    uri, content = lure(folder)
    db = connection.connect(gallery.path)
    db.execute(
        "update items set uri = ?, sha256 = ? where id = ?",
        (uri, hashlib.sha256(content).hexdigest(), IMAGES),
    )
    db.commit()
    db.close()
    with site(gallery.path) as own:
        response = own.get(f"{ROOT_URL}/items/{IMAGES}/image")
    assert response.status_code == 404
    assert "is no longer the file that was ingested" in unescape(response.text)


def test_a_file_uri_is_a_path_too(tmp_path: Path) -> None:
    gallery = build(tmp_path / "gallery.db")
    image = tmp_path / "a b.png"
    image.write_bytes(gallery.image_file.read_bytes())
    db = connection.connect(gallery.path)
    db.execute("update items set uri = ? where id = ?", (image.as_uri(), IMAGES))
    db.commit()
    db.close()
    with site(gallery.path) as own:
        assert own.get(f"{ROOT_URL}/items/{IMAGES}/image").content == image.read_bytes()
