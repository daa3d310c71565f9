"""What counts as an answer of a language model, and what does not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.label.contents import Content
from nearsql.pipeline.label.prompts import (
    BadAnswer,
    Name,
    parse_belonging,
    parse_name,
    question_of_name,
)

GOOD = {"name": "Lost cards", "summary": "They ask for cards.", "category": "cards", "strength": 7}
NAME = Name("Lost cards", "They ask for cards.", "cards", 7)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"  {json.dumps(GOOD, indent=2)}\n",
        f"Here you are:\n```json\n{json.dumps(GOOD)}\n```\nAnything else?",
        f"```\n{json.dumps(GOOD)}\n```",
        f"Sure! {json.dumps(GOOD)} I hope this helps.",
        json.dumps({**GOOD, "strength": 7.0, "confidence": "high"}),
        json.dumps({**GOOD, "name": "  Lost\n cards "}),
    ],
)
def test_answers_are_understood(text: str) -> None:
    assert parse_name(text) == NAME


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "name is 'null', no text"),
        ({"name": " "}, "name is empty"),
        ({"name": "x" * 101}, "name has 101 characters; at most 100 are taken"),
        ({"name": "a\u0000b"}, "name has characters that are none"),
        ({"name": "a\ud800b"}, "name has characters that are none"),
        ({"summary": ["a"]}, "summary is"),
        ({"category": 3}, "category is '3', no text"),
        ({"strength": 0}, "strength is '0', no whole number from 1 to 10"),
        ({"strength": 11}, "strength is '11'"),
        ({"strength": 7.5}, "strength is '7.5'"),
        ({"strength": True}, "strength is 'true'"),
        ({"strength": "7"}, "strength is '7'"),
        ({"strength": float("nan")}, "strength is 'NaN'"),
        ({"strength": None}, "strength is 'null'"),
    ],
)
def test_wrong_answers_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        parse_name(json.dumps({**GOOD, **change}))
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    "text", ["", "no", "[1]", "7", "{", '{"name": "cut of', "[" * 100_000, "{" * 100_000, "{}{}"]
)
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(BadAnswer):
        parse_name(text)


@given(st.text())
def test_no_text_does_anything_else(text: str) -> None:
    with pytest.raises(BadAnswer):
        parse_name(text)


def test_belonging() -> None:
    assert parse_belonging('{"belongs": [3, 1, 3]}', 3) == {1, 3}
    assert parse_belonging('{"belongs": []}', 3) == set()
    for wrong in ('{"belongs": [0]}', '{"belongs": [4]}', '{"belongs": ["1"]}', '{"belongs": 1}'):
        with pytest.raises(BadAnswer, match="belongs"):
            parse_belonging(wrong, 3)
    with pytest.raises(BadAnswer, match="belongs is 'null'"):
        parse_belonging('{"numbers": [1]}', 3)


@given(st.text(max_size=200))
def test_an_item_is_one_line_of_the_question(text: str) -> None:
    content = Content(1, text, False, (), ())
    question = question_of_name(5, [], [], [content], {})
    plain = question_of_name(5, [], [], [Content(1, "x", False, (), ())], {})
    lines = question.prompt.split("\n")
    assert len(lines) == len(plain.prompt.split("\n"))
    (line,) = [line for line in lines if line.startswith("1. ")]
    if text:
        assert json.loads(line[3:]) == " ".join(text.split())


def test_a_question_is_known_by_all_that_matters() -> None:
    content = Content(1, "text", False, (), ())
    question = question_of_name(5, [], [], [content], {})
    pictured = question_of_name(5, [], [], [content], {1: b"one"})
    another = question_of_name(5, [], [], [content], {1: b"two"})
    hashes = {
        question.sha256("m", {}, with_schema=True),
        question.sha256("m", {}, with_schema=False),
        question.sha256("n", {}, with_schema=True),
        question.sha256("m", {"temperature": 0}, with_schema=True),
        pictured.sha256("m", {}, with_schema=True),
        another.sha256("m", {}, with_schema=True),
        question_of_name(6, [], [], [content], {}).sha256("m", {}, with_schema=True),
    }
    assert len(hashes) == 7
    assert question.sha256("m", {}, with_schema=True) in hashes
