"""The page of an item: its clusters, its neighbours in every way there is, and what is said about it elsewhere."""

import json
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from gallery import IMAGES, SCRIPT, Gallery
from judged_images import add_detector, add_images, add_space
from served import Site, site

from nearsql.datasette_plugins import item_surroundings
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

ROOT = "/-/nearsql/test/items"
ITEMS = 6


def plain(fragment: str) -> str:
    """A fragment's text in one line."""
    return " ".join(unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", fragment)).split())


def part(page: str, start: str, end: str = "</section>") -> str:
    return page[page.index(start) :].partition(end)[0]


def cluster(db: dbapi.Connection) -> int:
    """Three levels: items 1 to 4 in `top`, of these 1 and 2 in `mid`, 1 in none further down; 5, 6 noise."""
    with run(db, "cluster", parameters={"method": "levels"}) as current, immediate(db):
        ids: dict[str, int | None] = {}
        for level, label, name, parent, size in (
            *((1, 0, "top", None, 4), (1, 1, "other", None, 3)),
            *((2, 0, "mid", "top", 2), (2, 1, None, "top", 2)),
        ):
            row = db.execute(
                "insert into clusters (run_id, level, label, parent_id, size) values (?, ?, ?, ?, ?)",
                (current.id, level, label, ids.get(parent or ""), size),
            )
            if name:
                ids[name] = row.lastrowid
                db.execute(
                    "insert into cluster_labels (cluster_id, name, method) values (?, ?, 'tests')",
                    (row.lastrowid, name),
                )
        for item in range(1, ITEMS + 1):
            found = (
                ids["top"] if item <= 4 else None,
                ids["mid"] if item <= 2 else None,
                None,
            )
            db.executemany(
                "insert into memberships (run_id, level, item_id, cluster_id, probability,"
                " outlier_score) values (?, ?, ?, ?, ?, 0.25)",
                [
                    (current.id, level, item, one, 1 - level / 10 if one else 0)
                    for level, one in enumerate(found, 1)
                ],
            )
    return current.id


def measure_losses(db: dbapi.Connection, model: int) -> int:
    """Loss distances of all pairs but item 6's: cls is |target - image| + 1, box ten times that or NULL."""
    parameters = {"components": ["box", "cls"], "pairs": "all"}
    with run(db, "loss-distance", parameters=parameters, model_id=model) as current, immediate(db):
        for target in range(1, ITEMS):
            for image in range(1, ITEMS):
                # Asymmetric: nearer to the targets before than to those behind.
                value = abs(target - image) + 1 + (0.5 if target > image else 0)
                for component, distance in (("cls", value), ("box", 10 * value)):
                    is_known = component == "cls" or target != 2
                    db.execute(
                        "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
                        " distance, reason) values (?, ?, ?, ?, ?, ?)",
                        (
                            *(current.id, target, image, component),
                            *((distance, None) if is_known else (None, "no predictions")),
                        ),
                    )
    return current.id


def judge_by_neighbours(db: dbapi.Connection, space: int) -> tuple[int, int]:
    """An evaluation of a label and one of a number, of item 1 only."""
    runs = []
    for parameters, truth, said in (
        ({"label": "pet"}, "cat", ["cat", "dog", "dog", None]),
        ({"target": "age"}, 3.0, [2.0, 5.0, 3.0, 4.0]),
    ):
        with run(db, "evaluate", parameters=parameters) as current, immediate(db):
            db.executemany(
                "insert into cv_predictions (run_id, space_id, k, weighting, item_id, fold, y_true,"
                " y_pred) values (?, ?, ?, 'uniform', 1, 0, ?, ?)",
                [(current.id, space, k, truth, value) for k, value in enumerate(said, 1)],
            )
        runs.append(current.id)
    return runs[0], runs[1]


def find(db: dbapi.Connection) -> int:
    with run(db, "find", parameters={}) as current, immediate(db):
        db.executemany(
            "insert into findings (run_id, kind, item_id, other_item_id, score, evidence_json,"
            " decision) values (?, ?, ?, ?, 0.5, ?, ?)",
            [
                (current.id, "duplicate", 1, 2, json.dumps({"distance": 0.125}), "keep"),
                (current.id, "leak", 3, 1, "{}", None),
                (current.id, "outlier", 2, None, "{}", None),
            ],
        )
    return current.id


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images with everything there is about them. Spaces a and b agree on who is near."""
    path: Path = tmp_path_factory.mktemp("items") / "test.db"
    db = connection.create(path)
    add_images(db, ITEMS)
    line = np.arange(ITEMS, dtype="f4")[:, None]
    space = add_space(db, "a", line)
    add_space(db, "b", 2 * line)
    cluster(db)
    measure_losses(db, add_detector(db, "eyes"))
    judge_by_neighbours(db, space)
    find(db)
    with immediate(db):
        db.execute("insert into selections (id, name, how) values (5, ?, 'ids')", (SCRIPT,))
        db.execute("insert into selection_items values (5, 1)")
        db.execute("insert into item_labels values (1, 'pet', 'cat', 'hand')")
        db.execute(
            "insert into item_errors (run_id, item_id, stage, message) values (1, 1, 'decode', ?)",
            (SCRIPT,),
        )
        db.execute(
            "update items set metadata_json = ? where id = 1",
            (json.dumps({"camera": "pinhole", "place": [1, 2]}),),
        )
    db.close()
    return path


@pytest.fixture(scope="module")
def pages(original: Path) -> Iterator[Site]:
    """It in Datasette. Nobody writes to it."""
    with site(original) as opened:
        yield opened


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copy(original, tmp_path / "test.db"))


@pytest.fixture
def full(copy: Path) -> Iterator[dbapi.Connection]:
    """An open connection to the copy."""
    opened = connection.connect(copy)
    yield opened
    opened.close()


def neighbours(page: str) -> dict[str, list[tuple[int, float]]]:
    """(item, distance) of each neighbour, by the title of its line."""
    lines = {}
    for line in page.split('<div class="near">')[1:]:
        title = unescape(re.search(r"<h3>(.*?)</h3>", line)[1])
        found = re.findall(
            r'<li data-item="(\d+)">.*?<span class="distance"[^>]*>([^<]*)<', line, re.DOTALL
        )
        lines[title] = [(int(item), float(distance)) for item, distance in found]
    return lines


def test_the_path_of_clusters_goes_from_the_coarsest_down_to_the_noise(pages: Site) -> None:
    paths = {}
    for item in (1, 3, 5):
        path = part(pages.get(f"{ROOT}/{item}").text, '<span class="path">', "</li>")
        paths[item] = plain(path).replace("\u203a", ">")
    assert paths == {
        1: "top 4 > mid 2 > noise outlier score 0.25",
        3: "top 4 > noise outlier score 0.25",
        5: "noise outlier score 0.25",
    }
    page = pages.get(f"{ROOT}/1").text
    assert 'href="/-/nearsql/test/clusters/1/2/0"' in page
    assert 'href="/-/nearsql/test/clusters/1/3/noise"' in page


def test_neighbours_lie_in_lines_and_say_where_else_they_are(pages: Site) -> None:
    page = pages.get(f"{ROOT}/2").text
    near = neighbours(page)
    assert near["a"] == [(1, 1), (3, 1), (4, 2), (5, 3), (6, 4)]
    assert near["b"] == [(1, 2), (3, 2), (4, 4), (5, 6), (6, 8)]
    assert page.count("Among the nearest in 2 spaces") == 10


def test_many_spaces_are_shown_when_asked_for(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_surroundings, "SPACES_SHOWN", 1)
    with site(copy) as pages:
        page = pages.get(f"{ROOT}/2?by=2:box").text
        assert "b" not in neighbours(page)
        (more,) = re.findall(r'href="([^"]+)#near">1 more space<', page)
        more = unescape(more)
        assert parse_qs(urlsplit(more).query) == {"by": ["2:box"], "spaces": ["all"]}
        assert {"a", "b"} < set(neighbours(pages.get(f"{ROOT}/2{more}").text))


def test_loss_distances_go_both_ways(pages: Site) -> None:
    fits_here, this_fits = item_surroundings.DIRECTIONS.values()
    near = neighbours(pages.get(f"{ROOT}/3").text)
    assert near[fits_here] == [(4, 2), (2, 2.5), (5, 3), (1, 3.5)]
    assert near[this_fits] == [(2, 2), (4, 2.5), (1, 3), (5, 3.5)]
    page = pages.get(f"{ROOT}/3?by=2:box").text
    assert neighbours(page)[fits_here] == [(4, 20), (2, 25), (5, 30), (1, 35)]
    assert neighbours(page)[this_fits] == [(4, 25), (1, 30), (5, 35)]
    assert re.findall(r'href="([^"]+)"( aria-current="true")?>(box|cls)<', page) == [
        ("?by=2%3Abox#by-loss", ' aria-current="true"', "box"),
        ("?by=2%3Acls#by-loss", "", "cls"),
    ]
    alone = plain(part(pages.get(f"{ROOT}/2?by=2:box").text, '<section id="by-loss">'))
    assert "No other item has a distance: nothing was found here." in alone


def test_an_item_without_loss_distances_has_none(pages: Site) -> None:
    assert 'id="by-loss"' not in pages.get(f"{ROOT}/6").text
    response = pages.get(f"{ROOT}/3?by=2:dfl")
    assert response.status_code == 404
    assert "Item 3 has no loss distances '2:dfl': there are 2:box, 2:cls." in unescape(
        response.text
    )


def test_what_neighbours_said_is_summed_up(pages: Site) -> None:
    judged = part(pages.get(f"{ROOT}/1").text, '<section id="judged">')
    rows = [plain(row) for row in re.findall(r"<tr>\s*<th scope.*?</tr>", judged, re.DOTALL)]
    assert rows == [
        "a age 3 3.5 on average 1 off run 4 4 settings Who voted",
        "a pet cat dog (2), cat (1) 1 of 4 run 3 4 settings Who voted",
    ]
    assert 'href="/-/nearsql/test/evaluations/3/items/1?space=a"' in judged
    assert 'id="judged"' not in pages.get(f"{ROOT}/2").text


def test_findings_are_told_from_both_sides(pages: Site) -> None:
    found = part(pages.get(f"{ROOT}/1").text, '<section id="findings">')
    titles = re.findall(r'href="(/[^"]*#f\d+)">([^<]+)<', found)
    assert [title for _, title in titles] == ["Duplicates", "Leaks"]
    assert titles[0][0] == "/-/nearsql/test/findings/5?kind=duplicate#f1"
    assert re.findall(r'title="Item (\d+)"', found) == ["2", "3"]
    assert "kept" in found
    assert "0.125" in found
    alone = part(pages.get(f"{ROOT}/2").text, '<section id="findings">')
    assert "Outliers" in alone


def test_selections_labels_errors_and_metadata_are_there(pages: Site) -> None:
    page = pages.get(f"{ROOT}/1").text
    assert SCRIPT not in page
    about = plain(part(page, '<div class="about">', "<h2"))
    for text in ("pet cat hand", f"selections {SCRIPT}", f"decode: {SCRIPT} run 1"):
        assert text in about
    for text in ("camera pinhole", "place [1, 2]", "sha256"):
        assert text in about
    assert 'href="/-/nearsql/test/selections/5"' in page


def test_any_metadata_is_shown(full: dbapi.Connection, copy: Path) -> None:
    with site(copy) as opened:
        for metadata in ("[1, 2]", '"text"', "null", "{}", '{"a": {"b": [null]}}'):
            full.execute("update items set metadata_json = ?", (metadata,))
            full.commit()
            assert opened.get(f"{ROOT}/1").status_code == 200, metadata


def test_a_bare_item_names_the_command_that_fills_its_page(
    db: dbapi.Connection, database: Path
) -> None:
    add_images(db, 1)
    with site(database) as opened:
        page = opened.get(f"{ROOT}/1").text
    assert "nearsql embed FILE --model pixels" in page
    for block in ('id="by-loss"', 'id="judged"', 'id="findings"', 'class="paths"', "<form"):
        assert block not in part(page, '<div class="item', "<footer"), block


def test_a_text_is_shown_whole_with_its_neighbours_as_lines(
    gallery_site: Site, gallery: Gallery
) -> None:
    page = gallery_site.get(f"/-/nearsql/gallery/items/{IMAGES + 1}").text
    assert f"text 0 {SCRIPT}" in unescape(part(page, '<p class="text"', "</p>"))
    assert SCRIPT not in page
    lines = part(page, '<ol class="near-texts"', "</ol>")
    assert len(re.findall(r'<li data-item="(\d+)"', lines)) == 5


def test_the_sql_behind_each_block_gives_its_rows(pages: Site) -> None:
    page = pages.get(f"{ROOT}/1").text
    links = re.findall(r'class="sql" href="([^"]+)"', page)
    assert len(links) == 7  # clusters, findings, two spaces, two losses, what neighbours said
    for link in links:
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
        assert pages.query("test", asked.pop("sql"), **asked).json()["rows"], asked


def fields_of(form: str) -> dict[str, str]:
    """The hidden fields of a form of ours, without its token."""
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in found if name != "csrftoken"}


def test_who_may_write_tags_the_item_by_a_form(copy: Path) -> None:
    with site(copy) as opened:
        opened.let_root()
        assert "<form" not in part(opened.get(f"{ROOT}/2").text, '<div class="about">', "<h2")
        own = opened.get(f"{ROOT}/2", actor={"id": "root"}).text
        tagging = part(own, '<form class="tools tagging"', "</form>")
        assert 'action="/-/nearsql/test/tags"' in tagging
        given = {**fields_of(tagging), "name": "mood", "value": "sad"}
        answer = opened.post("/-/nearsql/test/tags", given, as_form=True)
        assert (answer.status_code, answer.headers["location"]) == (302, f"{ROOT}/2")
        tagged = opened.get(f"{ROOT}/2", actor={"id": "root"}).text
        assert "mood sad hand" in plain(part(tagged, '<div class="about">', "<h2"))
        untag = part(tagged, '<form class="untag"', "</form>")
        assert (
            opened.post("/-/nearsql/test/tags", fields_of(untag), as_form=True).status_code == 302
        )
        assert "mood" not in opened.get(f"{ROOT}/2").text


def test_cards_and_panels_are_fragments(pages: Site) -> None:
    for path in ("card", "panel?space=b"):
        fragment = pages.get(f"{ROOT}/1/{path}")
        assert fragment.status_code == 200
        assert "<html" not in fragment.text


def test_hostile_numbers_and_kinds_stay_on_the_page(full: dbapi.Connection, copy: Path) -> None:
    with immediate(full):
        full.execute(
            "update findings set kind = ?, evidence_json = ?", (SCRIPT, json.dumps([SCRIPT]))
        )
        full.execute("update cv_predictions set y_true = ?, y_pred = x'00ff'", (SCRIPT,))
        full.execute("update memberships set outlier_score = 9e999")
        full.execute("update loss_distances set distance = -9e999 where distance is not null")
    with site(copy) as opened:
        response = opened.get(f"{ROOT}/1")
        assert response.status_code == 200
        assert SCRIPT not in response.text


def test_a_run_that_names_no_components_is_left_out(full: dbapi.Connection, copy: Path) -> None:
    full.execute("drop trigger runs_finished_never_change")
    with site(copy) as opened:
        for components in ('"cls"', "null", "3", '{"a": [1]}', "[null, 7]"):
            full.execute(
                "update runs set parameters_json = ? where kind = 'loss-distance'",
                (f'{{"components": {components}}}',),
            )
            full.commit()
            assert opened.get(f"{ROOT}/1").status_code == 200, components
