"""What the tests that need torch share; their helpers lie in this folder and in the one above."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from checkpoints import Checkpoints, pictures
from detectors import save_detector
from shapes import fill

from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import dbapi


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    """Files of random weights for CLIP, DINO and other networks. Nobody writes to them."""
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch in one thread, so that tests beside each other do not fight for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights of a small network that segments."""
    return save_detector(tmp_path_factory.mktemp("weights") / "small.pt", "yolov8n-seg")


@pytest.fixture
def shapes(db: dbapi.Connection) -> dbapi.Connection:
    """The database with the seven images of shapes.py."""
    fill(db)
    return db


@pytest.fixture
def photos(db: dbapi.Connection) -> dbapi.Connection:
    """The database with six pictures of all sorts, items 1 to 6."""
    rows = [(f"memory:{n}", data, {}, {}) for n, (data, _) in enumerate(pictures())]
    ingest_image_bytes(db, rows, collection="photos", source="test")
    return db
