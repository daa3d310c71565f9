"""The pages: what they show, and that each is there on both lines of Datasette."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from gallery import COLOURS, PER_COLOUR, Gallery
from served import Site, site

from nearsql.udfs import connection

ROOT = "/-/nearsql/gallery"


def test_the_overview_shows_every_block(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(ROOT).text
    for text in ("paint/space", "words/space", "10.0%", "failed"):
        assert text in page
    assert f'href="{ROOT}/map/{gallery.projection}"' in page
    assert f'href="{ROOT}/clusters/{gallery.clusters}#level-1"' in page
    newest_first = [
        int(run) for run in re.findall(r'<th scope="row" class="n"><a[^>]+>(\d+)</a></th>', page)
    ]
    assert newest_first == [gallery.failed, gallery.projection, gallery.clusters]


def test_every_link_of_the_pages_answers(gallery_site: Site, gallery: Gallery) -> None:
    pages = [
        "",
        f"/clusters/{gallery.clusters}",
        f"/map/{gallery.projection}",
        "/items/1",
        "/items/93",
    ]
    pages += [f"/clusters/{gallery.clusters}/1/noise", f"/clusters/{gallery.clusters}/1/0"]
    links = set()
    for path in pages:
        page = gallery_site.get(ROOT + path)
        assert page.status_code == 200, path
        links |= {unescape(m) for m in re.findall(r'(?:href|src)="(/[^"#]*)', page.text)}
    assert len(links) > 150
    problems = {}
    for link in sorted(links):
        response = gallery_site.get(link)
        if response.status_code not in (200, 302):
            problems[link] = response.status_code
    assert not problems


def test_sql_links_give_the_rows_of_their_blocks(gallery_site: Site) -> None:
    links = re.findall(r'class="sql" href="([^"]+)"', gallery_site.get(ROOT).text)
    assert len(links) == 5
    for link in links:
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
        assert gallery_site.query("gallery", asked.pop("sql"), **asked).json()["rows"]


def test_clusters_show_sizes_mixes_and_noise(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/clusters/{gallery.clusters}").text
    assert page.count('<div class="strip">') == len(COLOURS)
    assert re.search(r"red <span>100%</span>", page)
    noise = page[page.index('<tr class="noise">') :]
    assert ">9<" in noise
    assert "10.0%" in noise
    assert re.search(r"green <span>33%</span>", noise)


def test_a_level_without_noise_still_says_so(gallery: Gallery, tmp_path: Path) -> None:
    copy = tmp_path / "gallery.db"
    copy.write_bytes(gallery.path.read_bytes())
    db = connection.connect(copy)
    db.execute("delete from memberships where cluster_id is null")
    db.commit()
    db.close()
    with site(copy) as own:
        page = own.get(f"{ROOT}/clusters/{gallery.clusters}").text
    noise = page[page.index('<tr class="noise">') :]
    assert '<td class="n">0<' in noise


def test_a_contact_sheet_has_each_member(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/clusters/{gallery.clusters}/1/1").text
    shown = [int(i) for i in re.findall(r'title="Item (\d+)"', page)]
    green = range(PER_COLOUR + 1, 2 * PER_COLOUR + 1)
    assert shown == [i for i in green if i % 10 != 0]
    noise = gallery_site.get(f"{ROOT}/clusters/{gallery.clusters}/1/noise").text
    assert {int(i) for i in re.findall(r'title="Item (\d+)"', noise)} == set(range(10, 91, 10))


def test_an_item_shows_labels_clusters_and_neighbours(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/items/2").text
    assert "colour" in page
    assert "cluster 0" in page
    neighbours = [int(i) for i in re.findall(r'<li data-item="(\d+)"', page)]
    rows = gallery_site.query("gallery", "select id from knn('paint/space', 2, 12)").json()["rows"]
    assert neighbours == [row["id"] for row in rows]
    panel = gallery_site.get(f"{ROOT}/items/2/panel?space=paint/space").text
    assert [int(i) for i in re.findall(r'<li data-item="(\d+)"', panel)] == neighbours
    assert "<html" not in panel


def test_newest_map_and_clusters_are_one_step_away(gallery_site: Site, gallery: Gallery) -> None:
    to_map, to_clusters = gallery_site.get(f"{ROOT}/map"), gallery_site.get(f"{ROOT}/clusters")
    assert to_map.headers["location"] == f"{ROOT}/map/{gallery.projection}"
    assert to_clusters.headers["location"] == f"{ROOT}/clusters/{gallery.clusters}"


def test_an_empty_file_names_the_commands_that_fill_it(database: Path) -> None:
    with site(database) as empty:
        overview = empty.get("/-/nearsql/test").text
        for command in ("ingest", "embed", "project", "cluster"):
            assert f"nearsql {command} FILE" in overview
        assert "nearsql project FILE SPACE" in empty.get("/-/nearsql/test/map").text
        assert "nearsql cluster FILE SPACE" in empty.get("/-/nearsql/test/clusters").text


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/items/999", "There is no item 999"),
        ("/items/99999999999999999999", "There is no item 99999999999999999999"),
        ("/map/1", "Run 1 has no map: `nearsql project FILE SPACE`"),
        ("/clusters/2", "Run 2 found no clusters: `nearsql cluster FILE SPACE`"),
        ("/clusters/1/1/7", "Run 1 has no such cluster at level 1"),
        ("/clusters/1/2/noise", "Run 1 has no such cluster at level 2"),
    ],
)
def test_what_is_not_there_is_404_with_a_sentence(
    gallery_site: Site, path: str, sentence: str
) -> None:
    response = gallery_site.get(ROOT + path)
    assert response.status_code == 404
    assert sentence in unescape(response.text)


def test_pages_live_below_base_url(gallery: Gallery) -> None:
    with site(gallery.path, settings={"base_url": "/here/"}) as below:
        page = below.get(ROOT)  # Datasette's client puts base_url in front itself
        assert page.status_code == 200
        links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
        own = [link for link in links if "nearsql" in link]
        assert len(own) > 10
        assert all(link.startswith("/here/") for link in own)
        plot = below.get(f"{ROOT}/map/{gallery.projection}").text
        settings = json.loads(unescape(re.search(r'data-settings="([^"]+)"', plot)[1]))
        assert settings["items"] == f"/here{ROOT}/items"


def test_an_address_without_a_page_is_404(gallery_site: Site) -> None:
    for path in ("/-/nearsql/gallery/nothing", "/-/nearsql", "/-/nearsql/nothing"):
        assert gallery_site.get(path).status_code == 404, path


def test_assets_may_be_kept_for_good(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/map/{gallery.projection}").text
    assets = re.findall(r'"(/-/nearsql-assets/[^"]+)"', page)
    assert {"nearsql.css", "map.css", "map.js"} <= {a.rpartition("/")[2] for a in assets}
    for path in assets:
        response = gallery_site.get(path)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
        assert response.headers["x-content-type-options"] == "nosniff"
    for path in ("/-/nearsql-assets/0/map.js", "/-/nearsql-assets/0/..%2f__init__.py"):
        assert gallery_site.get(path).status_code == 404


def test_pages_hold_no_inline_script_of_ours(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"{ROOT}/map/{gallery.projection}").text
    content = page[
        page.index('<section class="content">') : page.index("</section>\n</div>\n<footer")
    ]
    assert "<script" not in content
    assert not re.search(r"\son\w+=|\sstyle=", content)


def test_datasette_links_to_the_pages(gallery_site: Site) -> None:
    for path in ("/gallery", "/gallery/projection_points", "/gallery/items"):
        page = gallery_site.get(path).text
        assert f'href="{ROOT}"' in page, path  # the menu
    assert f'href="{ROOT}/map"' in gallery_site.get("/gallery").text
    assert f'href="{ROOT}/map"' in gallery_site.get("/gallery/projection_points").text


def test_tables_show_vectors_and_thumbnails(gallery_site: Site) -> None:
    vectors = gallery_site.get("/gallery/vectors?_size=3").text
    assert "8 &times; float32" in vectors
    assert f'src="{ROOT}/items/1/thumbnail?size=96' in vectors
    items = gallery_site.get("/gallery/items?_size=3").text
    assert 'loading="lazy"' in items
    answer = gallery_site.query("gallery", "select 1 as item_id, 91 as neighbor_id", "html").text
    assert f'src="{ROOT}/items/1/thumbnail?size=96' in answer
    assert f'href="{ROOT}/items/91"' in answer
    assert f'src="{ROOT}/items/91/' not in answer
