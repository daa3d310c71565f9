"""The pages that compare two runs or spaces say what SQL says, and why some cannot be compared."""

import random
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from compared import OTHER_SPACE, SPACE, Compared, add_clustering, build
from gallery import PER_COLOUR, SCRIPT, Gallery
from served import Site, site

from nearsql.datasette_plugins import diff_clusterings
from nearsql.udfs import connection

ROOT = "/-/nearsql/compared"
DIFF = f"{ROOT}/diff"


@pytest.fixture(scope="module")
def compared(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return build(tmp_path_factory.mktemp("compared") / "compared.db", gallery)


@pytest.fixture(scope="module")
def pages(compared: Compared) -> Iterator[Site]:
    with site(compared.path) as opened:
        yield opened


def pair(a: object, b: object, **more: object) -> str:
    """The address of a comparison."""
    asked = {"a": a, "b": b, **more}
    return DIFF + "?" + "&".join(f"{name}={quote(str(value))}" for name, value in asked.items())


def items(page: str) -> list[int]:
    """The items of the contact sheet, in its order."""
    sheet = page[page.index('<ol class="sheet') :] if '<ol class="sheet' in page else ""
    return [int(i) for i in re.findall(r'title="Item (\d+)"', sheet)]


def cells(page: str, heading: str) -> list[list[str]]:
    """The body of the table below a heading, as texts."""
    section = page[page.index(f"<h2>{heading}") :]
    body = section[section.index("<tbody>") : section.index("</tbody>")]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    cut = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", c)).split()) for c in row] for row in cut]


def test_the_form_offers_what_can_be_compared(pages: Site, compared: Compared) -> None:
    page = pages.get(DIFF).text
    offered = re.findall(r'<option value="([^"]+)"', page)
    runs = [str(run) for run in (compared.second, compared.first)]
    runs += [str(run) for run in (*compared.evaluations[::-1], *compared.detectors[::-1])]
    assert offered[: len(runs)] == runs
    assert {SPACE, OTHER_SPACE} <= set(offered)
    assert unescape(pair(compared.first, compared.second)) in unescape(page)


def test_clusterings_say_what_became_of_the_clusters(pages: Site, compared: Compared) -> None:
    page = pages.get(pair(compared.first, compared.second)).text
    rows = cells(page, "What became of the clusters")
    assert [(row[0], row[1], row[3], row[5]) for row in rows] == [
        ("split", "cluster 0", "cluster 1", "13"),
        ("split", "cluster 0", "cluster 0", "14"),
        ("same", "green 1", "cluster 3", "1"),
        ("same", f"blue {SCRIPT} 2", "cluster 2", "27"),
    ] or sorted(row[0] for row in rows) == ["same", "same", "split", "split"]
    assert SCRIPT not in page
    assert "3 &rarr; 4" in page
    (asked,) = re.findall(r'became of the clusters <a class="sql" href="([^"]+)"', page)
    query = {k: v[0] for k, v in parse_qs(urlsplit(unescape(asked)).query).items()}
    found = pages.query("compared", query.pop("sql"), **query).json()["rows"]
    assert [row["change"] for row in found] == [row[0] for row in rows]
    assert [str(row["overlap"]) for row in found] == [row[5] for row in rows]


def test_items_that_moved_are_those_of_sql(pages: Site, compared: Compared) -> None:
    sql = "select id, move, cluster_a as a, cluster_b as b from cluster_moves(:a, :b)"
    moved = pages.query(
        "compared",
        sql.replace(":a", str(compared.first)).replace(":b", str(compared.second)),
    ).json()["rows"]
    assert {row["move"] for row in moved} == {"to noise"}
    whole = pages.get(pair(compared.first, compared.second)).text
    assert sorted(items(whole)) == sorted(row["id"] for row in moved)
    some = pages.get(pair(compared.first, compared.second, move="to noise")).text
    assert sorted(items(some)) == sorted(row["id"] for row in moved)
    none = pages.get(pair(compared.first, compared.second, move="from noise")).text
    assert "There are none." in none
    to_map = re.search(rf'href="{ROOT}/map/{compared.projection}#([^"]+)"', whole)
    assert to_map
    asked = {k: v[0] for k, v in parse_qs(unescape(to_map[1])).items()}
    assert asked["colour"] == f"cluster:{compared.second}:1"
    ids = [row["id"] for row in pages.query("compared", asked["filter"]).json()["rows"]]
    assert ids == [row["id"] for row in moved]


def test_the_items_of_a_pair_of_clusters(pages: Site, compared: Compared) -> None:
    page = pages.get(pair(compared.first, compared.second, **{"from": 1, "to": "noise"})).text
    green = range(PER_COLOUR + 1, 2 * PER_COLOUR + 1)
    assert items(page) == [i for i in green if i % 10 and i != PER_COLOUR + 1]
    both = pages.get(pair(compared.first, compared.second, **{"from": "noise", "to": "noise"})).text
    assert items(both) == list(range(10, 91, 10))


def test_the_sheet_has_pages(
    pages: Site, compared: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff_clusterings, "ITEMS_SHOWN", 10)
    seen: list[int] = []
    path = pair(compared.first, compared.second, **{"from": 2, "to": 2})
    while path:
        page = pages.get(path).text
        seen += items(page)
        older = re.search(r'rel="next" href="(\?[^"]+)"', page)
        path = DIFF + unescape(older[1]) if older else ""
    assert seen == [i for i in range(2 * PER_COLOUR + 1, 3 * PER_COLOUR + 1) if i % 10]


def test_the_drawing_holds_every_item(pages: Site, compared: Compared) -> None:
    page = pages.get(pair(compared.first, compared.second)).text
    drawing = page[page.index('<svg viewBox="0 0 1000') :]
    drawing = drawing[: drawing.index("</svg>")]
    ribbons = [int(n) for n in re.findall(r"<title>[^<]*→[^<]*: (\d+) items?</title>", drawing)]
    assert sum(ribbons) == 90
    (asked,) = re.findall(r'Where the items went <a class="sql" href="([^"]+)"', page)
    query = {k: v[0] for k, v in parse_qs(urlsplit(unescape(asked)).query).items()}
    rows = pages.query("compared", query.pop("sql"), **query).json()["rows"]
    assert Counter(ribbons) == Counter(row["items"] for row in rows)


@pytest.mark.parametrize("seed", range(3))
def test_moves_are_counted_as_sql_counts_them(
    compared: Compared, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    db = connection.connect(copy)
    one = [draw.choice([None, 0, 0, 0, 1, 1, 2, 3]) for _ in range(90)]
    other = [draw.choice([a, a, a, a, None, 5, 6, 1]) for a in one]
    a, b = add_clustering(db, one), add_clustering(db, other)
    expected = Counter(
        dict(db.execute("select move, count(*) from cluster_moves(?, ?) group by move", (a, b)))
    )
    db.close()
    with site(copy) as own:
        page = own.get(pair(a, b)).text
    shown = re.findall(r'move=[^"]+">([a-z ]+) <span>(\d+)</span>', page)
    words = {"to another cluster": "moved"}
    assert Counter({words.get(word, word): int(n) for word, n in shown}) == expected


def test_levels_of_one_run_can_be_compared(pages: Site, compared: Compared) -> None:
    same = pages.get(pair(compared.first, compared.first)).text
    assert "No item moved" in same
    assert "1.000" in same
    missing = pages.get(pair(compared.first, compared.second, level=7))
    assert missing.status_code == 400
    assert "has no level 7" in missing.text


def test_evaluations_say_which_is_better_and_of_which_items(
    pages: Site, compared: Compared
) -> None:
    page = pages.get(pair(*compared.evaluations)).text
    (row,) = cells(page, "Which predicts better")
    assert row[:6] == [SPACE, "5", "uniform", "20", "0.75", "0.95 better"]
    assert row[6:9] == ["5", "1", "0"]
    assert items(page) == [20, 1, 2, 3, 4, 5]
    assert items(pages.get(pair(*compared.evaluations, change="gained")).text) == [1, 2, 3, 4, 5]
    assert SCRIPT not in page
    voters = f"{ROOT}/evaluations/{compared.evaluations[1]}/items/20?space={quote(SPACE, safe='/')}"
    assert voters in unescape(page)


def test_one_evaluation_is_compared_by_two_of_its_settings(pages: Site, compared: Compared) -> None:
    run = compared.evaluations[0]
    alone = pages.get(pair(run, run))
    assert alone.status_code == 400
    assert "has no other predictions to compare these with" in alone.text
    assert '<select name="k_b">' in alone.text
    crossed = pages.get(pair(run, run, k=5, k_b=9, weighting="uniform", weighting_b="uniform"))
    assert crossed.status_code == 200
    (row,) = cells(crossed.text, "Which predicts better")
    assert row[1] == "5 → 9"
    assert row[6:9] == ["5", "1", "0"]


def test_detector_runs_say_what_regressed(pages: Site, compared: Compared) -> None:
    page = pages.get(pair(*compared.detectors)).text
    rows = {row[0]: row for row in cells(page, "Which is better")}
    assert rows["mean_iou_gt"][6:9] == ["17", "3", "0"]
    assert rows["fn"][1] == "lower"
    assert sorted(items(page)) == list(range(1, 21))
    assert items(pages.get(pair(*compared.detectors, change="regressed")).text) == [1, 2, 3]
    by_tp = pages.get(pair(*compared.detectors, metric="tp")).text
    assert sorted(items(by_tp)) == list(range(4, 21))
    assert cells(page, "In what the runs differ")[0] == ["model", "detector", "another"]


def test_spaces_say_who_is_near_whom(pages: Site) -> None:
    page = pages.get(pair(SPACE, OTHER_SPACE, k=5)).text
    overlap = f"space_overlap('{SPACE}', '{OTHER_SPACE}', 5)"
    sql = f"select shared, count(*) as n from {overlap} group by 1 order by 1"
    expected = [(row["shared"], row["n"]) for row in pages.query("compared", sql).json()["rows"]]
    shown = cells(page, "Of its 5 nearest neighbours")
    assert [(int(row[0]), int(row[1])) for row in shown] == expected
    mean = pages.query("compared", f"select avg(overlap) as mean from {overlap}").json()["rows"][0]
    assert f"{mean['mean']:.3f}" in page
    shared = expected[0][0]
    some = pages.get(pair(SPACE, OTHER_SPACE, k=5, shared=shared)).text
    sql = f"select id from {overlap} where shared = {shared} order by id"
    assert items(some) == [row["id"] for row in pages.query("compared", sql).json()["rows"]]


def test_pairs_that_cannot_be_compared_get_a_sentence(pages: Site, compared: Compared) -> None:
    first, evaluation = compared.first, compared.evaluations[0]
    newest = f"and the newest that can be are {compared.second}, {first} (cluster)"
    cases = [
        (first, 999, 404, "There is no run 999"),
        (first, 10**20, 404, f"There is no run {10**20}"),
        (
            first,
            compared.projection,
            400,
            f"Run {compared.projection} is of kind 'project', which cannot",
        ),
        (first, evaluation, 400, f"run {evaluation} of kind 'evaluate': only runs of one kind"),
        (first, evaluation, 400, newest),
        (first, SPACE, 400, f"{first} is the number of a run and '{SPACE}' is none"),
        (
            SPACE,
            "nothing",
            404,
            "There is no space 'nothing' in this database: the spaces are paint/",
        ),
        (SPACE, "words/space", 400, "have 0 items in common"),
        (first, "", 400, f"Choose a second run to compare {first} with"),
        (SPACE, "", 400, f"Choose a second space to compare {SPACE} with"),
    ]
    for a, b, status, sentence in cases:
        response = pages.get(pair(a, b))
        assert response.status_code == status, sentence
        assert sentence in unescape(response.text)
        assert "<h2>Two runs" in response.text
    for more, sentence in (
        ({"kind": "maps"}, "kind must be one of runs, spaces"),
        ({"level": "x"}, "level must be a whole number, not 'x'"),
        ({"move": "away"}, "move must be one of moved, to noise, from noise, not 'away'"),
        ({"from": "-2"}, "A cluster is a whole number or 'noise', not '-2'"),
        ({"page": "0"}, "page must be a whole number from 1"),
    ):
        response = pages.get(pair(first, compared.second, **more))
        assert response.status_code == 400
        assert sentence in unescape(response.text)
    response = pages.get(pair(*compared.detectors, metric="beauty"))
    assert "These runs have no metric 'beauty': they have mean_iou_gt" in unescape(response.text)
    response = pages.get(pair(SPACE, OTHER_SPACE, k=0))
    assert "k must be a whole number from 1, not '0'" in unescape(response.text)


def test_an_unfinished_run_is_not_compared(compared: Compared, tmp_path: Path) -> None:
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    db = connection.connect(copy)
    db.execute(
        "insert into runs (id, kind, status, error, finished_at) values (500, 'cluster', 'failed', 'x', 'y')"
    )
    db.commit()
    db.close()
    with site(copy) as own:
        response = own.get(pair(compared.first, 500))
    assert response.status_code == 400
    assert "Run 500 is failed: only a finished run can be compared." in response.text


def test_every_sql_link_gives_rows(pages: Site, compared: Compared) -> None:
    paths = [
        pair(compared.first, compared.second),
        pair(compared.first, compared.second, **{"from": 0, "to": 0}),
        pair(*compared.evaluations),
        pair(*compared.detectors),
        pair(SPACE, OTHER_SPACE, k=5, shared=0),
    ]
    asked = set()
    for path in paths:
        asked |= set(re.findall(r'class="sql" href="([^"]+)"', pages.get(path).text))
    assert len(asked) >= 12
    for link in asked:
        query = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query, True).items()}
        answer = pages.query("compared", query.pop("sql"), **query)
        assert answer.status_code == 200, answer.text
        assert pages.get(unescape(link)).status_code == 200


def test_what_moved_is_saved_as_a_selection(compared: Compared, tmp_path: Path) -> None:
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    with site(copy) as own:
        path = pair(compared.first, compared.second, move="to noise")
        assert 'name="sql"' not in own.get(path).text
        own.let_root()
        page = own.get(path, actor={"id": "root"}).text
        (sql,) = re.findall(r'name="sql" value="([^"]+)"', page)
        fields = {"name": "left", "how": "sql", "sql": unescape(sql)}
        answer = own.post(f"{ROOT}/selections", fields, as_form=True)
        assert answer.status_code == 302
        saved = own.query("compared", "select item_id from selection_items order by 1").json()[
            "rows"
        ]
        kept = {row["item_id"] for row in saved}
        shown = own.query(
            "compared",
            f"select id from cluster_moves({compared.first}, {compared.second}) where move = 'to noise'",
        ).json()["rows"]
        assert kept == {row["id"] for row in shown}
        assert len(kept) == 26
