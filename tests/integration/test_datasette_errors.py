"""Whatever a SQL function refuses comes out with its sentence, as Datasette's own SQL errors do.

That is HTTP 400; only the HTML page of Datasette 1.0 shows every SQL error inside the editor, with 200.
"""

from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from datasette.database import Database
from gallery import Gallery
from served import Site, site

from nearsql.udfs import connection, dbapi

REFUSALS = {
    "unknown space": (
        "select * from knn('nowhere', 1, 3)",
        "there is no space 'nowhere': the spaces are paint/space, words/space",
    ),
    "wrong dimensions": ("select * from knn('paint/space', '[1, 2, 3]', 3)", "8"),
    "NULL query": ("select * from knn('paint/space', null, 3)", "NULL"),
    "k of 0": ("select * from knn('paint/space', 1, 0)", "k must be a whole number of at least 1"),
    "too few arguments": ("select * from knn('paint/space')", "knn("),
    "in a later row": (
        "select i.id, (select count(*) from knn('paint/space', i.id, 1)) from items i order by i.id",
        "91",
    ),
}


def refusal(site: Site, database: str, sql: str, format_: str) -> str:
    """What Datasette says to a query that must fail, once its status is that of any SQL error."""
    response = site.query(database, sql, format_)
    assert response.status_code == site.query(database, "select nothing", format_).status_code
    assert response.status_code == (200 if format_ == "html" and not site.is_first_line else 400)
    return unescape(response.text) if format_ == "html" else response.json()["error"]


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Files that nearsql's functions must refuse: a stranger's, and one of a later nearsql."""
    folder = tmp_path_factory.mktemp("others")
    stranger = dbapi.connect(folder / "stranger.db")
    stranger.execute("create table plants (name text)")
    stranger.execute("insert into plants values ('moss')")
    stranger.commit()
    stranger.close()
    newer = connection.create(folder / "newer.db")
    newer.execute("pragma user_version = 99")
    newer.close()
    older = connection.create(folder / "older.db")
    older.execute("pragma user_version = 1")
    older.close()
    with site(folder / "stranger.db", folder / "newer.db", folder / "older.db") as opened:
        yield opened


@pytest.mark.parametrize("format_", ["html", "json"])
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(gallery_site: Site, name: str, format_: str) -> None:
    sql, sentence = REFUSALS[name]
    text = refusal(gallery_site, "gallery", sql, format_)
    assert "knn: " in text
    assert sentence in text


@pytest.mark.parametrize("format_", ["html", "json"])
@pytest.mark.parametrize(
    ("database", "sentence"),
    [
        ("stranger", "is not a nearsql database"),
        ("newer", "has schema version 99, newer than the"),
        ("older", "run `nearsql migrate"),
    ],
)
def test_functions_refuse_other_files(
    others: Site, database: str, sentence: str, format_: str
) -> None:
    assert sentence in refusal(others, database, "select * from knn('s', 1, 3)", format_)


@pytest.mark.parametrize(
    ("database", "status", "sentence"),
    [
        ("stranger", 404, "is not a nearsql database: `nearsql ingest` makes one"),
        ("newer", 400, "upgrade nearsql to open it"),
        ("older", 400, "run `nearsql migrate"),
    ],
)
def test_pages_refuse_other_files(others: Site, database: str, status: int, sentence: str) -> None:
    for path in ("", "/map", "/items/1", "/clusters/1"):
        response = others.get(f"/-/nearsql/{database}{path}")
        assert response.status_code == status
        assert sentence in unescape(response.text)


def test_a_stranger_s_file_keeps_its_own_face(others: Site) -> None:
    rows = others.query("stranger", "select name from plants").json()["rows"]
    assert rows == [{"name": "moss"}]
    page = others.get("/stranger")
    assert page.status_code == 200
    assert 'href="/-/nearsql/stranger' not in page.text


def test_a_file_that_is_gone_leaves_the_others_alone(gallery: Gallery, tmp_path: Path) -> None:
    with site(gallery.path) as both:
        # Named after the start, so that no connection has been opened to it before.
        lost = Database(both.datasette, path=str(tmp_path / "lost.db"), is_mutable=True)
        both.datasette.add_database(lost, name="lost")
        page = both.get("/-/nearsql/gallery")
        assert page.status_code == 200
        assert "/-/nearsql/lost" not in page.text
        response = both.get("/-/nearsql/lost")
        assert response.status_code == 400
        assert "unable to open database file" in response.text


def test_a_view_that_calls_our_functions_breaks_only_itself(
    gallery: Gallery, tmp_path: Path
) -> None:
    copy = tmp_path / "gallery.db"
    copy.write_bytes(gallery.path.read_bytes())
    db = connection.connect(copy)
    db.execute("create view lost as select * from knn('nowhere', 1, 3)")
    db.commit()
    db.close()
    with site(copy) as own:
        assert own.get("/gallery").status_code == 200
        response = own.get("/gallery/lost")
        assert response.status_code in (400, 500)
        assert own.get("/gallery/items").status_code == 200


def test_only_reading(gallery_site: Site) -> None:
    # 0.65 refuses a POST without its token, 1.0 lets it through to the page, which refuses it.
    response = gallery_site.request("POST", "/-/nearsql/gallery")
    assert response.status_code in (403, 405)
    assert gallery_site.request("HEAD", "/-/nearsql/gallery").status_code == 200
