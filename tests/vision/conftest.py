"""What the tests that need torch share; their helpers lie in this folder and in the one above."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from checkpoints import Checkpoints


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Files of random weights for CLIP, DINO and other networks. Nobody writes to them."""
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))
