"""The documentation site: it builds without a network, every link in it leads somewhere, and its pages ask
nobody else for anything."""

import functools
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import Watched

pytestmark = [pytest.mark.site, pytest.mark.browser]

DOCS = Path(__file__).parents[2] / "docs"
ELSEWHERE = re.compile(r"^https?://(?!127\.0\.0\.1[:/])")
WINDOW, TELEPHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What `make site` does."""
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *("-W", "--keep-going", "-q", "-E"), source, target],
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is built into."""
    folder = tmp_path_factory.mktemp("site")
    done = build(DOCS, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where it is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def open_page(browser: Any, viewport: dict[str, int], scheme: str) -> tuple[Watched, list[str]]:
    """A page that cannot reach anybody else, and the answers that it got other than "here it is"."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    page.set_default_timeout(60_000)
    page.route(ELSEWHERE, lambda route: route.abort())
    refused: list[str] = []
    page.on("response", lambda r: refused.append(r.url) if r.status >= 400 else None)
    return Watched(page), refused


def test_every_page_opens_without_a_network(browser: Any, site: Path, address: str) -> None:
    pages = {file.relative_to(site).as_posix() for file in site.rglob("*.html")}
    # All that is written is there; Sphinx's search comes on top.
    written = {
        file.relative_to(DOCS).with_suffix(".html").as_posix() for file in DOCS.rglob("*.md")
    }
    assert pages == written | {"search.html"}
    watched, refused = open_page(browser, TELEPHONE, "dark")
    for name in sorted(pages):
        watched.page.goto(address + name)
        # Wide tables and long lines scroll within the page.
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert watched.page.evaluate(wider) <= 0, name
        pictures = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert watched.page.evaluate(pictures) == [], name
    watched.close()
    assert refused == []


def test_the_way_from_the_first_page_to_the_others(browser: Any, address: str) -> None:
    watched, refused = open_page(browser, WINDOW, "light")
    page = watched.page
    page.goto(address)
    listed = page.locator(".sidebar-tree a").evaluate_all("links => links.map(a => a.pathname)")
    names = {file.relative_to(DOCS).with_suffix(".html").as_posix() for file in DOCS.rglob("*.md")}
    assert {path.lstrip("/") for path in listed} == names - {"index.html"}
    page.fill(".sidebar-search", "hdbscan")
    page.press(".sidebar-search", "Enter")
    page.wait_for_selector("#search-results li a[href*='clustering.html']")
    watched.close()
    assert refused == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_hard_to_read_or_to_reach(browser: Any, address: str, scheme: str) -> None:
    watched, _ = open_page(browser, WINDOW, scheme)
    for name in ("tutorial.html", "clustering.html"):
        watched.page.goto(address + name)
        found = Axe().run(watched.page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], name
    watched.close()


def test_it_opens_from_a_folder_too(browser: Any, site: Path) -> None:
    """Without any server: a site on a stick."""
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.click("text=Evaluation >> nth=0")
    page.wait_for_selector("h1:has-text('Evaluation')")
    page.close()
    assert {url.partition(":")[0] for url in asked} == {"file"}


def test_what_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    shutil.copy(DOCS / "conf.py", tmp_path)
    (tmp_path / "index.md").write_text("# A\n\n## B\n\n- [C](c.md)\n")
    (tmp_path / "c.md").write_text("# C\n\n[no page](d.md), [no heading](index.md#d)\n")
    (tmp_path / "e.md").write_text("# In no list\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for complaint in ("'d.md'", "'d'", "e.md: WARNING: document isn't included in any toctree"):
        assert complaint in done.stderr
