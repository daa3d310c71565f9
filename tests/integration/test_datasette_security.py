"""What the pages must not do: show what the visitor may not see, run what a file says, leak files."""

import hashlib
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from gallery import IMAGES, SCRIPT, Gallery, build, png
from served import Site, site

from nearsql.udfs import connection

ROOT = "/-/nearsql/gallery"
PAGES = (
    "",
    "/clusters",
    "/clusters/1",
    "/clusters/1/1/0",
    "/clusters/1/1/noise",
    "/map",
    "/map/2",
    "/map/2/columns",
    "/items/1",
    "/items/1/image",
    "/items/1/thumbnail",
    "/items/1/card",
    "/items/1/panel",
)
GUARDS = {
    "database": {"databases": {"gallery": {"allow": {"id": "root"}}}},
    "instance": {"allow": {"id": "root"}},
    "sql": {"databases": {"gallery": {"allow_sql": {"id": "root"}}}},
}


def guarded(gallery: Gallery, rules: dict) -> Site:
    """The gallery under these rules, which 0.65 calls metadata and 1.0 config."""
    try:
        return Site(gallery.path, config=rules)
    except TypeError:
        return Site(gallery.path, metadata=rules)


@pytest.mark.parametrize("guard", GUARDS)
def test_every_route_asks_for_the_right_to_query(gallery: Gallery, guard: str) -> None:
    own = guarded(gallery, GUARDS[guard])
    try:
        for path in PAGES:
            assert own.get(ROOT + path).status_code == 403, path
            assert own.get(ROOT + path, actor={"id": "root"}).status_code in (200, 302), path
        if guard == "sql":
            page = own.get("/gallery").text
            assert ROOT not in page
            assert ROOT in own.get("/gallery", actor={"id": "root"}).text
    finally:
        own.close()


def test_without_the_right_to_run_sql_there_are_no_pages(gallery: Gallery) -> None:
    with site(gallery.path, settings={"default_allow_sql": False}) as own:
        assert {own.get(ROOT + path).status_code for path in PAGES} == {403}


def test_the_list_of_guarded_routes_is_complete() -> None:
    from nearsql.datasette_plugins import register_routes

    patterns = [pattern for pattern, _ in register_routes() if "assets" not in pattern]
    tested = [p for p in patterns if any(re.match(p, ROOT + path) for path in PAGES)]
    assert tested == patterns


def test_texts_and_names_are_inert(gallery_site: Site, gallery: Gallery) -> None:
    for path in (*PAGES, f"/items/{IMAGES + 1}", f"/items/{IMAGES + 1}/card", "/items/71/panel"):
        response = gallery_site.get(ROOT + path, follow_redirects=True)
        if response.headers["content-type"].startswith("text/html"):
            assert SCRIPT not in response.text, path
    escaped = "&lt;script&gt;window.hacked"
    for path in ("", "/clusters/1", "/clusters/1/1/2", f"/items/{IMAGES + 1}", "/items/71/panel"):
        assert escaped in gallery_site.get(ROOT + path).text, path
    card = gallery_site.get(f"{ROOT}/items/{IMAGES + 1}/card").text
    assert escaped in card
    table = gallery_site.query("gallery", "select 91 as item_id", "html").text
    assert SCRIPT not in table


def test_images_come_with_their_type_and_guards(gallery_site: Site, gallery: Gallery) -> None:
    response = gallery_site.get(f"{ROOT}/items/1/image")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in response.headers["cache-control"]
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    again = gallery_site.get(
        f"{ROOT}/items/1/image", headers={"if-none-match": response.headers["etag"]}
    )
    assert again.status_code == 304
    assert again.content == b""
    beside = gallery_site.get(f"{ROOT}/items/{IMAGES}/image")
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
        refused = own.get(f"{ROOT}/items/1/image")
        assert refused.status_code == 404
        assert "holds no image" in unescape(refused.text)
        assert own.get(f"{ROOT}/items/2/image").headers["content-type"] == "image/png"


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
        response = own.get(f"{ROOT}/items/{IMAGES}/image")
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
        assert own.get(f"{ROOT}/items/{IMAGES}/image").content == image.read_bytes()
