"""A shared page in a real browser, opened from a folder: it draws, can be searched, and asks nobody."""

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium, window
from gallery import IMAGES, PER_COLOUR, SCRIPT, Gallery, build
from PIL import Image
from playwright.sync_api import expect

from nearsql.pipeline.share.make import share
from nearsql.udfs import connection

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    gallery = build(tmp_path_factory.mktemp("gallery") / "gallery.db")
    db = connection.connect(gallery.path)
    db.execute(
        "insert into projection_points (run_id, item_id, x, y) values (?, ?, 5, 5)",
        (gallery.projection, IMAGES + 1),  # a text among the images
    )
    db.commit()
    db.close()
    return gallery


@pytest.fixture(scope="module")
def site(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("site") / "a site.html"
    db = connection.connect(gallery.path, read_only=True)
    share(db, gallery.path, to, title=SCRIPT, quiet=True)
    db.close()
    return to


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, site: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    context = window(
        browser, viewport={"width": 1100, "height": 700}, color_scheme=request.param, offline=True
    )
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: said.append(f"error: {error}"))
    opened.on("request", lambda asking: asked.append(asking.url))
    opened.goto(site.as_uri())
    opened.wait_for_selector("body[data-complete]")
    yield opened
    assert opened.evaluate("window.hacked") is None
    context.close()
    # Nothing was refused by the policy either: that would be an error on the console.
    assert not said
    assert [url for url in asked if not url.startswith("blob:")] == [site.as_uri()]


def strong_colours(page: Any) -> set[tuple[int, ...]]:
    """The colours, far from grey, that many pixels of the map have."""
    shot = Image.open(BytesIO(page.locator(".canvas").screenshot())).convert("RGB")
    counted = shot.getcolors(2**24)
    return {colour for n, colour in counted if n > 100 and max(colour) - min(colour) > 60}


def test_it_draws_and_names(page: Any) -> None:
    assert page.locator("h1").inner_text() == SCRIPT
    deadline = time.monotonic() + 20
    while len(strong_colours(page)) < 3 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert len(strong_colours(page)) >= 3
    names = page.locator(".names span:visible").all_inner_texts()
    assert {"cluster 0", "green"} <= set(names)
    entries = page.locator("#legend .entries .name").all_inner_texts()
    assert entries[:2] == ["cluster 0", "green"]
    assert "noise" in entries
    said = page.locator("#holds").inner_text()
    assert f"Thumbnails of all {IMAGES} images." in said
    assert "The first 240 letters of 1 texts." in said


def test_colours(page: Any) -> None:
    options = page.locator("#colour option").all_inner_texts()
    assert options == ["Clusters", "colour", "topic", "Outlier score"]
    page.select_option("#colour", label="colour")
    page.wait_for_selector("body[data-drawn='label:colour']")
    assert page.locator("#legend .entries .name").all_inner_texts()[:3] == ["blue", "green", "red"]
    page.select_option("#colour", label="Outlier score")
    page.wait_for_selector("#legend .histogram")


def test_search(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("RED")
    said = page.locator("#filter .facts")
    expect(said).to_have_text(f"{PER_COLOUR} found")
    assert page.locator("#found li img").count() == PER_COLOUR
    # None but small images has this class, and only once it is there.
    expect(page.locator("#found img.tiny")).to_have_count(PER_COLOUR)
    page.locator("#found button").first.click()
    assert page.locator("#panel dd", has_text="red").count() == 1
    page.fill("#search", "text 0")
    expect(said).to_have_text("1 found")
    page.locator("#found button").click()
    assert SCRIPT in page.locator("#panel .text").inner_text()
    page.fill("#search", "no such thing")
    expect(said).to_have_text("0 found")
    assert page.locator("#found").is_hidden()


def test_pointer_and_keyboard(page: Any) -> None:
    page.locator(".canvas").focus()
    page.keyboard.press("ArrowRight")
    card = page.locator("#card")
    card.wait_for(state="visible")
    item = card.get_attribute("data-item")
    page.keyboard.press("Enter")
    assert page.locator("#panel h2").inner_text() == f"Item {item}"
    assert card.is_hidden()
    page.keyboard.press("Escape")
    assert page.locator("#panel").is_hidden()
    page.keyboard.press("+")
    page.keyboard.press("0")
    # A legend entry hides its group.
    entry = page.locator("#legend .entries button", has_text="green")
    entry.click()
    assert entry.get_attribute("aria-pressed") == "false"
    assert "green" not in page.locator(".names span:visible").all_inner_texts()


def test_a_telephone(browser: Any, site: Path) -> None:
    context = window(browser, viewport={"width": 390, "height": 844}, has_touch=True)
    opened = context.new_page()
    opened.goto(site.as_uri())
    opened.wait_for_selector("body[data-complete]")
    wide = opened.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert wide <= 390
