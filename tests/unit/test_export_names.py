"""What exported files are called: safe and apart, whatever the database calls its items."""

import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.export.file_names import file_names

HOSTILE = st.one_of(
    st.text(),
    st.text(alphabet="./\\~-aA \0\n:*é\u202e", max_size=20),
    st.sampled_from(
        [
            "..",
            "a/..",
            "../../etc/passwd",
            "C:\\windows\\x.png",
            "nul.png",
            "-rf.jpg",
            ".bashrc",
            "a" * 999,
        ]
    ),
)


def key(name: str) -> str:
    return unicodedata.normalize("NFKC", PurePosixPath(name).stem).casefold()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["image", "text"]),
            st.none() | HOSTILE,
            st.none() | st.sampled_from(["image/png", "image/../x", "image/jpeg"]),
        ),
        max_size=12,
    )
)
def test_any_address_gives_a_safe_name_of_its_own(items: list[tuple]) -> None:
    names = file_names([(number, *item) for number, item in enumerate(items, 1)])
    assert sorted(names) == list(range(1, len(items) + 1))
    for name in names.values():
        assert name == PurePosixPath(name).name == Path(name).name
        assert not set(name) & set('/\\\0\n:*?"<>|')
        assert name[0] not in ".- "
        assert name[-1] not in ". "
        assert len(name.encode()) < 255
    assert len({key(name) for name in names.values()}) == len(items)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (("image", "/data/pets/cat 1.JPG", None), "cat 1.jpg"),
        (("image", "http://example.org/a/été.png?size=2", None), "été_png_size=2"),
        (("image", "scikit-learn:digits/0000", "image/png"), "0000.png"),
        (("image", "scan.tiff", "image/png"), "scan.png"),  # as it was stored
        (("image", None, "image/gif"), "item-7.gif"),
        (("image", "../..", None), "item-7"),
        (("text", "reviews.csv#12", None), "reviews.csv_12.txt"),
        (("text", None, None), "item-7.txt"),
        (("image", "CON.png", None), "item-7.png"),
    ],
)
def test_names(item: tuple, name: str) -> None:
    assert file_names([(7, *item)]) == {7: name}


def test_names_that_several_items_have_get_the_id() -> None:
    assert file_names([(1, "image", "a.b c", None), (2, "image", "a.png", None)]) == {
        1: "a_b c",
        2: "a.png",
    }
    uris = ["a/cat.jpg", "b/CAT.png", "dog.png", "cat-1.jpg", "ﬁn.png", "fin.png"]
    names = file_names([(number, "image", uri, None) for number, uri in enumerate(uris, 1)])
    assert list(names.values()) == [
        "cat-1-1.jpg",  # cat-1 is another's own name
        "CAT-2.png",
        "dog.png",
        "cat-1.jpg",
        "ﬁn-5.png",
        "fin-6.png",
    ]
