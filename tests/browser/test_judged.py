"""Findings decided by the keyboard, by the mouse and without scripts; and the plots of evaluations under the pointer."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from chromium import Watched, chromium, window
from itsdangerous import URLSafeSerializer
from judged_pages import MISLABELLED, Judged, build
from served import free_port, server

from nearsql.udfs import connection

pytestmark = pytest.mark.browser

SECRET = "a secret of the tests"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """With five copies of a finding, so that there is a list to go through."""
    made = build(tmp_path_factory.mktemp("judged") / "judged.db")
    with closing(connection.connect(made.path)) as db:
        db.execute(
            "insert into findings (run_id, kind, item_id, score, evidence_json)"
            " select f.run_id, f.kind, i.id, 0.5, f.evidence_json from findings f join items i"
            " on i.id between 20 and 24 where f.kind = 'label_error' and f.item_id = ?",
            (MISLABELLED,),
        )
        db.commit()
    return made


@pytest.fixture(scope="module")
def address(judged: Judged) -> Iterator[str]:
    port = free_port()
    arguments = ("serve", str(judged.path), "--port", str(port), "--secret", SECRET, "--root")
    with server("-m", "datasette", *arguments, port=port) as served:
        yield f"{served}/-/nearsql/judged"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def opened(
    browser: Any, address: str, request: pytest.FixtureRequest, judged: Judged
) -> Iterator[Watched]:
    """A page of root's. With the parameter False, without scripts."""
    scripts = getattr(request, "param", True)
    context = window(browser, viewport={"width": 1200, "height": 800}, java_script_enabled=scripts)
    cookie = URLSafeSerializer(SECRET, "actor").dumps({"a": {"id": "root"}})
    context.add_cookies([{"name": "ds_actor", "value": cookie, "url": address}])
    page = Watched(context.new_page())
    yield page
    with closing(connection.connect(judged.path)) as db:
        db.execute("update findings set decision = null, decided_at = null")
        db.commit()
    page.close()
    context.close()


def decisions(judged: Judged) -> list[str | None]:
    """Of the label errors, in the order of the worklist."""
    with closing(connection.connect(judged.path, read_only=True)) as db:
        return [
            said
            for (said,) in db.execute(
                "select decision from findings where kind = 'label_error' order by score desc, id"
            )
        ]


def wait_for(opened: Watched, decided: int) -> None:
    """Until the page says that so many are decided, which it does when they are stored."""
    opened.page.locator("#progress span", has_text=re.compile(rf"^{decided} of ")).wait_for()


def test_the_keyboard_goes_through_a_worklist(
    opened: Watched, address: str, judged: Judged
) -> None:
    page = opened.page
    page.goto(f"{address}/findings/{judged.found}?kind=label_error")
    findings = page.locator(".finding")
    n = findings.count()
    assert n >= 6
    page.locator(".finding.current").wait_for()
    assert page.evaluate("document.activeElement.id") == findings.nth(0).get_attribute("id")
    page.keyboard.press("y")
    page.keyboard.press("n")
    page.keyboard.press("j")
    page.keyboard.press("y")
    wait_for(opened, 3)
    assert decisions(judged)[:5] == ["keep", "dismiss", None, "keep", None]
    assert page.evaluate("document.activeElement.id") == findings.nth(4).get_attribute("id")
    assert "2 kept, 1 dismissed" in page.locator("#progress").inner_text()
    page.keyboard.press("k")
    page.keyboard.press("n")  # another mind
    wait_for(opened, 3)
    page.locator("#progress span", has_text="1 kept, 2 dismissed").wait_for()
    page.keyboard.press("u")
    page.locator("#progress span", has_text="2 kept, 1 dismissed").wait_for()
    page.keyboard.press("u")
    wait_for(opened, 2)
    assert decisions(judged)[:5] == ["keep", "dismiss", None, None, None]
    page.keyboard.press("Enter")  # on the one that was undone
    page.wait_for_url(re.compile(r"/items/\d+$"))


