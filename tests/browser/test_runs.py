"""The pages about runs in a real browser: by click and by key, on a wide screen and on a phone."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from chromium import Watched, chromium, window
from compared import SPACE, Compared, build
from gallery import build as build_gallery
from served import free_port, server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    return build(folder / "compared.db", build_gallery(folder / "gallery.db"))


@pytest.fixture(scope="module")
def address(compared: Compared) -> Iterator[str]:
    port = free_port()
    path = str(compared.path)
    with server("-m", "datasette", "serve", path, "--port", str(port), port=port) as served:
        yield f"{served}/-/nearsql/compared"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(params=[("light", 1280), ("dark", 390)], ids=["light", "dark phone"])
def watched(browser: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    scheme, width = request.param
    context = window(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = Watched(context.new_page())
    yield page
    page.close()
    context.close()


def fits(watched: Watched) -> bool:
    """Whether the page is as wide as the screen: what is wider scrolls within itself."""
    return bool(
        watched.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    )


def test_the_lineage_begins_at_its_run_and_leads_on(
    watched: Watched, address: str, compared: Compared
) -> None:
    page = watched.page
    page.goto(f"{address}/runs/{compared.label}")
    chosen = page.locator(".lineage .chosen rect").bounding_box()
    assert 0 <= chosen["x"] <= page.viewport_size["width"] - chosen["width"]
    assert fits(watched)
    page.locator(".lineage .node.run", has_text=f"cluster {compared.second}").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{compared.second}")
    assert page.locator(".lineage .chosen").get_attribute("aria-current") == "true"
    page.keyboard.press("n")
    page.wait_for_url(f"**/runs/{compared.second + 1}")
    page.keyboard.press("p")
    page.wait_for_url(f"**/runs/{compared.second}")


def test_two_runs_are_chosen_in_the_table_and_compared(
    watched: Watched, address: str, compared: Compared
) -> None:
    page = watched.page
    page.goto(f"{address}/runs?kind=cluster")
    assert fits(watched)
    page.get_by_label(f"Compare run {compared.first}", exact=True).check()
    page.get_by_label(f"Compare with run {compared.second}", exact=True).check()
    page.get_by_role("button", name="Compare two runs").click()
    page.wait_for_url("**/diff?**")
    assert fits(watched)
    # The ribbon from green to the noise, and its items.
    ribbon = page.get_by_role("link", name="green → noise: 26 items")
    ribbon.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**from=1**")
    asked = parse_qs(urlsplit(page.url).query)
    assert (asked["from"], asked["to"]) == (["1"], ["noise"])
    assert page.locator(".sheet li").count() == 26
    page.wait_for_function("document.querySelector('.sheet img').naturalWidth > 0")
    page.get_by_role("link", name="The whole comparison").click()
    page.wait_for_url("**/diff?**")
    page.get_by_text("From where to where").click()
    assert page.get_by_role("cell", name="to noise", exact=True).first.is_visible()


def test_ribbons_have_the_colours_of_their_clusters(
    watched: Watched, address: str, compared: Compared
) -> None:
    page = watched.page
    page.goto(f"{address}/diff?a={compared.first}&b={compared.second}")
    fills = page.eval_on_selector_all(
        ".flows .ribbon", "all => all.map((path) => getComputedStyle(path).fill)"
    )
    bars = page.eval_on_selector_all(
        ".flows .bar", "all => all.map((bar) => getComputedStyle(bar).fill)"
    )
    assert len(set(bars)) >= 4  # three clusters and the noise
    assert set(fills) <= set(bars)


def test_spaces_are_chosen_and_compared(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/diff?a=1&b=2")  # the second is a map
    assert page.get_by_role("alert").inner_text().startswith("Run 2 is of kind 'project'")
    form = page.locator("form", has=page.locator("input[name=kind]"))
    form.locator("select[name=a]").select_option(SPACE)
    form.get_by_role("button").click()
    page.wait_for_url("**kind=spaces**")
    assert fits(watched)
    watched.said = [line for line in watched.said if "400 (Bad Request)" not in line]
    page.locator("tbody th a").first.click()
    page.wait_for_url("**shared=**")
    assert page.locator("#items .sheet li").count() > 0
