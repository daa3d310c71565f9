"""The pages about clusters in a real browser: keys, names, the sweep, small and dark screens, no scripts."""

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import Watched, chromium, window
from cluster_tree import ITEMS, SPACE, Tree, build
from itsdangerous import URLSafeSerializer
from served import free_port, server

from nearsql.udfs import connection

pytestmark = pytest.mark.browser

SECRET = "for tests only"
MORE = 60  # clusters besides those of the tree, so that there is a second page


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    made = build(tmp_path_factory.mktemp("tree") / "tree.db")
    db = connection.connect(made.path)
    db.executemany(
        "insert into clusters (run_id, level, label, size) values (?, 1, ?, 1)",
        [(made.clusters, 2 + n) for n in range(MORE)],
    )
    db.commit()
    # What it is compiled to is kept on disk: in a new installation a page has no time to wait for it.
    db.execute("select count(*) from cluster_sweep(?, '[5]', 3)", (SPACE,)).fetchone()
    db.close()
    return made


@pytest.fixture(scope="module")
def address(tree: Tree) -> Iterator[str]:
    port = free_port()
    arguments = ["serve", str(tree.path), "--port", str(port), "--secret", SECRET, "--root"]
    with server("-m", "datasette", *arguments, port=port) as served:
        yield f"{served}/-/nearsql/tree/clusters/{tree.clusters}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


def opened(browser: Any, address: str, **options: Any) -> Watched:
    context = window(browser, **{"viewport": {"width": 1100, "height": 800}, **options})
    cookie = URLSafeSerializer(SECRET, "actor").dumps({"a": {"id": "root"}})
    context.add_cookies([{"name": "ds_actor", "value": cookie, "url": address.partition("/-/")[0]}])
    return Watched(context.new_page())


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[Watched]:
    page = opened(browser, address)
    yield page
    page.close()


def in_focus(page: Any) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def test_keys_go_along_the_list_into_a_cluster_and_back(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    page.keyboard.press("j")
    assert in_focus(page) == "forests"
    page.keyboard.press("ArrowRight")
    within = page.locator("details.within").first
    assert within.evaluate("e => e.open")
    assert within.locator("li").all_inner_texts() == [
        "oaks 18",
        "cluster 0 9",
        "cluster 1 9",
        "beeches 18",
    ]
    page.keyboard.press("ArrowLeft")
    assert not within.evaluate("e => e.open")
    page.keyboard.press("ArrowDown")
    assert in_focus(page).startswith("lakes")
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert in_focus(page) == "forests"
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/1/0")
    page.keyboard.press("]")
    page.wait_for_url(f"{address}/1/1")
    page.keyboard.press("[")
    page.wait_for_url(f"{address}/1/0")
    page.keyboard.press("u")
    page.wait_for_url(address)


def test_keys_turn_the_pages_of_a_list(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    page.keyboard.press("n")
    page.wait_for_url("**page=2")
    assert page.locator("table.clusters a.name").count() == 2 + MORE - 50 + 1  # and the noise
    page.keyboard.press("p")
    page.wait_for_url("**page=1")


def test_what_is_typed_into_a_field_is_no_key(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    page.locator("#q").fill("")
    page.locator("#q").press_sequentially("jnpu[]")
    assert page.locator("#q").input_value() == "jnpu[]"
    assert page.url == address
    page.locator("#q").fill("forest")
    page.locator("#q").press("Enter")
    page.wait_for_url("**q=forest**")
    assert page.locator("table.clusters a.name").all_inner_texts() == ["forests", "Noise"]


def test_a_cluster_is_renamed_and_an_older_name_used_again(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/2/1")
    page.get_by_text("Rename", exact=True).first.click()
    page.locator("#name").fill("copper beeches")
    with page.expect_navigation():
        page.locator("#name").press("Enter")
    assert page.locator("h1").text_content() == "copper beeches"
    assert page.url == f"{address}/2/1"
    page.get_by_text("2 names so far").click()
    assert page.locator("details.within td").nth(0).inner_text() == "root"
    with page.expect_navigation():
        page.get_by_role("button", name="Use again").click()
    assert page.locator("h1").text_content() == "beeches"
    page.goto(f"{address}?level=2")
    assert "named by hand" in page.locator("table.clusters tr", has_text="beeches").inner_text()


def test_members_are_saved_as_a_selection(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/1/noise")
    page.get_by_text("Save as a selection").click()
    page.locator("#selection").fill("lonely ones")
    page.locator("#selection").press("Enter")
    page.wait_for_url("**/selections/*")
    assert "lonely ones" in page.locator("h1").inner_text()
    assert page.locator(".sheet > li").count() == ITEMS // 10


def test_the_sweep_is_drawn_when_asked_for(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/sweep")
    assert page.locator("svg.sweep").count() == 0
    page.locator("#sizes").fill("3, 5, 9, 20")
    with page.expect_navigation():
        page.get_by_role("button", name=f"Sweep {ITEMS} items").click()
    assert page.locator("svg.sweep circle").count() == 12
    frame = page.locator("svg.sweep").bounding_box()
    for circle in page.locator("svg.sweep circle").all():
        box = circle.bounding_box()
        assert frame["x"] <= box["x"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] <= frame["y"] + frame["height"]


def test_pages_fit_a_phone_and_are_dark_in_the_dark(browser: Any, address: str) -> None:
    phone = opened(browser, address, viewport={"width": 390, "height": 844}, color_scheme="dark")
    for path in ("", "?level=3", "/1/0", "/1/1", "/1/noise", "/sweep?go=1"):
        phone.page.goto(address + path)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390, path
    paper, ink = phone.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('h1')).color]"
        ".map(c => c.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b))"
    )
    assert paper < 150
    assert ink > 500
    phone.close()


def test_without_scripts_everything_is_a_link_or_a_form(browser: Any, address: str) -> None:
    plain = opened(browser, address, java_script_enabled=False)
    page = plain.page
    page.goto(address)
    page.get_by_text("4 clusters within").click()
    page.get_by_role("link", name="oaks").click()
    page.wait_for_url(f"{address}/2/0")
    page.locator("#sort").select_option("least")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**sort=least**")
    assert page.locator(".sheet .thumbnail").first.get_attribute("title") == "Item 9"
    plain.close()
