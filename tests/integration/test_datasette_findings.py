"""Worklists of findings: what they show and say, that decisions are stored, and by whom they may be made."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from judged_images import WIDTH
from judged_pages import (
    BOX,
    COPY,
    MISLABELLED,
    MISSED,
    OUTLIER,
    SCRIPT,
    Judged,
    Photos,
    build,
    build_photos,
)
from served import Site, site

from nearsql.datasette_plugins import findings
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection

ROOT = "/-/nearsql/judged/findings"
PHOTOS = "/-/nearsql/photos/findings"
ANNA = {"id": "anna"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return build(tmp_path_factory.mktemp("judged") / "judged.db")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return build_photos(tmp_path_factory.mktemp("photos") / "photos.db")


@pytest.fixture(scope="module")
def shared(judged: Judged, photos: Photos) -> Iterator[Site]:
    with site(judged.path, photos.path) as opened:
        opened.let_root()
        yield opened


@pytest.fixture
def pages(shared: Site, judged: Judged) -> Iterator[Site]:
    """A site that the test may write to: what it has decided is forgotten afterwards."""
    yield shared
    with closing(connection.connect(judged.path)) as db:
        db.execute("update findings set decision = null, decided_at = null")
        db.commit()


def rows(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the file now holds, asked beside the site."""
    with closing(connection.connect(path, read_only=True)) as db:
        return [tuple(row) for row in db.execute(sql, parameters)]


def shown(page: str) -> list[int]:
    """The findings of a worklist, in its order."""
    return [int(i) for i in re.findall(r'data-finding="(\d+)"', page)]


def one(page: str, finding: int) -> str:
    """One finding's part of a worklist."""
    start = page.index(f'id="f{finding}"')
    end = page.find('<li class="finding', start)
    return page[start : end if end > 0 else page.index("</ol>", start)]


