"""Large JSON element by element equals json.load, however the file is cut into pieces."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.annotations import json_arrays
from nearsql.pipeline.annotations.json_arrays import NotJson, elements

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def read(data: bytes) -> tuple[list[json_arrays.Element], set[str]]:
    arrays: set[str] = set()
    return list(elements(io.BytesIO(data), arrays)), arrays


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=5),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 20),
)
def test_equal_to_reading_all_at_once(document, indent, is_ascii, has_mark, chunk) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii)
    data = text.encode("utf-8-sig" if has_mark else "utf-8")
    usual, json_arrays._CHUNK = json_arrays._CHUNK, chunk
    try:
        found, arrays = read(data)
    finally:
        json_arrays._CHUNK = usual
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    assert arrays == set(lists)
    assert [(e.key, e.value) for e in found] == [(k, v) for k, vs in lists.items() for v in vs]
    for element in found:
        assert json.loads(data[element.offset : element.offset + element.length]) == element.value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "does not begin with {"),
        ("[1, 2]", "does not begin with {"),
        ('"images"', "does not begin with {"),
        ('{"a": [1, 2', "the end of the file instead of , or ]"),
        ('{"a": [1 2]}', "'2' instead of , or ]"),
        ('{"a": [1,]}', "byte 9: Expecting value"),
        ('{"a" [1]}', "'[' instead of :"),
        ("{1: [1]}", "a key is no text"),
        ('{"a": [1]', "the end of the file instead of , or }"),
        ('{"a": [1]} {"b": 2}', "something follows"),
        ('{"a": ["x}', "Unterminated string"),
        ('{"a": ' + "[" * 100_000, "nested too deep"),
        ('{"a": [' + '{"b": ' * 100_000, "nested too deep"),
        ('{"a": [' + "9" * 5000 + "]}", "4300 digits"),
        ('{"a": [nonsense]}', "byte 7: Expecting value"),
    ],
)
def test_what_is_no_json_is_said_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(NotJson) as caught:
        read(text.encode())
    assert sentence in str(caught.value)


def test_what_is_no_utf_8() -> None:
    with pytest.raises(NotJson, match="not UTF-8"):
        read('{"a": ["é"]}'.encode("latin-1"))
    with pytest.raises(NotJson, match="not UTF-8"):
        read('{"a": ["é"]}'.encode("utf-16"))


def test_a_value_that_never_ends_is_not_read_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK", 1000)
    monkeypatch.setattr(json_arrays, "MOST_CHARACTERS", 10_000)
    data = b'{"a": ["' + b"x" * 1_000_000
    file = io.BytesIO(data)
    with pytest.raises(NotJson, match="byte 7: here begins a value of more than 10,000"):
        list(elements(file, set()))
    assert file.tell() < 50_000


def test_memory_follows_the_largest_element(monkeypatch) -> None:
    """The reader never holds more text than a few elements and a chunk."""
    monkeypatch.setattr(json_arrays, "_CHUNK", 500)
    longest = 0
    original = json_arrays._Reader._more

    def more(self: json_arrays._Reader) -> bool:
        nonlocal longest
        result = original(self)
        longest = max(longest, len(self._text))
        return result

    monkeypatch.setattr(json_arrays._Reader, "_more", more)
    found, _ = read(json.dumps({"a": [list(range(50))] * 500}).encode())
    assert len(found) == 500
    assert longest < 1500
