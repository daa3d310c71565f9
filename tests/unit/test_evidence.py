"""Evidence in words: of what the commands write, and of anything that a file may hold instead."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.datasette_plugins.evidence import LONGEST, MOST, TITLES, evidence_of, kind_title

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("distance", "threshold", "is_exact", "group_size", "label", "value", "other_value", "k"),
        *("z_score", "neighbors", "given", "suggested", "confidence", "run", "cluster", "means"),
        *("usual_share_of_given", "loss", "component", "rank", "misses", "alarms", "items"),
        *("missed", "objects", "found", "false_alarms", "metric", "expected", "detector_run"),
        *("outlier_score", "means_of_all", "cluster_run", "images", "name", "predicted"),
    ]
)


@given(
    st.sampled_from([*TITLES, "worst_loss:box", "other"]),
    st.dictionaries(FIELDS, JSON, max_size=8) | JSON,
)
def test_any_json_can_be_evidence(kind: str, fields: Any) -> None:
    told = evidence_of(kind, json.dumps(fields))
    assert all(isinstance(line, str) for line in (told.claim, *told.why))
    assert all(-(2**63) <= n.item < 2**63 for n in told.neighbours)
    assert "None" not in told.claim


def test_damaged_evidence_is_no_evidence() -> None:
    assert evidence_of("duplicate", "[" * 100_000) == evidence_of("duplicate", "{}")


@pytest.mark.parametrize(
    ("kind", "fields", "claim", "why"),
    [
        ("duplicate", {"is_exact": True}, "The same bytes twice", []),
        (
            "duplicate",
            {"distance": 0.25, "threshold": 0.5, "space": "s", "group_size": 3},
            "0.25 apart",
            [
                "Up to 0.5 counts as a near-duplicate in s.",
                "One of a group of 3 that are alike.",
            ],
        ),
        (
            "leak",
            {"is_exact": True, "label": None, "value": "one", "other_value": "two"},
            "The same bytes twice",
            ["Across collection: one is in one, the other in two."],
        ),
        (
            "cluster_outlier",
            {"run": 4, "cluster": None, "outlier_score": 0.75, "threshold": 0.5, "z_score": 4},
            "Noise of run 4",
            ["Its outlier score is 0.75; up to 0.5 is usual.", "z-score 4."],
        ),
        (
            "worst_loss:box",
            {"loss": 2.5, "component": "box", "rank": 2, "of_images": 9, "median": 1.0},
            "box loss 2.5",
            ["Number 2 of 9 images; half are below 1."],
        ),
        (
            "failure_cluster",
            {"images": 3, "name": "dog", "means": {"box": 2}, "means_of_all": {"box": 1}},
            "3 images that fail alike: dog",
            ["box 2 (1); in brackets, of all images."],
        ),
        ("of somebody else", {"a": 1, "b": "x", "c": [1]}, "", ["a: 1", "b: x"]),
    ],
)
def test_words(kind: str, fields: dict[str, Any], claim: str, why: list[str]) -> None:
    told = evidence_of(kind, json.dumps(fields))
    assert told.claim == claim
    assert told.why == why


def test_mistakes_of_a_kind_are_counted() -> None:
    misses = [
        {"class": "cup", "size": "small", "why": "not seen", "annotation_id": i} for i in (1, 2)
    ]
    fields = {"missed": 2, "objects": 3, "misses": misses}
    told = evidence_of("miss", json.dumps(fields))
    assert told.claim == "2 of 3 objects missed"
    assert told.why == ["2 \N{MULTIPLICATION SIGN} cup, small: not seen"]
    assert told.annotations == [1, 2]


def test_clusters_are_told_from_noise() -> None:
    assert evidence_of("cluster_outlier", '{"run": 4, "cluster": 2}').cluster == (4, 1, 2)
    assert evidence_of("cluster_outlier", '{"run": 4, "cluster": null}').cluster is None
    assert evidence_of("failure_cluster", '{"cluster_run": 4, "cluster": -2}').cluster is None


def test_no_evidence_is_longer_than_a_page() -> None:
    fields = {"given": "x" * 10_000, "suggested": "y", "neighbors": [{"id": 1}] * 5_000}
    told = evidence_of("label_error", json.dumps(fields))
    assert len(told.claim) < 2 * LONGEST
    assert len(told.neighbours) == MOST


def test_kinds_have_names_that_people_use() -> None:
    assert kind_title("worst_loss:cls") == "Largest cls loss"
    assert kind_title("label_error") == "Label errors"
    assert kind_title("of somebody else") == "of somebody else"
