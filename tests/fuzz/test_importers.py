"""Whatever stands in a file, it is imported or refused by a sentence, and the database stays whole."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import mutated, without_rules
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


def _replaced(target: str, name: str, old: bytes, new: bytes, folder: Path) -> Files:
    files = files_of(target, folder)
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


# What these tests have found in files, each mended since: target, file, what stands in place of what.
FOUND = [
    ("ingest jsonl", "t.jsonl", b'"more": "\\u00e9"', b'"more": "\\ud800"'),
    ("import npy", "m.npy", b"(4, 3)", b"(nan,)"),
    ("import npy", "m.npy", b"'shape'", b"''shape"),
    ("import parquet", "m.parquet", b"vector", b"vec\xefor"),
    ("import parquet", "m.parquet", b"0.png", b"\x80.png"),
    ("import json", "m.json", b"0.png", b"\\ud800"),
    ("import jsonl", "m.jsonl", b"0.png", b"\\ud800"),
    ("import results", "r.json", b'"bbox": [1', b'"bbox": [1' + b"0" * 400),
    ("import blob store", "s.db", b"CREATE TABLE", b"CREATE TBLAE"),
    ("annotate yolo", "data.yaml", b"train: images", b"train: " + b"1" * 300),
    ("ids csv", "ids", b"name,id", b'"name,id'),
    ("ids csv", "ids", b"a,1", b"a" * 200_000 + b",1"),
    ("database", "n.db", b"CREATE TABLE losses", b"CREATE TBALE losses"),
    ("database", "n.db", b" -- ", b" --\x80"),
]


@pytest.mark.parametrize(("target", "name", "old", "new"), FOUND)
def test_what_was_found_stays_mended(
    trying: Trying, fuzz_folder: Path, target: str, name: str, old: bytes, new: bytes
) -> None:
    outcome = trying.read(target, _replaced(target, name, old, new, fuzz_folder))
    assert outcome.is_fine, outcome.message


# Values that no column of the kind holds, where functions and checks once met them unprepared.
CELLS: list[tuple[str, str, Any]] = [
    ("cv_neighbors", "neighbor_ids", "text"),
    ("cv_neighbors", "neighbor_ids", 7),
    ("cv_neighbors", "distances", b""),
    ("vector_indexes", "recall_json", "[" * 5000),
    ("vector_indexes", "parameters_json", "{}"),
    ("vector_indexes", "n", -1),
    ("model_arrays", "data", b""),
    ("runs", "parameters_json", "[]"),
    ("spaces", "dimensions", -1),
    ("spaces", "generation", "x"),
    ("memberships", "probability", b"\0"),
    ("projection_axes", "vector", b""),
    ("losses", "value", "[]"),
    ("image_metrics", "mean_iou", b"1"),
]


@pytest.mark.parametrize(("table", "column", "value"), CELLS)
def test_a_cell_of_another_kind(
    trying: Trying, fuzz_folder: Path, table: str, column: str, value: Any
) -> None:
    loose = without_rules(files_of("database", fuzz_folder)["n.db"])
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(loose)
        db.execute("pragma ignore_check_constraints = on")
        assert db.execute(f"update {table} set {column} = ?", (value,)).rowcount > 0
        db.commit()
        outcome = trying.read("database", {"n.db": db.serialize()})
    assert outcome.is_fine, outcome.message
