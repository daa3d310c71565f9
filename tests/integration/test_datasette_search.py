"""The page of searches: what is found is what SQL finds, however it is asked for."""

import re
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import numpy as np
import pytest
from searched import (
    COLOURS,
    IMAGES,
    PER_COLOUR,
    PIXELS,
    SCRIPT,
    TEXTS,
    TFIDF,
    Searched,
    distances,
    greys,
    raw,
    shown,
)
from served import Site, site

from nearsql.datasette_plugins import search_request
from nearsql.datasette_plugins.search import filled
from nearsql.datasette_plugins.search_request import read_request
from nearsql.datasette_plugins.search_words import match_expression
from nearsql.pipeline import encoders
from nearsql.pipeline.index.text import drop_text_index
from nearsql.udfs import connection, dbapi

ROOT = "/-/nearsql/searched/search"


@pytest.fixture
def own(searched_site: Site) -> Site:
    return searched_site


@pytest.fixture(scope="module")
def db(searched: Searched) -> Iterator[dbapi.Connection]:
    opened = connection.connect(searched.path, read_only=True)
    yield opened
    opened.close()


def get(own: Site, **asked: Any) -> str:
    response = own.get(f"{ROOT}?{urlencode(asked)}")
    assert response.status_code == 200, response.text
    return str(response.text)


def near(db: dbapi.Connection, sql: str, *parameters: Any) -> list[int]:
    return [item for (item,) in db.execute(f"select id from {sql}", parameters)]


def test_a_text_finds_what_embed_text_finds(own: Site, db: dbapi.Connection) -> None:
    page = get(own, q="the early worm", space=TFIDF)
    expected = db.execute(
        f"select id, distance from knn('{TFIDF}', embed_text('{TFIDF}', 'the early worm'), 60)"
    ).fetchall()
    assert shown(page) == [item for item, _ in expected]
    assert distances(page) == [f"{distance:.4g}" for _, distance in expected]
    assert shown(page)[0] == IMAGES + 1


def test_words_find_texts_names_and_labels(own: Site) -> None:
    assert set(shown(get(own, q="bird", space=""))) == {IMAGES + 1, IMAGES + 3}
    assert set(shown(get(own, q="bird*", space=""))) == {IMAGES + 1, IMAGES + 2, IMAGES + 3}
    assert shown(get(own, q='"a worm"', space="")) == [IMAGES + 3]
    assert shown(get(own, q="bird -early", space="")) == [IMAGES + 3]
    assert shown(get(own, q="tide OR hands", space="")) == [IMAGES + 4, IMAGES + 5]
    page = get(own, q="bright", space="")
    assert set(shown(page)) == {*range(17, 25), IMAGES + 6}
    assert "9 items with bright" in page
    assert "the <mark>bright</mark> side of work" in page
    assert "<mark>bright</mark>_picture-17.png" in page
    assert shown(get(own, q="picture 3", space="")) == [3]


def test_words_come_best_first_and_more_by_a_button(own: Site, db: dbapi.Connection) -> None:
    page = get(own, q="picture", space="", k=12)
    ranked = near(
        db,
        "(select rowid as id from items_fts where items_fts match 'picture' order by rank, rowid)",
    )
    assert shown(page) == ranked[:12]
    assert "24 items with picture" in page
    assert 'name="more" value="24"' in page
    more = get(own, q="picture", space="", k=12, more=24)
    assert shown(more) == ranked
    assert re.search(rf'<li data-item="{ranked[12]}" id="more"', more)


def test_an_example_finds_its_neighbours(own: Site, db: dbapi.Connection) -> None:
    page = get(own, like=3, space=PIXELS, k=12)
    assert shown(page) == near(db, f"knn('{PIXELS}', 3, 12)")
    assert "Nearest to item 3 in pixels" in page
    assert 'aria-label="No longer like item 3"' in page


def test_several_examples_find_what_is_near_their_mean(own: Site, db: dbapi.Connection) -> None:
    page = get(own, like="1,17", space=PIXELS)
    mean = "(select centroid(vector) from vectors where item_id in (1, 17))"
    expected = [i for i in near(db, f"knn('{PIXELS}', {mean}, 60)") if i not in (1, 17)]
    assert shown(page) == expected
    assert set(expected[:PER_COLOUR]) == set(range(9, 17))  # between dark and bright lies middle


