"""What axe-core says of every page, light and dark: nothing serious. And no page asks anybody else."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import Watched, chromium, window
from everything import Everything, addresses, build
from served import free_port

pytestmark = pytest.mark.browser

# Answers that are no page of their own: columns, pictures, fragments, downloads.
NO_PAGES = (
    *("columns", "colours", "within", "inside", "sheet", "image", "thumbnail", "card", "panel"),
    *("download", "items.csv"),
)

# Datasette's frame around our pages is not ours to mend.
OURS = {"include": [[".content"]]}
# The rules that say something of a part; those of whole documents are about the frame.
OPTIONS = {"resultTypes": ["violations"], "rules": {"region": {"enabled": False}}}
# What does not depend on colours is asked in the light only.
OF_COLOURS: dict[str, Any] = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}

WINDOW, TELEPHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SETTLING = 300  # milliseconds in which scripts fill a page


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    return build(tmp_path_factory.mktemp("everything") / "gallery.db")


@pytest.fixture(scope="module")
def link(everything: Everything) -> Iterator[str]:
    """The link by which `nearsql serve` lets its user write, while it serves."""
    main = (
        "from nearsql.pipeline.commands import serve; serve.SQL_TIME_LIMIT_MS = 120_000;"
        "from nearsql.pipeline.cli import main; main()"
    )
    arguments = ("serve", str(everything.path), "--port", str(free_port()), "--no-open")
    process = subprocess.Popen(
        [sys.executable, "-c", main, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    said = process.stderr.readline() + process.stderr.readline()
    yield re.findall(r"open (http\S+) once", said)[0]
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def cookies(browser: Any, link: str) -> list[dict[str, Any]]:
    """Those of somebody who has followed the link, which works once."""
    context = window(browser)
    page = context.new_page()
    page.goto(link)
    assert page.url.endswith("/-/nearsql/gallery")
    kept: list[dict[str, Any]] = context.cookies()
    context.close()
    return kept


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(
    browser: Any, everything: Everything, link: str, cookies: Any, scheme: str
) -> None:
    """With all forms, as it is for somebody who may write; and no wider than a telephone."""
    context = window(browser, viewport=WINDOW, color_scheme=scheme)
    context.add_cookies(cookies)
    watched = Watched(context.new_page())
    page = watched.page
    root = re.sub(r"/-/nearsql-enter.*", "/-/nearsql/gallery", link)
    options = OPTIONS if scheme == "light" else OF_COLOURS
    found, wide = [], []
    for address in addresses(everything):
        if address.partition("?")[0].rsplit("/", 1)[-1] in NO_PAGES:
            continue
        assert page.goto(root + address).status == 200, address
        page.wait_for_timeout(SETTLING)
        for violation in Axe().run(page, context=OURS, options=options).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [node["html"][:160] for node in violation["nodes"][:3]]
                found.append((address, violation["id"], nodes))
        if scheme == "light":
            page.set_viewport_size(TELEPHONE)
            if page.evaluate("document.documentElement.scrollWidth") > TELEPHONE["width"]:
                wide.append(address)
            page.set_viewport_size(WINDOW)
    watched.close()
    context.close()
    assert not found
    assert not wide
