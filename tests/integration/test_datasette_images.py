"""Thumbnails over HTTP: kept by the browser and in memory, refused where the image itself is, never another's."""

import hashlib
import io
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from gallery import IMAGES, Gallery, build, png
from PIL import Image
from served import Site, site

from nearsql.datasette_plugins import pixels, thumbnails
from nearsql.datasette_plugins.thumbnails import Kept
from nearsql.pipeline.runs import immediate
from nearsql.udfs import connection

ROOT = "/-/nearsql/gallery"


def photograph(width: int = 800, height: int = 600, format_: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, format_)
    return out.getvalue()


def replace_image(path: Path, item: int, data: bytes, *, sha256: str | None = None) -> None:
    """Puts other bytes into the file, under their own SHA-256 or another."""
    db = connection.connect(path)
    with immediate(db):
        db.execute("update item_images set data = ? where item_id = ?", (data, item))
        db.execute(
            "update items set sha256 = ? where id = ?",
            (sha256 or hashlib.sha256(data).hexdigest(), item),
        )
    db.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """A gallery whose image 1 is a photograph. Nobody writes to it."""
    gallery = build(tmp_path_factory.mktemp("gallery") / "gallery.db")
    replace_image(gallery.path, 1, photograph())
    return gallery


@pytest.fixture
def own(built: Gallery, tmp_path: Path) -> Gallery:
    """A copy of it that the test may change."""
    path = Path(shutil.copy(built.path, tmp_path / "gallery.db"))
    image_file = Path(shutil.copy(built.image_file, tmp_path / "item90.png"))
    db = connection.connect(path)
    db.execute("update items set uri = ?", (str(image_file.resolve()),))
    db.commit()
    db.close()
    return replace(built, path=path, image_file=image_file)


def size_of(response: Any) -> tuple[int, int]:
    assert response.status_code == 200
    size: tuple[int, int] = Image.open(io.BytesIO(response.content)).size
    return size


