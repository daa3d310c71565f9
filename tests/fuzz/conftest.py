"""One process that tries inputs, and the file it tries them on, for all tests here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.samples import filled_file
from tests.fuzz.trying import Trying


@pytest.fixture(scope="session")
def fuzz_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the file of filled.py is."""
    folder = tmp_path_factory.mktemp("fuzz")
    filled_file(folder)
    return folder


@pytest.fixture(scope="session")
def trying(fuzz_folder: Path) -> Iterator[Trying]:
    """The process."""
    with Trying(fuzz_folder) as opened:
        yield opened
