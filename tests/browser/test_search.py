"""The search in a real browser: typed, by an image, by examples, by the keyboard; and the keys of all pages."""

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import Watched, chromium, window
from searched import IMAGES, PIXELS, TFIDF, build, greys
from served import free_port, server

pytestmark = pytest.mark.browser

# What a person does who drops a file, or pastes one, in the words of the browser.
GIVE = """([kind, bytes]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "grey.png", { type: "image/png" }));
    const options = { bubbles: true, cancelable: true };
    const event = kind === "drop"
        ? new DragEvent("drop", { ...options, dataTransfer: data })
        : new ClipboardEvent("paste", { ...options, clipboardData: data });
    document.body.dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    searched = build(tmp_path_factory.mktemp("searched") / "searched.db")
    port = free_port()
    arguments = ("-m", "datasette", "serve", str(searched.path), "--port", str(port))
    with server(*arguments, port=port) as served:
        yield f"{served}/-/nearsql/searched"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(params=[True], ids=["scripts"])
def watched(browser: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    context = window(
        browser, viewport={"width": 1100, "height": 800}, java_script_enabled=request.param
    )
    page = Watched(context.new_page())
    yield page
    page.close()
    context.close()


def results(page: Any) -> list[int]:
    return [int(li.get_attribute("data-item")) for li in page.locator("#results > li").all()]


def test_words_are_typed_and_found(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search")
    page.wait_for_function("document.activeElement.id === 'q'")
    page.keyboard.type("worm -early")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert results(page) == [IMAGES + 3]
    assert page.locator("#results mark").all_inner_texts() == ["worm"]
    assert page.url.endswith("/search?q=worm+-early&space=&k=60")  # nothing empty but the place
    assert page.evaluate("window.hacked") is None


def test_a_text_by_its_meaning(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search")
    page.fill("#q", "the early worm")
    page.select_option("#space", TFIDF)
    with page.expect_navigation():
        page.click("form.search button.main")
    assert results(page)[0] == IMAGES + 1
    assert page.locator("#results .distance").count() == len(results(page))


def test_more_and_less_like_this(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search?like=9&space={PIXELS}&k=12")
    assert len(results(page)) == 12
    with page.expect_navigation():
        page.get_by_label("Less like item", exact=False).first.click()
    assert page.locator(".chip").count() == 2
    unlike = page.locator(".chip.unlike button").get_attribute("value")
    assert int(unlike) not in results(page)
    with page.expect_navigation():
        page.locator(".chip.unlike button").click()
    assert page.locator(".chip").count() == 1
    assert page.locator(".chip.unlike").count() == 0
    with page.expect_navigation():
        page.get_by_role("button", name="Show 12 more").click()
    assert page.url.endswith("more=24#more")
    assert len(results(page)) == IMAGES - 1


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_an_image_is_enough(watched: Watched, address: str, way: str) -> None:
    page = watched.page
    page.goto(f"{address}/search")
    image = greys()[4]
    with page.expect_navigation():
        if way == "choose":
            page.set_input_files(
                "#file", {"name": "grey.png", "mimeType": "image/png", "buffer": image}
            )
        else:
            page.evaluate(GIVE, [way, list(image)])
    assert results(page)[0] == 5
    # The picture that was sent is shown again, although only its vector was kept.
    page.wait_for_function("document.querySelector('#sent-image img').naturalWidth === 8")


def test_a_file_that_is_no_image_is_a_sentence(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search")
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    page.wait_for_function("document.getElementById('image-hint').textContent.includes('JPEG')")
    # The browser itself reports each answer of 400.
    watched.said[:] = [line for line in watched.said if "status of 400" not in line]


@pytest.mark.parametrize("watched", [False], indirect=True, ids=["no scripts"])
def test_it_works_without_scripts(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search")
    page.set_input_files(
        "#file", {"name": "grey.png", "mimeType": "image/png", "buffer": greys()[4]}
    )
    with page.expect_navigation():
        page.get_by_role("button", name="Find images like it").click()
    assert results(page)[0] == 5
    with page.expect_navigation():
        page.get_by_label("More like item 6").click()
    assert page.locator(".chip").count() == 2


def test_results_by_the_keyboard(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search?like=9&space={PIXELS}")
    found = results(page)
    focused = "document.activeElement.closest('li')?.dataset.item"
    page.focus("#q")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == str(found[0])
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == str(found[1])
    page.keyboard.press("ArrowDown")
    columns = page.evaluate(
        "getComputedStyle(document.getElementById('results')).gridTemplateColumns.split(' ').length"
    )
    assert page.evaluate(focused) == str(found[1 + columns])
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == str(found[0])
    with page.expect_navigation():
        page.keyboard.press("+")
    assert page.locator(".chip button").nth(1).get_attribute("value") == str(found[0])
    page.locator("#results a.thumbnail").first.focus()
    first = results(page)[0]
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/items/{first}")


def test_slash_goes_to_the_search_from_anywhere(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search?q=worm")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.evaluate("document.activeElement.selectionEnd") == len("worm")  # all of it
    page.keyboard.press("/")  # typed now
    assert page.input_value("#q") == "/"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") != "q"
    page.goto(f"{address}/items/1")
    page.keyboard.press("/")
    page.wait_for_url(f"{address}/search")
    page.wait_for_function("document.activeElement.id === 'q'")
    assert page.locator("dialog[open]").count() == 0  # Datasette's own menu stays shut


def test_the_question_mark_lists_the_keys(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search?q=worm")
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keys")
    help_.wait_for()
    text = help_.inner_text()
    for line in ("On this page", "More, or less, like the result", "On every page", "Map"):
        assert line in text
    page.keyboard.press("Escape")
    help_.wait_for(state="hidden")
    page.keyboard.press("?")
    help_.get_by_role("button", name="Close").click()
    help_.wait_for(state="hidden")
    page.goto(f"{address}/items/1")
    page.keyboard.press("?")
    help_.wait_for()
    page.keyboard.press("?")
    help_.wait_for(state="hidden")


def test_g_and_a_letter_goes_to_a_page(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/search?q=worm")
    page.keyboard.press("g")
    page.keyboard.press("x")  # no page: forgotten
    page.keyboard.press("o")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url(address)
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url(f"{address}/search")
    page.wait_for_function("document.activeElement.id === 'q'")
    page.keyboard.type("go")  # in the box they are letters
    assert page.input_value("#q") == "go"