def text_of(html: str) -> str:
    """What a reader reads."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def finding(path: Path, kind: str, item: int) -> int:
    ((number,),) = rows(
        path, "select id from findings where kind = ? and ? in (item_id, other_item_id)", kind, item
    )
    return int(number)


def decision(judged: Judged, number: int) -> tuple[str | None, str | None]:
    ((said, at),) = rows(
        judged.path, "select decision, decided_at from findings where id = ?", number
    )
    return said, at


# What is shown --------------------------------------------------------------------------------------


def test_the_list_has_each_run_and_its_progress(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    pages.post(f"{ROOT}/{judged.found}/decide", {"finding": number, "decision": "keep"})
    page = pages.get(ROOT).text
    ((kinds,),) = rows(
        judged.path,
        "select group_concat(kind || ' ' || n, ', ') from"
        " (select kind, count(*) as n from findings group by kind order by kind)",
    )
    (row,) = re.findall(r"<tr>\s*<th scope.*?</tr>", page, re.DOTALL)
    ((n,),) = rows(judged.path, "select count(*) from findings")
    assert f"{ROOT}/{judged.found}" in row
    assert kinds in row
    words = text_of(row)
    assert f" {n} 1 1 0 {judged.found} " in words  # findings, decided, kept, dismissed, run


def test_each_kind_is_a_worklist_the_surest_first(pages: Site, judged: Judged) -> None:
    counts = rows(judged.path, "select kind, count(*) from findings group by 1 order by 1")
    assert {kind for kind, _ in counts} == {"duplicate", "label_error", "outlier"}
    for kind, n in counts:
        page = pages.get(f"{ROOT}/{judged.found}?kind={kind}").text
        expected = rows(
            judged.path, "select id from findings where kind = ? order by score desc, id", kind
        )
        assert shown(page) == [number for (number,) in expected]
        assert f"0 of {n} decided: 0 kept, 0 dismissed" in text_of(page)


def test_a_pair_is_shown_side_by_side(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    part = one(pages.get(f"{ROOT}/{judged.found}?kind=duplicate").text, number)
    assert part.count('<p class="quote">') == 2
    assert f"text {COPY}" in part
    assert "text 1<" in part
    ((distance,),) = rows(
        judged.path, "select evidence_json ->> 'distance' from findings where id = ?", number
    )
    assert f"{distance:.4g} apart" in text_of(part)


def test_label_errors_say_who_voted(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "label_error", MISLABELLED)
    part = one(pages.get(f"{ROOT}/{judged.found}?kind=label_error").text, number)
    words = text_of(part)
    assert "kind is dog, neighbours say cat" in words
    assert "100% of the votes of its 5 nearest are against dog." in words
    assert part.count('<span class="miss">cat</span>') == 5


def test_outliers_say_how_far_they_are(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "outlier", OUTLIER)
    part = one(pages.get(f"{ROOT}/{judged.found}?kind=outlier").text, number)
    ((distance, z_score),) = rows(
        judged.path,
        "select evidence_json ->> 'distance', evidence_json ->> 'z_score' from findings where id = ?",
        number,
    )
    assert f"Neighbour 5 is {distance:.4g} away" in text_of(part)
    assert f"z-score {z_score:.4g}" in text_of(part)


def test_failures_are_shown_with_the_boxes_that_they_are_about(pages: Site, photos: Photos) -> None:
    page = pages.get(f"{PHOTOS}/{photos.failures}?kind=miss").text
    (number,) = shown(page)
    part = one(page, number)
    assert "1 of 1 objects missed" in text_of(part)
    assert "1 \N{MULTIPLICATION SIGN} cat, medium: wrong class" in text_of(part)
    assert f"/items/{MISSED}?detector={photos.detector}" in part
    (rectangle,) = re.findall(
        r'<rect class="missed" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', part
    )
    x, y, width, height = map(float, rectangle)
    assert (x, y, x + width, y + height) == BOX
    assert f'viewBox="0 0 {WIDTH} ' in part
    page = pages.get(f"{PHOTOS}/{photos.failures}?kind=false_alarm").text
    assert len(shown(page)) == 7
    for number in shown(page):
        assert re.search(r"dog 0\.\d\d: (nothing there|wrong class)", text_of(one(page, number)))
        assert one(page, number).count('<rect class="wrong"') == 1
    page = pages.get(f"{PHOTOS}/{photos.failures}?kind=lonely_failure").text
    assert "mean_iou_gt 0, where" in text_of(one(page, shown(page)[0]))
    page = pages.get(f"{PHOTOS}/{photos.failures}?kind=worst_loss:box").text
    assert "Largest box loss" in page
    assert "Number 1 of 24 images" in text_of(one(page, shown(page)[0]))


def test_a_box_of_another_image_is_not_drawn(photos: Photos, tmp_path: Path) -> None:
    copy = tmp_path / "photos.db"
    copy.write_bytes(photos.path.read_bytes())
    with closing(connection.connect(copy)) as db:
        db.execute("update annotations set item_id = 1 where item_id = ?", (MISSED,))
        db.commit()
    with site(copy) as own:
        page = own.get(f"{PHOTOS}/{photos.failures}?kind=miss").text
    assert '<rect class="missed"' not in page
    assert len(shown(page)) == 1


def test_links_and_sql_of_a_worklist_answer(pages: Site, judged: Judged, photos: Photos) -> None:
    for base, number in ((ROOT, judged.found), (PHOTOS, photos.failures)):
        for path in (base, f"{base}/{number}"):
            page = pages.get(path).text
            links = {
                unescape(link)
                for link in re.findall(r'href="(/[^"#]*)', page)
                if "findings" in link or "/items/" in link
            }
            assert links
            for link in links:
                assert pages.get(link).status_code == 200, link
            for link in re.findall(r'class="sql" href="([^"]+)"', page):
                asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
                database = base.split("/")[3]
                assert pages.query(database, asked.pop("sql"), **asked).json()["rows"]


def test_the_first_kind_with_something_to_decide_is_shown(pages: Site, judged: Judged) -> None:
    assert "<h1>Duplicates</h1>" in pages.get(f"{ROOT}/{judged.found}").text
    for number in shown(pages.get(f"{ROOT}/{judged.found}").text):
        pages.post(f"{ROOT}/{judged.found}/decide", {"finding": number, "decision": "dismiss"})
    page = pages.get(f"{ROOT}/{judged.found}").text
    assert "<h1>Label errors</h1>" in page
    assert "Duplicates done" in text_of(page)


# What is decided ------------------------------------------------------------------------------------


def test_a_decision_is_stored_and_taken_back(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    address = f"{ROOT}/{judged.found}/decide"
    said = pages.post(address, {"finding": number, "decision": "keep"})
    assert said.status_code == 200, said.text[-300:]
    answer = said.json()
    assert answer["ok"]
    (kind,) = [k for k in answer["kinds"] if k["kind"] == "duplicate"]
    assert (kind["kept"], kind["undecided"]) == (1, kind["findings"] - 1)
    stored, at = decision(judged, number)
    assert stored == "keep"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", at or "")
    part = one(pages.get(f"{ROOT}/{judged.found}?kind=duplicate").text, number)
    assert 'data-decision="keep"' in part
    pages.post(address, {"finding": str(number), "decision": "dismiss"})
    assert decision(judged, number)[0] == "dismiss"
    pages.post(address, {"finding": number, "decision": ""})
    assert decision(judged, number) == (None, None)


def test_a_form_decides_without_a_script_and_goes_on(pages: Site, judged: Judged) -> None:
    path = f"{ROOT}/{judged.found}?kind=duplicate"
    page = pages.get(path, actor={"id": "root"}).text
    number = finding(judged.path, "duplicate", COPY)
    part = one(page, number)
    fields = {
        name: unescape(value)
        for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', part)
    }
    assert fields["finding"] == str(number)
    action = unescape(re.search(r'action="([^"]+)"', part)[1])
    fields.pop("csrftoken")
    answer = pages.post(action, {**fields, "decision": "dismiss"}, as_form=True)
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{ROOT}/{judged.found}?kind=duplicate")
    assert decision(judged, number)[0] == "dismiss"


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"decision": "keep"}, 400, "finding must be the number of a finding, not ''"),
        ({"finding": "x", "decision": "keep"}, 400, "finding must be the number"),
        ({"finding": 9**30, "decision": "keep"}, 400, "finding must be the number"),
        ({"finding": 9999, "decision": "keep"}, 404, "has no finding 9999"),
        ({"finding": 1, "decision": "maybe"}, 400, "decision must be keep, dismiss or empty"),
        ({"finding": 1}, 400, "decision must be keep, dismiss or empty, not 'None'"),
        ({"finding": 1, "decision": ["keep"]}, 400, "decision must be keep, dismiss or empty"),
        ({"finding": [1], "decision": "keep"}, 400, "finding must be the number"),
    ],
)
def test_what_cannot_be_decided(
    pages: Site, judged: Judged, fields: dict[str, Any], status: int, sentence: str
) -> None:
    answer = pages.post(f"{ROOT}/{judged.found}/decide", fields)
    assert (answer.status_code, answer.json()["ok"]) == (status, False)
    assert sentence in answer.json()["error"]
    assert rows(judged.path, "select count(*) from findings where decision is not null") == [(0,)]


def test_a_finding_of_another_run_is_not_decided(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    answer = pages.post(f"{ROOT}/{judged.of_label}/decide", {"finding": number, "decision": "keep"})
    assert answer.status_code == 404
    assert decision(judged, number) == (None, None)


def test_only_who_may_write_decides(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    fields = {"finding": number, "decision": "keep"}
    for actor in (None, ANNA):
        assert pages.post(f"{ROOT}/{judged.found}/decide", fields, actor).status_code == 403
    assert pages.get(f"{ROOT}/{judged.found}/decide").status_code == 405
    assert decision(judged, number) == (None, None)
    page = pages.get(f"{ROOT}/{judged.found}?kind=duplicate").text
    assert "<form" not in page[page.index('id="worklist"') :]
    with site(immutables=[str(judged.path)]) as fixed:
        assert fixed.post(f"{ROOT}/{judged.found}/decide", fields).status_code == 403


def test_what_was_decided_can_be_asked_for(pages: Site, judged: Judged) -> None:
    page = pages.get(f"{ROOT}/{judged.found}?kind=label_error").text
    numbers = shown(page)
    assert numbers
    pages.post(f"{ROOT}/{judged.found}/decide", {"finding": numbers[0], "decision": "keep"})
    for said, expected in (
        ("all", numbers),
        ("keep", numbers[:1]),
        ("dismiss", []),
        ("undecided", numbers[1:]),
    ):
        path = f"{ROOT}/{judged.found}?kind=label_error&decision={said}"
        assert shown(pages.get(path).text) == expected


def test_pages_do_not_slip_while_findings_are_decided(
    pages: Site, judged: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(connection.connect(judged.path)) as db,
        run(db, "find", parameters={"space": "good"}) as current,
        immediate(db),
    ):
        db.executemany(
            "insert into findings (run_id, kind, item_id, score) values (?, 'odd', ?, ?)",
            [(current.id, item, None if item % 7 == 0 else item // 4) for item in range(1, 31)],
        )
    monkeypatch.setattr(findings, "FINDINGS_SHOWN", 8)
    try:
        link = f"{ROOT}/{current.id}?kind=odd&decision=undecided"
        seen: list[int] = []
        while link:
            page = pages.get(link).text
            seen += shown(page)
            for number in shown(page)[::2]:
                fields = {"finding": number, "decision": "dismiss"}
                pages.post(f"{ROOT}/{current.id}/decide", fields)
            onward = re.search(r'rel="next" href="([^"]+)"', page)
            link = unescape(onward[1]) if onward else ""
        assert seen == [
            number
            for (number,) in rows(
                judged.path,
                "select id from findings where run_id = ? order by score is null, score desc, id",
                current.id,
            )
        ]
    finally:
        with closing(connection.connect(judged.path)) as db:
            db.execute("delete from runs where id = ?", (current.id,))
            db.commit()


def test_what_is_kept_becomes_a_selection(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "label_error", MISLABELLED)
    pages.post(f"{ROOT}/{judged.found}/decide", {"finding": number, "decision": "keep"})
    page = pages.get(f"{ROOT}/{judged.found}?kind=label_error", actor={"id": "root"}).text
    form = page[page.index('action="/-/nearsql/judged/selections"') :]
    fields = dict(re.findall(r'name="(how|sql|name)"[^>]* value="([^"]*)"', form))
    answer = pages.post(
        "/-/nearsql/judged/selections", {k: unescape(v) for k, v in fields.items()}
    ).json()
    assert answer["items"] == 1
    assert rows(judged.path, "select item_id from selection_items") == [(MISLABELLED,)]


# What is taken away ---------------------------------------------------------------------------------


def test_downloads_are_the_rows_of_the_table(pages: Site, judged: Judged) -> None:
    number = finding(judged.path, "duplicate", COPY)
    pages.post(f"{ROOT}/{judged.found}/decide", {"finding": number, "decision": "keep"})
    stored = rows(
        judged.path,
        "select id, kind, item_id, other_item_id, decision, evidence_json from findings order by id",
    )
    answer = pages.get(f"{ROOT}/{judged.found}/download?format=json")
    assert "attachment" in answer.headers["content-disposition"]
    given = sorted(answer.json(), key=lambda row: row["id"])
    assert [
        (r["id"], r["kind"], r["item_id"], r["other_item_id"], r["decision"], r["evidence"])
        for r in given
    ] == [(*row[:5], json.loads(row[5])) for row in stored]
    answer = pages.get(f"{ROOT}/{judged.found}/download?format=csv&kind=duplicate&decision=keep")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (row["id"], row["decision"], row["item_id"]) == (str(number), "keep", str(COPY))
    assert "csv" in answer.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/999", 404, "Run 999 did not look for findings"),
        ("/{found}?kind=x", 404, "no findings of kind 'x': it has duplicate"),
        ("/{found}?decision=x", 400, "decision must be one of all"),
        ("/{found}?after=x", 400, "after must be the number of a finding"),
        ("/{found}/download", 400, "format must be csv or json"),
        ("/{found}/download?format=json&decision=x", 400, "decision must be one of"),
    ],
)
def test_what_is_not_there_is_a_sentence(
    pages: Site, judged: Judged, path: str, status: int, sentence: str
) -> None:
    answer = pages.get(ROOT + path.format(found=judged.found))
    assert answer.status_code == status
    assert sentence in unescape(answer.text)


def test_an_empty_file_names_the_commands(database: Path) -> None:
    with closing(connection.connect(database)) as db, run(db, "find", parameters={}) as current:
        pass
    with site(database) as empty:
        assert "found nothing" in empty.get(f"/-/nearsql/test/findings/{current.id}").text
    with closing(connection.connect(database)) as db:
        db.execute("delete from runs")
        db.commit()
    with site(database) as empty:
        page = empty.get("/-/nearsql/test/findings").text
        assert "nearsql find FILE SPACE" in page
        assert "nearsql failures FILE" in page


# What a file may hold -------------------------------------------------------------------------------


def test_texts_of_a_hostile_file_are_inert(judged: Judged, tmp_path: Path) -> None:
    copy = tmp_path / "judged.db"
    copy.write_bytes(judged.path.read_bytes())
    hostile = {
        name: SCRIPT for name in ("label", "given", "suggested", "space", "name", "component")
    }
    neighbours = [{"id": 1, "label": SCRIPT}, {"id": 10**30}, SCRIPT]
    with (
        closing(connection.connect(copy)) as db,
        run(db, "find", parameters={"space": SCRIPT, "label": SCRIPT}) as current,
        immediate(db),
    ):
        for kind in ("label_error", f"kind {SCRIPT}", f"worst_loss:{SCRIPT}"):
            told = json.dumps({**hostile, SCRIPT: SCRIPT, "neighbors": neighbours, "k": 3})
            db.execute(
                "insert into findings (run_id, kind, item_id, evidence_json) values (?, ?, 1, ?)",
                (current.id, kind, told),
            )
    with site(copy) as own:
        pages = [own.get(ROOT).text, own.get(f"{ROOT}/{current.id}").text]
        kinds = re.findall(r'<a class="button" href="([^"]+)"', pages[1])
        assert len(kinds) == 3
        pages += [own.get(unescape(link)).text for link in kinds]
    for page in pages:
        assert SCRIPT not in page
        assert "&lt;script&gt;" in page