def test_what_is_not_wanted_pushes_away(own: Site, db: dbapi.Connection) -> None:
    # From middle grey, away from dark: bright.
    page = get(own, like="9, 10, 11", unlike="1 2 3", space=PIXELS, k=12)
    wanted = (
        "(select vec_sub(vec_add(w, w), u) from"
        " (select centroid(vector) as w from vectors where item_id in (9, 10, 11)),"
        " (select centroid(vector) as u from vectors where item_id in (1, 2, 3)))"
    )
    expected = [
        i for i in near(db, f"knn('{PIXELS}', {wanted}, 60)") if i not in (9, 10, 11, 1, 2, 3)
    ]
    assert shown(page) == expected[:12]
    assert set(expected[:PER_COLOUR]) == set(range(17, 25))


def test_by_cosine_each_example_counts_alike(own: Site, db: dbapi.Connection) -> None:
    page = get(own, like=f"{IMAGES + 1},{IMAGES + 5}", q="many hands", space=TFIDF)
    text = f"embed_text('{TFIDF}', 'many hands')"
    rows = " union all ".join(
        f"select vec_normalize({v}) as v"
        for v in (
            text,
            f"vector_of('{TFIDF}', {IMAGES + 1})",
            f"vector_of('{TFIDF}', {IMAGES + 5})",
        )
    )
    expected = near(db, f"knn('{TFIDF}', (select centroid(v) from ({rows})), 60)")
    assert shown(page) == [i for i in expected if i not in (IMAGES + 1, IMAGES + 5)]


def test_buttons_add_and_take_away(own: Site) -> None:
    page = get(own, like="1,2", unlike="3", plus="3", space=PIXELS)
    assert 'name="like" value="1, 2, 3"' in page
    assert 'name="unlike" value=""' in page
    page = get(own, like="1,2", minus="2", space=PIXELS)
    assert ('name="like" value="1"' in page, 'name="unlike" value="2"' in page) == (True, True)
    page = get(own, like="1,2", unlike="3", drop="2", space=PIXELS)
    assert 'name="like" value="1"' in page
    page = get(own, like="1", q="worm", drop="text", space=PIXELS)
    assert 'id="q" name="q" value=""' in page
    assert shown(page) == shown(get(own, like="1", space=PIXELS))


def test_filters(own: Site, db: dbapi.Connection, searched: Searched) -> None:
    page = get(own, like=1, space=PIXELS, selection=searched.selection)
    assert shown(page) == near(db, f"knn('{PIXELS}', 1, 60, 'select item_id from selection_items')")
    page = get(own, like=1, space=PIXELS, label="shade=middle", selection="")
    assert set(shown(page)) == set(range(9, 17))
    page = get(own, like=1, space=PIXELS, label="odd=even=even")  # a name with a = in it
    assert set(shown(page)) == set(range(2, IMAGES + 1, 2))
    page = get(own, like=1, space=PIXELS, label="shade=bright", selection=searched.selection)
    assert set(shown(page)) == set(range(17, 25))
    page = get(own, like=1, space=PIXELS, label="shade=dark", selection=searched.selection)
    assert "No item is left to search among" in page
    page = get(own, q="bright", space="", selection=searched.selection)
    assert set(shown(page)) == set(range(17, 25))
    page = get(own, q="picture", space="", label="shade=dark")
    assert set(shown(page)) == set(range(1, 9))
    assert "8 items with picture, with shade=dark" in page
    page = get(own, q="worm", space="", label="shade=dark")
    assert "Nothing has these words there" in page


@pytest.mark.parametrize(
    "asked",
    [
        {"q": "worm", "space": TFIDF},
        {"q": "worm", "space": TFIDF, "k": 3},
        {"like": 3, "space": PIXELS, "label": "shade=dark"},
        {"like": "3,4", "unlike": "9", "space": PIXELS, "label": f"odd=even={SCRIPT}"},
        {"image": "0000003f" * 16, "space": PIXELS},
        {"q": "bird's OR \"it's\"", "space": TFIDF},
        {"q": "bright", "space": ""},
        {"q": "bright", "space": "", "selection": f"the bright {SCRIPT}"},
    ],
)
def test_the_sql_behind_it_gives_the_rows_of_the_page(
    own: Site, db: dbapi.Connection, asked: dict[str, Any]
) -> None:
    own.let_root()
    page = own.get(f"{ROOT}?{urlencode(asked)}", actor={"id": "root"}).text
    assert shown(page)
    link = re.search(r'class="sql" href="([^"]+)"', page)[1]
    parameters = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
    text = parameters.pop("sql")
    rows = own.query("searched", text, **parameters).json()["rows"]
    assert [row["id"] for row in rows] == shown(page)
    # With its parameters written in, as it is saved and as the map takes it.
    saved = re.search(r'name="sql" value="([^"]*)"', page)[1]
    assert near(db, f"({unescape(saved)})") == shown(page)


