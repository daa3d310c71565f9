"""Whatever stands in a file, it is imported or refused by a sentence, and the database stays whole."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import mutated
from tests.fuzz.samples import TARGETS, Files, files_of
from tests.fuzz.trying import Trying

# `python -m tests.fuzz.hours` tries for as long as one likes.
EXAMPLES = 4
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("target", TARGETS)
def test_the_files_as_they_are_are_taken(trying: Trying, fuzz_folder: Path, target: str) -> None:
    outcome = trying.read(target, files_of(target, fuzz_folder))
    assert outcome.kind == "taken", outcome.message


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_stands_in_a_file(trying: Trying, fuzz_folder: Path, target: str) -> None:
    @_SETTINGS
    @given(mutated(files_of(target, fuzz_folder)))
    def tried(files: Files) -> None:
        outcome = trying.read(target, files)
        assert outcome.is_fine, (outcome.kind, outcome.message, target, files)

    tried()