def test_a_thumbnail_is_at_least_as_large_as_asked(built: Gallery) -> None:
    sizes = {"": 192, "?size=1": 96, "?size=96": 96, "?size=97": 192, "?size=768": 768}
    with site(built.path) as pages:
        for asked, given in sizes.items():
            response = pages.get(f"{ROOT}/items/1/thumbnail{asked}")
            assert size_of(response) == (given, given * 3 // 4)
            assert response.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("size", ["0", "1537", "-5", "x", "", "1.5", "٩٦", "9" * 5000])
def test_an_impossible_size_is_400_with_a_sentence(gallery_site: Site, size: str) -> None:
    response = gallery_site.get(f"{ROOT}/items/1/thumbnail?size={size}")
    assert response.status_code == 400
    assert "size must be a whole number of pixels from 1 to 1536" in response.text


def test_a_tiny_image_stays_as_it_is(gallery_site: Site) -> None:
    response = gallery_site.get(f"{ROOT}/items/1/thumbnail?size=384")
    assert size_of(response) == (24, 24)
    assert response.headers["content-type"] == "image/png"
    inside, beside = (gallery_site.get(f"{ROOT}/items/{i}/thumbnail") for i in (2, IMAGES))
    for response, colour in ((inside, (105, 20, 20)), (beside, (20, 20, 245))):
        image = Image.open(io.BytesIO(response.content)).convert("RGB")
        assert image.getpixel((12, 12)) == colour


def test_an_address_with_the_images_digest_is_kept_for_good(own: Gallery) -> None:
    version = hashlib.sha256(photograph()).hexdigest()[:16]
    with site(own.path) as pages:
        for_good = pages.get(f"{ROOT}/items/1/thumbnail?v={version}")
        assert for_good.headers["cache-control"] == "private, max-age=31536000, immutable"
        for_now = pages.get(f"{ROOT}/items/1/thumbnail")
        assert for_now.headers["cache-control"] == "private, max-age=3600"
        assert for_now.content == for_good.content
        for response in (for_good, for_now):
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
        for wrong in (version[:15], version[:-1] + "x", "0" * 16):
            assert pages.get(f"{ROOT}/items/1/thumbnail?v={wrong}").status_code == 404, wrong
        # Another image under the same number is told from it.
        replace_image(own.path, 1, photograph(300, 600))
        assert pages.get(f"{ROOT}/items/1/thumbnail?v={version}").status_code == 404
        assert size_of(pages.get(f"{ROOT}/items/1/thumbnail")) == (96, 192)


def test_the_etag_tells_image_and_size(own: Gallery) -> None:
    with site(own.path) as pages:
        small, large = (pages.get(f"{ROOT}/items/1/thumbnail?size={s}") for s in (96, 384))
        etags = {small.headers["etag"], large.headers["etag"]}
        assert len(etags) == 2
        assert all(re.fullmatch(r'"[0-9a-f]{40}"', etag) for etag in etags)
        headers = {"if-none-match": small.headers["etag"]}
        again = pages.get(f"{ROOT}/items/1/thumbnail?size=96", headers=headers)
        assert (again.status_code, again.content) == (304, b"")
        assert pages.get(f"{ROOT}/items/1/thumbnail?size=384", headers=headers).status_code == 200
        replace_image(own.path, 1, photograph(300, 600))
        assert pages.get(f"{ROOT}/items/1/thumbnail?size=96", headers=headers).status_code == 200


def test_a_digest_that_is_none_cannot_write_headers(own: Gallery) -> None:
    hostile = 'x"\r\nset-cookie: a=b\r\n\r\n'.ljust(63) + "\u20ac"
    replace_image(own.path, 1, photograph(), sha256=hostile)
    with site(own.path) as pages:
        for path in ("thumbnail", "image"):
            response = pages.get(f"{ROOT}/items/1/{path}")
            assert response.status_code == 200
            assert re.fullmatch(r'"[0-9a-f]{40}"', response.headers["etag"])
            assert "set-cookie" not in response.headers


def test_a_thumbnail_is_made_once(own: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = pixels.small_picture
    monkeypatch.setattr(
        pixels, "small_picture", lambda data, size: made.append(size) or make(data, size)
    )
    with site(own.path) as pages:
        answers = [
            pages.get(f"{ROOT}/items/1/thumbnail?size={s}") for s in (192, 150, 192, 96, 192)
        ]
    assert made == [192, 96]
    assert answers[0].content == answers[1].content == answers[4].content


def test_what_is_kept_is_bounded() -> None:
    kept = Kept(100)
    for number in range(5):
        kept.put((number,), bytes(30))
    assert [kept.get((n,)) is not None for n in range(5)] == [False, False, True, True, True]
    kept.get((2,))
    kept.put((3,), bytes(10))
    kept.put((9,), bytes(50))
    assert kept.bytes == 90
    assert [kept.get((n,)) is not None for n in (2, 3, 4, 9)] == [True, True, False, True]
    kept.put((7,), bytes(101))
    assert (kept.bytes, kept.get((7,)), kept.get((9,))) == (0, None, None)


def test_what_one_database_shows_another_does_not(own: Gallery, tmp_path: Path) -> None:
    """A database that only names an image's digest does not get at the picture of it."""
    forged = Path(shutil.copy(own.path, tmp_path / "forged.db"))
    db = connection.connect(forged)
    db.execute("delete from item_images where item_id = 1")
    db.execute("update items set uri = null where id = 1")
    db.commit()
    db.close()
    with site(own.path, forged) as pages:
        assert pages.get(f"{ROOT}/items/1/thumbnail").status_code == 200
        refused = pages.get("/-/nearsql/forged/items/1/thumbnail")
        assert refused.status_code == 404
        assert "neither in the database nor in a file" in refused.text


def test_a_deleted_item_has_no_thumbnail_any_more(own: Gallery) -> None:
    with site(own.path) as pages:
        assert pages.get(f"{ROOT}/items/1/thumbnail").status_code == 200
        db = connection.connect(own.path)
        db.execute("delete from items where id = 1")
        db.commit()
        db.close()
        assert pages.get(f"{ROOT}/items/1/thumbnail").status_code == 404


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (IMAGES + 1, f"Item {IMAGES + 1} is not an image of this database"),
        (999, "Item 999 is not an image of this database"),
        (2**70, f"There is no item {2**70} in this database"),
    ],
)
def test_what_is_no_image_has_none(gallery_site: Site, item: int, sentence: str) -> None:
    response = gallery_site.get(f"{ROOT}/items/{item}/thumbnail")
    assert response.status_code == 404
    assert sentence in response.text


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", photograph()[:300], b"\x89PNG\r\n\x1a\n" + bytes(100)]
)
def test_bytes_that_cannot_be_decoded_are_404_with_a_sentence(own: Gallery, data: bytes) -> None:
    replace_image(own.path, 1, data)
    with site(own.path) as pages:
        response = pages.get(f"{ROOT}/items/1/thumbnail")
        assert response.status_code == 404
        assert "Item 1 has no thumbnail: it " in unescape(response.text)


