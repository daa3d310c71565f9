"""What several files of tests share; their helpers lie beside this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from gallery import Gallery, build
from labelled import pets
from served import Site, site
from stored_graphs import use_small_blocks


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The small database of gallery.py. Nobody writes to it."""
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="session")
def gallery_site(gallery: Gallery) -> Iterator[Site]:
    """The gallery in Datasette."""
    with site(gallery.path) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four labelled images."""
    return pets(tmp_path / "pets")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items of a neighbour graph are several transactions."""
    use_small_blocks(monkeypatch)
