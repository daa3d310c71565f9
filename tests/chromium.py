"""A real browser for tests: Chromium, and pages that are watched for errors and for what they ask."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

# Software WebGL, and nothing that would ask the network by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]

# Milliseconds that a page may take for what it does: how busy the machine is must not decide a test.
PATIENCE = 120_000


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The system's own where there is one, else the one that `playwright install` brings.
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def window(browser: Any, **options: Any) -> Any:
    """A new context of the browser, whose pages are waited for with patience."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    return context


class Watched:
    """A browser page, and what it said and asked for meanwhile."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def close(self) -> None:
        """Ends it. There must have been no errors on the console, and no request to anybody else."""
        self.page.close()
        assert not [line for line in self.said if line.startswith("error")]
        urls = [url for url in self.asked if not url.startswith(("data:", "blob:"))]
        assert {urlsplit(url).hostname for url in urls} == {"127.0.0.1"}