def test_parameters_are_written_in_as_sql() -> None:
    text = filled("search_item", {"space": "it's :k", "item": 3, "k": 5, "within": ""})
    assert "knn('it''s :k', cast(3 as integer), cast(5 as integer), nullif('', ''))" in text


def test_what_is_found_goes_to_the_map(own: Site) -> None:
    to_newest = own.get("/-/nearsql/searched/map").headers["location"]
    for asked in (
        {"like": "9,10", "unlike": "1", "space": PIXELS, "k": 5, "label": "shade=middle"},
        {"q": "bright -side", "space": ""},
    ):
        page = get(own, **asked)
        link = unescape(re.search(r'href="(/-/nearsql/searched/map#[^"]+)"', page)[1])
        filter_ = parse_qs(urlsplit(link).fragment)["filter"][0]
        kept = own.get(f"{to_newest}/within?{urlencode({'within': filter_})}")
        assert np.frombuffer(kept.content, "<f8").tolist() == sorted(shown(page))


def test_what_is_found_can_be_saved(searched: Searched, tmp_path: Path) -> None:
    copy = tmp_path / "searched.db"
    db = connection.connect(searched.path)
    db.execute("vacuum into ?", (str(copy),))
    db.close()
    with site(copy) as own:
        own.let_root()
        page = own.get(f"{ROOT}?q=worm&space={TFIDF}&k=3", actor={"id": "root"}).text
        sql = unescape(re.search(r'name="sql" value="([^"]*)"', page)[1])
        saved = own.post(
            "/-/nearsql/searched/selections", {"name": "worms", "how": "sql", "sql": sql}
        )
        assert saved.json()["items"] == 3
        within = own.get(f"{ROOT}?q=work&space={TFIDF}&selection=worms").text
        assert set(shown(within)) == set(shown(page))


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({"q": "?!", "space": ""}, 400, "There is no word to find in '?!'"),
        ({"q": "-worm", "space": ""}, 400, "There is no word to find in '-worm'"),
        ({"q": "grey", "space": PIXELS}, 400, "has no place for texts"),
        ({"q": "x", "space": "nowhere"}, 400, "there is no space 'nowhere': the spaces are"),
        ({"like": "9999", "space": PIXELS}, 404, "There is no item 9999 in this database."),
        ({"like": IMAGES + 1, "space": PIXELS}, 400, "Item 25 has no vector in the space 'pixels'"),
        ({"unlike": "1", "space": PIXELS}, 400, "Say also what it should be like"),
        ({"like": "one", "space": PIXELS}, 400, "like must be item ids with commas between"),
        ({"like": "9" * 30}, 400, "like must be item ids"),
        ({"like": ",".join(map(str, range(200)))}, 400, "starts from at most 100 items, not 200"),
        ({"q": "x", "k": "0"}, 400, "k must be a whole number from 1 to 1,920, not '0'"),
        ({"q": "x", "k": "9" * 40}, 400, "k must be a whole number"),
        ({"q": "x", "k": "²"}, 400, "k must be a whole number"),
        ({"q": "x" * 5000}, 400, "A search has at most 4,000 characters, and this has 5,000."),
        ({"image": "zz", "space": PIXELS}, 400, "image must be a vector in hexadecimal"),
        ({"image": "00", "space": PIXELS}, 400, "image must be a vector in hexadecimal"),
        ({"image": "0000803f", "space": PIXELS}, 400, "query has 1 dimensions, and space 'pixels'"),
        ({"image": "0000c07f" * 16, "space": PIXELS}, 400, "must hold finite float32 numbers"),
        ({"q": "worm", "selection": "none"}, 404, "There is no selection 'none'"),
        ({"q": "worm", "label": "shade"}, 400, "A label is written name=value"),
        ({"q": "worm", "label": "size=3"}, 404, "No item has a label 'size'."),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    own: Site, asked: dict[str, Any], status: int, sentence: str
) -> None:
    response = own.get(f"{ROOT}?{urlencode(asked)}")
    assert (response.status_code, sentence in unescape(response.text)) == (status, True)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("red bus", '"red" AND "bus"'),
        ("red OR blue bus", '"red" OR "blue" AND "bus"'),
        ('"red bus" -toy -"old car"', '("red bus") NOT ("toy" OR "old car")'),
        ("bus*", '"bus" *'),
        ("OR bus OR", '"bus"'),
        ("NEAR(a b) AND col:x", '"NEAR(a" AND "b)" AND "AND" AND "col:x"'),
        ('say "unfinished busi', '"say" AND "unfinished busi"'),
        ("it's - fine ?", '"it\'s" AND "fine"'),
        ('a""b', '"a""""b"'),
    ],
)
def test_words_as_people_type_them(own: Site, text: str, expression: str) -> None:
    assert match_expression(text) == expression
    # Whatever it is, FTS5 can read it.
    assert own.get(f"{ROOT}?space=&q={quote(text)}").status_code == 200