def test_a_button_decides_and_can_be_pressed_again(
    opened: Watched, address: str, judged: Judged
) -> None:
    page = opened.page
    page.goto(f"{address}/findings/{judged.found}?kind=label_error")
    second = page.locator(".finding").nth(1)
    second.get_by_role("button", name="Dismiss").click()
    wait_for(opened, 1)
    assert decisions(judged)[1] == "dismiss"
    assert second.get_by_role("button", name="Dismiss").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.id") == second.get_attribute("id")
    second.get_by_role("button", name="Undo").click()
    wait_for(opened, 0)
    assert decisions(judged)[1] is None
    assert second.get_by_role("button", name="Undo").count() == 0


@pytest.mark.parametrize("opened", [False], indirect=True)
def test_without_scripts_the_buttons_are_forms(
    opened: Watched, address: str, judged: Judged
) -> None:
    page = opened.page
    page.goto(f"{address}/findings/{judged.found}?kind=label_error")
    page.locator(".finding").nth(0).get_by_role("button", name="Keep").click()
    page.wait_for_url(re.compile(r"kind=label_error.*#f\d+$"))
    assert decisions(judged)[0] == "keep"
    assert "1 of" in page.locator("#progress").inner_text()
    first = page.locator(".finding").nth(0)
    assert first.get_by_role("button", name="Keep").get_attribute("aria-pressed") == "true"
    with page.expect_navigation():
        first.get_by_role("button", name="Undo").click()
    assert page.locator("#progress span").first.inner_text().startswith("0 of ")
    assert decisions(judged)[0] is None


def test_what_is_not_stored_is_said(opened: Watched, address: str, judged: Judged) -> None:
    page = opened.page
    page.goto(f"{address}/findings/{judged.found}?kind=label_error")
    page.locator(".finding.current").wait_for()
    page.evaluate("""() => {
        window.asked = window.fetch;
        window.fetch = async () => Response.json({ ok: false, error: "The file is locked." });
    }""")
    page.keyboard.press("y")
    page.locator("#said").wait_for()
    assert page.locator("#said").inner_text() == "Not stored: The file is locked."
    assert page.locator(".finding").nth(0).get_attribute("data-decision") == ""
    assert decisions(judged)[0] is None
    page.evaluate("() => { window.fetch = window.asked; }")
    page.keyboard.press("k")
    page.keyboard.press("y")
    wait_for(opened, 1)
    assert page.locator("#said").is_hidden()


def test_keys_do_nothing_while_somebody_types(
    opened: Watched, address: str, judged: Judged
) -> None:
    page = opened.page
    page.goto(f"{address}/findings/{judged.found}?kind=label_error")
    page.locator(".finding.current").wait_for()
    page.keyboard.press("y")
    wait_for(opened, 1)
    page.reload()
    page.locator("input[name=name]").fill("")
    page.locator("input[name=name]").press_sequentially("jynu")
    assert page.locator("input[name=name]").input_value() == "jynu"
    assert sum(said is not None for said in decisions(judged)) == 1


def test_points_say_what_they_are_and_open_their_setting(
    opened: Watched, address: str, judged: Judged
) -> None:
    page = opened.page
    page.goto(f"{address}/evaluations/{judged.of_label}")
    point = page.locator('svg.plot a[data-tip^="poor, distance, k 5"]')
    point.hover()
    tip = page.locator(".tip")
    tip.wait_for()
    assert re.match(r"poor, distance, k 5: accuracy 0\.\d{4} \(folds", tip.inner_text())
    point.click()
    page.wait_for_url(re.compile("space=poor&k=5&weighting=distance"))
    assert page.locator("#chosen h2").inner_text() == "poor, k 5, distance"
    page.mouse.move(2, 2)
    cell = page.locator("table.heat td.right a").first
    cell.focus()
    assert "recognised" in tip.inner_text()
    page.keyboard.press("Enter")
    page.locator("ol.sheet").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(
    opened: Watched, address: str, judged: Judged, width: int
) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 800})
    for path in (
        "evaluations",
        f"evaluations/{judged.of_label}",
        f"evaluations/{judged.of_number}",
        f"evaluations/{judged.of_label}/items",
        f"evaluations/{judged.of_label}/items/{MISLABELLED}",
        "findings",
        f"findings/{judged.found}?kind=label_error",
    ):
        page.goto(f"{address}/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