def test_a_file_is_read_only_while_it_is_what_was_ingested(own: Gallery, tmp_path: Path) -> None:
    address = f"{ROOT}/items/{IMAGES}/thumbnail?size=96"
    kept = own.image_file.read_bytes()
    lures = {
        "other bytes": lambda: own.image_file.write_bytes(png((9, 9, 9))),
        "gone": own.image_file.unlink,
        "a link": lambda: (
            (tmp_path / "real.png").write_bytes(kept),
            own.image_file.symlink_to(tmp_path / "real.png"),
        ),
    }
    for lure in lures.values():
        lure()
        with site(own.path) as pages:
            assert pages.get(address).status_code == 404
    own.image_file.unlink()
    own.image_file.write_bytes(kept)
    with site(own.path) as pages:
        assert pages.get(address).status_code == 200


@pytest.mark.parametrize("format_", ["TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("is_beside", [False, True])
def test_formats_that_browsers_do_not_draw_are_shown_all_the_same(
    own: Gallery, format_: str, is_beside: bool
) -> None:
    data = photograph(format_=format_)
    item = IMAGES if is_beside else 1
    own.image_file.write_bytes(data)
    replace_image(own.path, item, data)
    with site(own.path) as pages:
        assert size_of(pages.get(f"{ROOT}/items/{item}/thumbnail")) == (192, 144)
        redirected = pages.get(f"{ROOT}/items/{item}/image")
        assert redirected.status_code == 302
        assert size_of(pages.get(redirected.headers["location"])) == (800, 600)


def test_contact_sheets_ask_for_thumbnails(gallery_site: Site, gallery: Gallery) -> None:
    for path in (f"/clusters/{gallery.clusters}/1/1", "/items/2"):
        page = gallery_site.get(ROOT + path).text
        asked = [unescape(src) for src in re.findall(r'<img src="([^"]+/thumbnail[^"]*)"', page)]
        assert len(asked) >= 12
        for address in asked[:3]:
            assert gallery_site.get(address).status_code == 200
    # The neighbours of an item know their digests: those addresses are for good.
    assert all(re.search(r"size=192&v=[0-9a-f]{16}$", address) for address in asked)


def test_sizes_are_asked_for_by_name(gallery_site: Site, gallery: Gallery) -> None:
    assert set(thumbnails.BY_NAME.values()) < set(thumbnails.SIZES)
    page = gallery_site.get(f"{ROOT}/clusters/{gallery.clusters}/1/1").text
    sizes = {int(size) for size in re.findall(r"/thumbnail\?size=(\d+)", page)}
    assert sizes <= set(thumbnails.BY_NAME.values())


def test_of_a_large_photograph_the_page_shows_what_a_screen_can(own: Gallery) -> None:
    db = connection.connect(own.path)
    with site(own.path) as pages:
        for width, height, shown in ((1536, 800, "image"), (1000, 1537, "thumbnail")):
            replace_image(own.path, 1, photograph(width, height))
            db.execute("update items set width = ?, height = ? where id = 1", (width, height))
            db.commit()
            page = pages.get(f"{ROOT}/items/1").text
            source = unescape(re.search(r'<img src="([^"]+)" alt="Item 1,', page)[1])
            assert source.rpartition("/")[2].partition("?")[0] == shown
            assert max(size_of(pages.get(source))) == 1536
    db.close()
