"""Where the helpers of the browser tests lie, and a map of its own for those of its renderer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from chromium import chromium, window
from scatter_page import Map


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for each file of tests."""
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def map_context(browser: Any) -> Iterator[Any]:
    """A window for the maps of one file of tests."""
    opened = window(browser, viewport={"width": 700, "height": 500})
    yield opened
    opened.close()


@pytest.fixture
def drawn(map_context: Any) -> Iterator[Map]:
    """A page with nothing but a map, to be filled."""
    page = Map(map_context.new_page())
    yield page
    page.close()
