"""The pages of evaluations: every figure is the file's, every cell opens its items, and voters are who voted."""

import re
from collections.abc import Iterator
from contextlib import closing
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from judged_pages import ITEMS, KINDS, MISLABELLED, OUTLIER, SCRIPT, TEXTS, Judged, build
from served import Site, site

from nearsql.datasette_plugins import evaluations
from nearsql.schema import query_files
from nearsql.udfs import connection

ROOT = "/-/nearsql/judged/evaluations"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return build(tmp_path_factory.mktemp("judged") / "judged.db")


@pytest.fixture(scope="module")
def pages(judged: Judged) -> Iterator[Site]:
    with site(judged.path) as opened:
        yield opened


def rows(judged: Judged, sql: str, *parameters: Any, **named: Any) -> list[tuple[Any, ...]]:
    """What the file says."""
    with closing(connection.connect(judged.path, read_only=True)) as db:
        return [tuple(row) for row in db.execute(sql, named or parameters)]


def question(judged: Judged, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """The answer to a named question."""
    (file,) = [f for f in query_files() if f.name == f"{name}.sql"]
    return rows(judged, file.read_text("utf-8"), **parameters)


def text_of(html: str) -> str:
    """What a reader reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def items_of(page: str) -> list[int]:
    """The items of a contact sheet."""
    sheet = page[page.index('<ol class="sheet') :]
    return [int(i) for i in re.findall(r'<a class="thumbnail[^>]*title="Item (\d+)"', sheet)]


def sql_rows(pages: Site, page: str) -> list[list[dict[str, Any]]]:
    """The answers behind the SQL links of a page."""
    answers = []
    for link in re.findall(r'class="sql" href="([^"]+)"', page):
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
        answers.append(pages.query("judged", asked.pop("sql"), **asked).json()["rows"])
    return answers


def setting(space: str = "good", k: int = 5, weighting: str = "uniform", **more: Any) -> str:
    return urlencode({"space": space, "k": k, "weighting": weighting, **more})


def test_the_list_has_each_evaluation_and_its_best_figure(pages: Site, judged: Judged) -> None:
    page = pages.get(ROOT).text
    assert re.findall(r'<th scope="row"><a href="([^"]+)"', page) == [
        f"{ROOT}/{judged.of_number}",
        f"{ROOT}/{judged.of_label}",
    ]
    best = rows(
        judged, "select max(value) from cv_metrics where fold is null and metric = 'accuracy'"
    )
    assert f"accuracy {best[0][0]:.4f}" in text_of(page)
    assert "good, poor" in page


def test_every_setting_is_in_the_plot_and_in_the_table(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}").text
    figures = {
        (f"{space}, {weighting}", str(k)): (value, low, high)
        for space, k, weighting, value, low, high in rows(
            judged,
            "select s.name, m.k, m.weighting, max(m.value) filter (where m.fold is null),"
            " min(m.value) filter (where m.fold >= 0), max(m.value) filter (where m.fold >= 0)"
            " from cv_metrics m join spaces s on s.id = m.space_id"
            " where m.run_id = ? and m.metric = 'accuracy' group by 1, 2, 3",
            judged.of_label,
        )
    }
    assert len(figures) == 8
    tips = re.findall(
        r'data-tip="([^"]+), k (\d+): accuracy ([\d.]+) \(folds ([\d.]+) to ([\d.]+)\)"', page
    )
    drawn = {(name, k): tuple(map(float, numbers)) for name, k, *numbers in tips}
    assert drawn.keys() == figures.keys()
    for key, numbers in drawn.items():
        assert numbers == pytest.approx(figures[key], abs=6e-5)
    table = page[page.index('<table class="settings">') : page.index('<section id="chosen">')]
    accuracies = [
        float(text_of(row).split()[4])
        for row in re.findall(r"<tr[ >].*?</tr>", table, re.DOTALL)
        if "<td" in row
    ]
    assert sorted(accuracies, reverse=True) == accuracies
    assert len(accuracies) == 8
    assert all(sql_rows(pages, page))


def test_a_higher_value_is_drawn_higher(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}").text
    points = re.findall(
        r'data-tip="(good|poor), \w+, k \d: accuracy ([\d.]+)[^>]*><(?:circle cx="[\d.]+" cy|'
        r'rect x="[\d.]+" y|path d="M[\d.]+) ?=?"?([\d.]+)',
        page,
    )
    assert len(points) == 8
    good = [float(y) for space, _, y in points if space == "good"]
    poor = [float(y) for space, _, y in points if space == "poor"]
    assert max(good) < min(poor)  # y grows downwards


def test_the_best_setting_is_shown_unless_the_address_names_another(
    pages: Site, judged: Judged
) -> None:
    best = question(judged, "evaluation_table", evaluation=judged.of_label)[0]
    page = pages.get(f"{ROOT}/{judged.of_label}").text
    assert f"<h2>{best[0]}, k {best[1]}, " in page
    page = pages.get(f"{ROOT}/{judged.of_label}?space=poor&k=1&weighting=distance").text
    assert "<h2>poor, k 1, distance</h2>" in page
    folds = question(
        judged, "evaluation_by_fold", evaluation=judged.of_label, k=1, weighting="distance"
    )
    table = page[page.index('<table class="folds">') :]
    for _, _, _, _, fold, items, value, _ in [f for f in folds if f[0] == "poor"]:
        (row,) = re.findall(rf'<th scope="row">{fold}</th>.*?</tr>', table, re.DOTALL)
        assert str(items) in text_of(row).split()
        assert f"{value:.4f}" in row


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("space=none", 404, "has nothing by space 'none': it has good, poor"),
        ("k=7", 404, "has nothing by k '7': it has 1, 5"),
        ("weighting=x", 404, "has nothing by weighting 'x': it has distance, uniform"),
        ("metric=x", 400, "metric must be one of accuracy"),
    ],
)
def test_settings_that_are_not_there(
    pages: Site, judged: Judged, query: str, status: int, sentence: str
) -> None:
    response = pages.get(f"{ROOT}/{judged.of_label}?{query}")
    assert response.status_code == status
    assert sentence in unescape(response.text)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/999", 404, "Run 999 is no evaluation"),
        ("/{label}/items?shown=x", 400, "shown must be one of cell"),
        ("/{label}/items?shown=cell&label=cat", 400, "shown=cell needs predicted="),
        ("/{label}/items?page=0", 400, "page must be a whole number from 1"),
        ("/{label}/items?page=50", 404, "There is no page 50"),
        ("/{number}/items", 400, "is of numbers"),
        ("/{label}/items/999", 404, "did not evaluate item 999"),
        ("/{label}/items/99999999999999999999", 404, "There is no item 99999999999999999999"),
    ],
)
def test_what_is_not_there_is_a_sentence(
    pages: Site, judged: Judged, path: str, status: int, sentence: str
) -> None:
    response = pages.get(ROOT + path.format(label=judged.of_label, number=judged.of_number))
    assert response.status_code == status
    assert sentence in unescape(response.text)


def test_every_cell_of_the_matrix_opens_its_items(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}?{setting('poor', 1)}").text
    table = page[page.index('<table class="heat">') :]
    table = table[: table.index("</table>")]
    cells = {
        (label, predicted): n
        for label, predicted, n in rows(
            judged,
            "select y_true, y_pred, n from cv_confusion where run_id = ? and k = 1"
            " and weighting = 'uniform' and space_id = (select id from spaces where name = 'poor')",
            judged.of_label,
        )
    }
    shown = {}
    for link, n in re.findall(r'<a href="([^"]+)"[^>]*>(\d+)</a>', table):
        asked = parse_qs(urlsplit(unescape(link)).query)
        key = asked["label"][0], asked["predicted"][0]
        shown[key] = int(n)
        items = items_of(pages.get(unescape(link)).text)
        assert len(items) == int(n)
        assert set(items) == {
            item
            for (item,) in rows(
                judged,
                "select item_id from cv_predictions where run_id = ? and k = 1 and y_true = ?"
                " and y_pred = ? and weighting = 'uniform'"
                " and space_id = (select id from spaces where name = 'poor')",
                judged.of_label,
                *key,
            )
        }
    assert shown == cells
    assert sum(shown.values()) == ITEMS


def test_labels_are_those_of_the_named_question(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}?{setting('poor')}").text
    asked = question(
        judged,
        "evaluation_by_class",
        evaluation=judged.of_label,
        space="poor",
        k=5,
        weighting="uniform",
    )
    table = page[page.index('<table class="labels">') :]
    for label, items, _, recall, precision, f1 in asked:
        row = text_of(table[table.index(f'title="{escape(label)}"') :].partition(">")[2])
        assert str(items) in row.split()
        numbers = [float(number) for number in re.findall(r"\b\d\.\d{3}\b", row)[:3]]
        assert numbers == pytest.approx([f1, recall, precision], abs=6e-4)


def test_sheets_by_what_was_said(pages: Site, judged: Judged) -> None:
    wrong = rows(
        judged,
        "select item_id from cv_predictions where run_id = ? and k = 5 and weighting = 'uniform'"
        " and space_id = (select id from spaces where name = 'good') and y_pred is not y_true"
        " order by score desc, item_id",
        judged.of_label,
    )
    page = pages.get(f"{ROOT}/{judged.of_label}/items?{setting()}").text
    assert items_of(page) == [item for (item,) in wrong]
    assert MISLABELLED in items_of(page)
    missed = pages.get(
        f"{ROOT}/{judged.of_label}/items?{setting(shown='missed', label='dog')}"
    ).text
    assert items_of(missed) == [MISLABELLED]
    mistaken = setting(shown="mistaken", predicted="cat")
    assert MISLABELLED in items_of(pages.get(f"{ROOT}/{judged.of_label}/items?{mistaken}").text)
    cats = setting(shown="label", label="cat")
    assert len(items_of(pages.get(f"{ROOT}/{judged.of_label}/items?{cats}").text)) == 20


def test_a_sheet_has_pages(pages: Site, judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "ITEMS_SHOWN", 25)
    base = f"{ROOT}/{judged.of_label}/items?{setting(shown='right')}"
    found, link = [], base
    while link:
        page = pages.get(link).text
        found += items_of(page)
        onward = re.search(r'rel="next" href="([^"]+)"', page)
        link = unescape(onward[1]) if onward else ""
    assert len(found) == len(set(found)) > 50
    assert f"{len(found)} items" in page


def test_the_hardest_are_wrong_and_wrong_most_often(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}?{setting('poor')}").text
    hardest = items_of(page)
    assert len(hardest) == evaluations.HARDEST_SHOWN
    counts = dict(
        rows(
            judged,
            "select item_id, sum(y_pred is not y_true) from cv_predictions where run_id = ? group by 1",
            judged.of_label,
        )
    )
    assert [counts[item] for item in hardest] == sorted(
        (counts[item] for item in hardest), reverse=True
    )
    assert min(counts[item] for item in hardest) > 0
    assert "of 8" in text_of(page[page.index('id="hardest"') :])


@pytest.mark.parametrize("weighting", ["uniform", "distance"])
def test_voters_are_who_voted(pages: Site, judged: Judged, weighting: str) -> None:
    page = pages.get(
        f"{ROOT}/{judged.of_label}/items/{MISLABELLED}?{setting('poor', 5, weighting)}"
    ).text
    voters = rows(
        judged,
        "select neighbor_id, distance, weight from evaluation_neighbors(?, 'poor', ?, ?) order by rank",
        *(judged.of_label, MISLABELLED, weighting),
    )
    assert items_of(page) == [voter for voter, _, _ in voters]
    total = sum(weight for *_, weight in voters[:5])
    shares = [float(s) for s in re.findall(r"\d &middot; [\d.e+-]+ &middot; ([\d.]+)%", page)]
    assert shares == pytest.approx([100 * w / total for *_, w in voters[:5]], abs=0.06)
    ((predicted, share),) = rows(
        judged,
        "select y_pred, score from cv_predictions where run_id = ? and item_id = ? and k = 5"
        " and weighting = ? and space_id = (select id from spaces where name = 'poor')",
        *(judged.of_label, MISLABELLED, weighting),
    )
    votes = text_of(page[page.index('<table class="votes">') :])
    assert f"{predicted} " in votes
    assert f"{100 * share:.1f}%" in votes
    # Every setting's answer is there, and leads to it.
    links = re.findall(r'<td class="n[^"]*"><a href="([^"]+)"', page)
    assert len(links) == 8
    assert all(pages.get(unescape(link)).status_code == 200 for link in links)
    assert all(sql_rows(pages, page))


def test_who_comes_after_the_voters_is_told_from_them(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_label}/items/3?{setting(k=1)}").text
    assert page.count('<li class="silent">') == 4
    assert len(items_of(page)) == 5


def test_numbers_are_a_scatter_and_errors(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.of_number}?weighting=uniform").text
    tips = re.findall(r'data-tip="Item (\d+): true ([-\d.e+]+), predicted ([-\d.e+]+)"', page)
    said = {
        item: (truth, estimate)
        for item, truth, estimate in rows(
            judged,
            "select item_id, y_true, y_pred from cv_predictions where run_id = ?"
            " and weighting = 'uniform'",
            judged.of_number,
        )
    }
    assert {int(item) for item, *_ in tips} == said.keys()
    for item, truth, estimate in tips:
        assert (float(truth), float(estimate)) == pytest.approx(said[int(item)], rel=1e-3)
    by_error = sorted(said, key=lambda item: (-abs(said[item][1] - said[item][0]), item))
    assert items_of(page) == by_error[: evaluations.HARDEST_SHOWN]
    assert by_error[0] == OUTLIER
    link = re.search(r'<a href="([^"]+)" tabindex="-1"><circle class="dot"', page)[1]
    assert pages.get(unescape(link)).status_code == 200
    assert all(sql_rows(pages, page))


def test_few_points_are_drawn_of_many(
    pages: Site, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluations._OF_NUMBERS, "eval_scatter", {"limit": 10})
    page = pages.get(f"{ROOT}/{judged.of_number}").text
    assert page.count('class="dot"') == 10
    assert f"10 of {ITEMS} items" in page


def test_labels_are_inert(pages: Site, judged: Judged) -> None:
    label = KINDS[2]
    cell = setting(shown="cell", label=label, predicted=label)
    for path in (
        "",
        f"/{judged.of_label}",
        f"/{judged.of_label}/items?{cell}",
        f"/{judged.of_label}/items/{TEXTS}",
    ):
        page = pages.get(ROOT + path).text
        assert SCRIPT not in page, path
    assert "&lt;script&gt;" in page


def test_datasettes_tables_lead_to_the_pages(pages: Site) -> None:
    for table in ("cv_metrics", "cv_predictions"):
        assert f'href="{ROOT}"' in pages.get(f"/judged/{table}?_size=1").text, table
    assert 'href="/-/nearsql/judged/findings"' in pages.get("/judged/findings?_size=1").text


def test_an_empty_file_names_the_command(database: Path) -> None:
    with site(database) as empty:
        page = empty.get("/-/nearsql/test/evaluations").text
        assert "nearsql evaluate FILE SPACE --label NAME" in page


def test_pages_are_below_base_url(judged: Judged) -> None:
    with site(judged.path, settings={"base_url": "/here/"}) as below:
        for path in (
            "",
            f"/{judged.of_label}",
            f"/{judged.of_number}",
            f"/{judged.of_label}/items/1",
        ):
            page = below.get(ROOT + path).text
            links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
            assert links
            assert all(link.startswith("/here/") for link in links), path


def test_numbers_that_no_plot_can_hold(judged: Judged, tmp_path: Path) -> None:
    copy = tmp_path / "judged.db"
    copy.write_bytes(judged.path.read_bytes())
    with closing(connection.connect(copy)) as db:
        db.execute(
            "update cv_metrics set value = 9e999, reason = null where metric = 'accuracy' and k = 1"
        )
        db.execute("update cv_metrics set value = -1e308, reason = null where metric = 'macro_f1'")
        db.execute(
            "update cv_predictions set y_pred = 1e308 where item_id = 1 and typeof(y_true) = 'real'"
        )
        db.execute(
            "update cv_predictions set y_pred = 9e999 where item_id = 2 and typeof(y_true) = 'real'"
        )
        db.execute("update runs set parameters_json = '{}' where 0")
        db.commit()
    with site(copy) as own:
        for run in (judged.of_label, judged.of_number):
            for query in ("", "?metric=macro_f1" if run == judged.of_label else "?metric=mae"):
                assert own.get(f"{ROOT}/{run}{query}").status_code == 200
