"""What the tests of the browser face share; their helpers lie beside this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from gallery import Gallery, build
from served import Site, site


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The small database of gallery.py. Nobody writes to it."""
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="session")
def gallery_site(gallery: Gallery) -> Iterator[Site]:
    """The gallery in Datasette."""
    with site(gallery.path) as opened:
        yield opened
