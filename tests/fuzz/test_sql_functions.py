"""No SQL function crashes, hangs, or answers in Python's words, whatever it is given."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nearsql.udfs import catalogue
from nearsql.udfs.catalogue import SqlFunction
from tests.fuzz.outcomes import judged, refused
from tests.fuzz.trying import Trying
from tests.fuzz.values import INFINITY, SENSIBLE, NotUtf8, Zeros, calls, deep, floats

FUNCTIONS = catalogue.load()
# `python -m tests.fuzz.hours` tries for as long as one likes.
EXAMPLES = 8
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(trying: Trying, name: str, arguments: Any, names: Any = None) -> None:
    outcome = trying.call(name, tuple(arguments), names)
    assert outcome.is_fine, (outcome.kind, outcome.message, name, arguments, names)


def test_every_parameter_has_sensible_values() -> None:
    """Or its function would refuse every call at once, and nothing behind that would be tried."""
    asked = {p.name for function in FUNCTIONS.values() for p in function.parameters}
    assert asked == set(SENSIBLE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_there_are_sensible_calls(trying: Trying, name: str) -> None:
    """That what is tried is not all refused: of each function, the example of its documentation's kind."""
    arguments = SENSIBLE_CALLS.get(name)
    if arguments is None:
        arguments = _first_choices(FUNCTIONS[name])
    outcome = trying.call(name, arguments)
    assert outcome.kind == "taken", outcome.message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_whatever_it_is_given(trying: Trying, name: str) -> None:
    @_SETTINGS
    @given(calls(FUNCTIONS[name]))
    def tried(call: tuple[Any, Any]) -> None:
        check(trying, name, *call)

    tried()


# What a first choice of each argument would not do.
SENSIBLE_CALLS: dict[str, tuple[Any, ...]] = {
    "knn_loss": (9, "cls", 1),
    "evaluation_neighbors": (4, "round", 1),
    "evaluation_diff": (4, 4, 1, "uniform", "round", 5),
    "evaluation_agreement": (4, 4, 1, "uniform", "round", 5),
    "detector_diff": (7, 8, "loss:box"),
    "detector_agreement": (7, 8),
    "cluster_diff": (1, 2),
    "cluster_moves": (1, 2),
    "cluster_agreement": (1, 2),
    "project": ("round", "pca"),
    "project_place": (3, floats(1, 2, 3, 4)),
    "project_places": (3,),
    "label_errors": ("round", "group", 3),
    "leaks": ("round", "split"),
    "space_overlap": ("round", "flat", 3),
    "embed_text": ("words/tfidf", "the cat"),
    "embed_image": ("words/tfidf", None),
    "mask_iou": ('{"size": [4, 5], "counts": [3, 2, 15]}',) * 2,
    "mask_dice": ('{"size": [4, 5], "counts": [3, 2, 15]}',) * 2,
    "vector_distance": ("[1, 2]", "[3, 4]"),
    "r2": (1, 2),
    "spearman": (1, 2),
    "mae": (1, 2),
    "vote_value": (1, 2),
    "box_iou": (0, 0, 1, 1, 0, 0, 1, 1),
}


def _first_choices(function: SqlFunction) -> tuple[Any, ...]:
    needed = [p for p in function.parameters if p.default is p.empty]
    return tuple(SENSIBLE[p.name][0] for p in needed)


# What these tests have found, each mended since.
FOUND: list[tuple[str, tuple[Any, ...]]] = [
    ("vector", ("[" + "9" * 400 + "]",)),
    ("vector", (deep("[", 100_000),)),
    ("knn", ("round", 1, 3, deep("[", 100_000))),
    ("knn", ("round", 1, 2.0**63)),
    ("cluster_assign", (2.0**63, floats(1, 2, 3, 4))),
    ("project_place", (2.0**63, floats(1, 2, 3, 4))),
    ("project_place", ("AnError", floats(1, 2, 3, 4))),
    ("cluster_diff", (1, 2.0**63)),
    ("mask_area", (deep("[", 100_000),)),
    ("vote_share", ("a", 1.7e308, 1.7e308)),
    ("vote_value", (1.7e308, 1.0, 1.7e308)),
    ("mae", (1.7e308, -1.7e308)),
    ("accuracy", (NotUtf8(b"\xff"), 1)),
    ("near_threshold", ("round", NotUtf8(b"[1, 2\xff]"))),
    ("knn", (NotUtf8(b"a\xc3"), 1)),
    ("knn_graph", ("round", 1, "select cast(x'ff' as text)")),
]


@pytest.mark.parametrize(("name", "arguments"), FOUND)
def test_what_was_found_stays_mended(trying: Trying, name: str, arguments: tuple[Any, ...]) -> None:
    outcome = trying.call(name, arguments)
    assert outcome.kind == "refused", outcome.message


def test_a_leak_would_be_seen() -> None:
    """The judge himself: Python's words are none of ours, nor is a sentence that names nothing."""
    for message in (
        "'NoneType' object has no attribute 'id'",
        "OverflowError: int too big",
        "unsupported operand type(s) for +: 'int' and 'str'",
        "k is np.float64(3.0)",
        "oops",
        "",
    ):
        assert refused(message).kind == "leaked", message
    said = refused("run must be a number, not 'AnError'")
    assert (said.kind, judged(said, ["AnError"]).kind) == ("leaked", "refused")
    assert judged(said, ["Another", b"Error", None]).kind == "leaked"
    # A file may name a column so.
    assert refused("m.tsv has no column 'id', only 'np.png'").kind == "refused"
    assert refused("knn: k must be a number, not 'x'", names="knn").kind == "refused"
    assert refused("k must be a number, not 'x'", names="knn").kind == "leaked"


def test_a_hang_and_a_crash_would_be_seen(tmp_path: Path) -> None:
    """The process itself: it dies of too much time and of signals, and the next one answers."""
    with Trying(tmp_path) as doomed:
        for how, why in (("spin", "it computed for too long"), ("crash", "it ended by SIGSEGV")):
            outcome = doomed.call(how, ())
            assert (outcome.kind, outcome.message) == ("died", why)
        assert doomed.read("ids words", {"ids": b"1 2"}).kind == "taken"


def test_a_file_that_was_opened_would_be_seen(trying: Trying) -> None:
    outcome = trying.call("reach", ())
    assert outcome.kind == "wrong"
    assert "/etc/hostname" in outcome.message


_WHOLE = st.integers(-(2**63), 2**63 - 1)


@_SETTINGS
@given(k=_WHOLE, item=_WHOLE)
@example(k=2**63 - 1, item=1)
def test_a_number_believed_is_no_memory_taken(trying: Trying, k: int, item: int) -> None:
    check(trying, "knn", ("round", item, k))
    check(trying, "knn_graph", ("round", k))
    check(trying, "space_groups", (k,))
    check(trying, "vector_norm", (Zeros(abs(k) % 2**24),))
    check(trying, "box_iou", (k, item, INFINITY, 1, 0, 0, 1, 1))
