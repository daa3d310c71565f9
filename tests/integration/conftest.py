"""What the tests of the browser face share; their helpers lie beside this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from gallery import Gallery, build
from served import Site, site

if TYPE_CHECKING:
    from checkpoints import Checkpoints


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The small database of gallery.py. Nobody writes to it."""
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="session")
def gallery_site(gallery: Gallery) -> Iterator[Site]:
    """The gallery in Datasette."""
    with site(gallery.path) as opened:
        yield opened


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> "Checkpoints":
    """Files of random weights for CLIP, DINO and other networks. Nobody writes to them."""
    from checkpoints import Checkpoints  # brings torch, which most tests do without

    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))
