"""One process that tries inputs, and the file it tries them on, for all tests here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.trying import Trying


@pytest.fixture(scope="session")
def trying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trying]:
    """The process, which has made the file of filled.py."""
    with Trying(tmp_path_factory.mktemp("fuzz")) as opened:
        outcome = opened.call("vector_norm", ("[3, 4]",))
        assert outcome.kind == "taken", outcome.message
        yield opened


@pytest.fixture(scope="session")
def fuzz_folder(trying: Trying) -> Path:
    """Where it is."""
    return trying.folder