def test_the_start_offers_something(own: Site) -> None:
    page = get(own)
    assert 'value="" selected>by words' in page  # texts are found by words, these images by nothing
    assert "Or start from one of these: photos" in page
    assert page.count('name="plus"') == 14 + len(TEXTS)
    assert 'accept="image/*"' in page
    values = re.findall(r'<option value="([^"]+=[^"]+)">', unescape(page))
    assert set(values) == {
        *(f"shade={colour}" for colour in COLOURS),
        "odd=even=even",
        f"odd=even={SCRIPT}",
    }


def test_a_file_without_anything_names_the_commands(database: Path) -> None:
    with site(database) as empty:
        page = empty.get("/-/nearsql/test/search").text
        assert "nearsql ingest FILE FOLDER" in page
        assert 'type="file"' not in page
        words = empty.get("/-/nearsql/test/search?q=x").text
        assert "nearsql index FILE --text" in words
        examples = empty.get("/-/nearsql/test/search?like=1")
        assert examples.status_code == 404
        assert "nearsql embed FILE" in examples.text


def test_without_an_index_words_say_so_and_meaning_still_works(
    searched: Searched, tmp_path: Path
) -> None:
    copy = tmp_path / "searched.db"
    db = connection.connect(searched.path)
    db.execute("vacuum into ?", (str(copy),))
    db.close()
    db = connection.connect(copy)
    drop_text_index(db)
    db.close()
    with site(copy) as own:
        words = own.get(f"{ROOT}?q=worm&space=")
        assert words.status_code == 200
        assert "nearsql index FILE --text" in words.text
        assert f'value="{TFIDF}" selected' in own.get(ROOT).text
        assert shown(own.get(f"{ROOT}?q=worm").text)[0] in (IMAGES + 1, IMAGES + 3)


def test_without_the_extra_the_page_names_it(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "searched.db"
    db = connection.connect(searched.path)
    db.execute("vacuum into ?", (str(copy),))
    db.close()
    db = connection.connect(copy)
    db.execute(
        "update models set parameters_json = json_set(parameters_json, '$.model', 'clip:ViT-B-32')"
        " where id = (select model_id from spaces where name = ?)",
        (PIXELS,),
    )
    db.commit()
    db.close()

    monkeypatch.setitem(sys.modules, "open_clip", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, encoders.MODULES["clip"], raising=False)
    with site(copy) as own:
        assert f'value="{PIXELS}" selected' in own.get(ROOT).text  # what shows is found by meaning
        for refused in (
            own.get(f"{ROOT}?q=a+red+bus&space={PIXELS}"),
            raw(own, f"{ROOT}?space={PIXELS}", greys()[0]),
        ):
            assert refused.status_code == 400
            assert "pip install 'nearsql[vision]'" in unescape(refused.text)


def test_texts_and_names_are_inert(own: Site, searched: Searched) -> None:
    for asked in (
        {},
        {"q": "worm", "space": ""},
        {"q": f"worm {SCRIPT}", "space": TFIDF},
        {
            "like": 1,
            "space": PIXELS,
            "selection": searched.selection,
            "label": f"odd=even={SCRIPT}",
        },
        {"q": SCRIPT, "label": SCRIPT},
        {"selection": SCRIPT, "q": "x"},
    ):
        response = own.get(f"{ROOT}?{urlencode(asked)}")
        assert SCRIPT not in response.text
        assert "&lt;script&gt;" in response.text
    content = get(own, q="worm", space="")
    content = content[content.index('<section class="content">') :]
    assert not re.search(r"\son\w+=|\sstyle=", content[: content.index("<footer")])


def test_the_address_of_a_search_is_short() -> None:
    asked = read_request({"q": " red ", "like": "3, 4", "space": "", "k": "60", "unlike": ""})
    assert asked.address() == "q=red&space=&like=3%2C4"
    assert read_request({}).address() == ""
    assert read_request({}).is_empty


def test_a_page_of_many_still_ends(own: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert search_request.K_MOST == 1920
    page = get(own, like=1, space=PIXELS, k=12)
    assert 'name="more" value="24"' in page
    page = get(own, like=1, space=PIXELS, k=24)
    assert 'name="more"' not in page  # all 23 others are there
