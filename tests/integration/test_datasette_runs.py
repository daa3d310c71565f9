"""The pages about runs: the table of them, all that one recorded, and its lineage."""

import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from compared import SPACE, Compared, build
from gallery import SCRIPT, Gallery
from served import Site, site

from nearsql.datasette_plugins import lineage, runs
from nearsql.pipeline.runs import immediate, run, run_input, space_input
from nearsql.udfs import connection

ROOT = "/-/nearsql/compared"


@pytest.fixture(scope="module")
def compared(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return build(tmp_path_factory.mktemp("compared") / "compared.db", gallery)


@pytest.fixture(scope="module")
def pages(compared: Compared) -> Iterator[Site]:
    with site(compared.path) as opened:
        yield opened


def numbers(text: str) -> list[int]:
    """The runs of the table, from top to bottom."""
    return [
        int(n) for n in re.findall(r'<th scope="row" class="n"><a href="[^"]+">(\d+)</a>', text)
    ]


def asked_sql(text: str, block: str) -> dict[str, str]:
    """The SQL, and its parameters, behind the block with this heading."""
    link = re.search(rf'<h[12]>{block} <a class="sql" href="([^"]+)"', text)
    assert link, block
    return {k: v[0] for k, v in parse_qs(urlsplit(unescape(link[1])).query, True).items()}


def test_the_table_shows_every_run_the_newest_first(pages: Site, compared: Compared) -> None:
    page = pages.get(f"{ROOT}/runs").text
    shown = numbers(page)
    asked = asked_sql(page, "Runs")
    rows = pages.query("compared", asked.pop("sql"), **asked).json()["rows"]
    assert shown == [row["run_id"] for row in rows] == sorted(shown, reverse=True)
    assert len(shown) == 12
    assert f'href="{ROOT}/map/{compared.projection}"' in page
    assert f'href="{ROOT}/clusters/{compared.second}"' in page
    assert "min_cluster_size 3" in page
    assert "seed 7" in page


def test_the_table_can_be_of_one_kind_and_status(pages: Site, compared: Compared) -> None:
    clusterings = pages.get(f"{ROOT}/runs?kind=cluster").text
    assert numbers(clusterings) == [compared.second, compared.first]
    failed = pages.get(f"{ROOT}/runs?status=failed").text
    assert numbers(failed) == [compared.failed]
    assert ">failed</span> <span>1</span>" in failed
    both = pages.get(f"{ROOT}/runs?kind=cluster&status=failed").text
    assert numbers(both) == []
    assert "No run of this kind ended like that." in both
    assert ">embed <span>1</span>" in failed
    assert ">embed <span>2</span>" in clusterings


def test_the_table_has_pages(pages: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = numbers(pages.get(f"{ROOT}/runs").text)
    monkeypatch.setattr(runs, "RUNS_SHOWN", 4)
    seen, path = [], f"{ROOT}/runs?kind="
    while path:
        page = pages.get(path).text
        seen += numbers(page)
        older = re.search(r'rel="next" href="(\?[^"]+)"', page)
        path = f"{ROOT}/runs{unescape(older[1])}" if older else ""
    assert seen == everything
    assert "There are no runs on this page" in pages.get(f"{ROOT}/runs?page=9").text


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        (
            "/runs?kind=nothing",
            404,
            "There is no run of kind 'nothing' in this file. The kinds are: cluster",
        ),
        (
            "/runs?status=done",
            400,
            "status must be one of running, finished, failed, interrupted, not 'done'",
        ),
        ("/runs?page=0", 400, "page must be a whole number from 1, not '0'"),
        ("/runs?page=²", 400, "page must be a whole number from 1, not '²'"),
        ("/runs/999", 404, "There is no run 999"),
        ("/runs/99999999999999999999", 404, "There is no run 99999999999999999999"),
    ],
)
def test_what_is_not_there_gets_a_sentence(
    pages: Site, path: str, status: int, sentence: str
) -> None:
    response = pages.get(ROOT + path)
    assert response.status_code == status
    assert sentence in unescape(response.text)


def test_a_file_without_runs_names_the_command_that_fills_it(database: Path) -> None:
    with site(database) as empty:
        assert "nearsql ingest FILE FOLDER" in empty.get("/-/nearsql/test/runs").text
        page = empty.get("/-/nearsql/test/diff").text
        assert "nearsql cluster FILE SPACE" in page
        assert "nearsql embed FILE" in page


def test_a_run_shows_what_it_was_asked_and_left(pages: Site, compared: Compared) -> None:
    page = pages.get(f"{ROOT}/runs/{compared.spoiled}").text
    for name, value in (("settings.size", "[8,8]"), ("settings.mode", "L")):
        assert f'<dt>{name}</dt><dd class="long">{value}</dd>' in page
    assert '<dt>names</dt><dd class="long"><span class="none">not given</span></dd>' in page
    assert f"nearsql replay compared.db {compared.spoiled}" in page
    assert "12 ms" in page
    assert "decode: 1; read: 1" in page
    assert f'href="{ROOT}/items/5"' in page
    assert SCRIPT not in page
    assert unescape(page).count(f"not an image {SCRIPT}") == 1


def test_the_rows_that_a_run_wrote_are_those_of_its_tables(pages: Site, compared: Compared) -> None:
    page = pages.get(f"{ROOT}/runs/{compared.first}").text
    found = re.findall(r'<dt>rows of (\w+)</dt><dd><a href="([^"]+)">([\d,]+)</a>', page)
    assert {name for name, _, _ in found} == {"clusters", "memberships"}
    for name, url, n in found:
        table = pages.get(unescape(url))
        assert table.status_code == 200
        sql = f"select count(*) as n from {name} where run_id = :run"
        (row,) = pages.query("compared", sql, run=compared.first).json()["rows"]
        assert int(n) == row["n"]


def test_why_a_run_cannot_be_replayed(pages: Site, compared: Compared) -> None:
    sentences = {
        compared.failed: "It cannot be replayed: it is failed",
        compared.first: "It cannot be replayed: it left no hash",
        compared.replay: f'It is itself a replay of <a href="{ROOT}/runs/{compared.first}">',
    }
    for number, sentence in sentences.items():
        page = pages.get(f"{ROOT}/runs/{number}").text
        assert sentence in page
        assert "nearsql replay" not in page
    assert "the same result" in pages.get(f"{ROOT}/runs/{compared.first}").text


def test_a_run_says_whether_its_inputs_are_still_those(compared: Compared, tmp_path: Path) -> None:
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    with site(copy) as own:
        assert "unchanged" in own.get(f"{ROOT}/runs/{compared.first}").text
    db = connection.connect(copy)
    db.execute("delete from vectors where item_id = 1")
    db.execute("update spaces set name = 'renamed' where name = ?", (SPACE,))
    db.commit()
    db.close()
    with site(copy) as own:
        page = own.get(f"{ROOT}/runs/{compared.first}").text
    assert "changed since" in page
    assert "now called renamed" in page


def boxes(page: str) -> dict[str, tuple[float, str]]:
    """By its title, where each box of the drawing begins and where it leads."""
    found = re.findall(
        r'<a href="([^"]+)" class="node [^"]*"[^>]*>\s*<title>([^<]*)</title>\s*<rect x="([\d.]+)"',
        page,
    )
    return {unescape(title).split(",")[0]: (float(x), unescape(url)) for url, title, x in found}


def test_the_lineage_leads_from_left_to_right(pages: Site, compared: Compared) -> None:
    found = boxes(pages.get(f"{ROOT}/runs/{compared.second}").text)
    order = [f"space {SPACE}", f"cluster {compared.second}", f"label {compared.label}"]
    assert set(found) == set(order)
    assert [name for name, _ in sorted(found.items(), key=lambda pair: pair[1][0])] == order
    assert found[order[2]][1] == f"{ROOT}/runs/{compared.label}"
    for _, url in found.values():
        assert pages.get(url).status_code == 200


def test_the_lineage_of_five_hundred_runs_stays_readable(
    compared: Compared, tmp_path: Path
) -> None:
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    db = connection.connect(copy)
    with run(db, "embed", parameters={}) as first:
        pass
    with immediate(db):
        for number in range(first.id + 1, first.id + 501):
            db.execute("insert into runs (id, kind) values (?, 'find')", (number,))
            db.execute(
                "insert into run_inputs (run_id, kind, name, input_run_id) values (?, 'run', 'x', ?)",
                (number, first.id),
            )
    db.close()
    with site(copy) as own:
        page = own.get(f"{ROOT}/runs/{first.id}").text
        whole = own.get(f"{ROOT}/runs/{first.id}?lineage=all").text
    found = boxes(page)
    newest = [f"find {first.id + 500 - place}" for place in range(lineage.SHOWN)]
    assert set(found) == {f"embed {first.id}", f"and {500 - lineage.SHOWN} more", *newest}
    assert len(boxes(whole)) == lineage.SHOWN_AT_MOST + 2


def test_runs_that_read_each_other_are_drawn(compared: Compared, tmp_path: Path) -> None:
    copy = tmp_path / "compared.db"
    shutil.copy(compared.path, copy)
    db = connection.connect(copy)
    with run(db, "one", parameters={}) as one:
        pass
    with run(
        db, "two", parameters={}, inputs=[run_input(db, one.id), space_input(db, SPACE)]
    ) as two:
        db.execute("update vectors set run_id = ? where item_id = 1", (two.id,))
        db.commit()
    insert = "insert into run_inputs (run_id, kind, name, input_run_id) values (?, 'run', 'x', ?)"
    db.execute("drop trigger run_inputs_of_an_ended_run")
    db.execute(insert, (one.id, two.id))
    db.execute(insert, (one.id, one.id))
    db.commit()
    db.close()
    with site(copy) as own:
        for number in (one.id, two.id):
            page = own.get(f"{ROOT}/runs/{number}")
            assert page.status_code == 200
            assert {f"one {one.id}", f"two {two.id}", f"space {SPACE}"} <= set(boxes(page.text))


def test_every_link_and_sql_of_the_pages_answers(pages: Site, compared: Compared) -> None:
    links: set[str] = set()
    for path in ("/runs", f"/runs/{compared.first}", f"/runs/{compared.spoiled}"):
        page = pages.get(ROOT + path).text
        page = page[page.index("<h1>") :]
        links |= {unescape(m) for m in re.findall(r'(?:href|src)="(/[^"#]*)', page)}
    assert len(links) > 30
    wrong: dict[str, Any] = {}
    for link in sorted(links):
        status = pages.get(link).status_code
        if status not in (200, 302):
            wrong[link] = status
    assert not wrong


def test_pages_live_below_base_url(compared: Compared) -> None:
    with site(compared.path, settings={"base_url": "/here/"}) as below:
        for path in ("/runs", f"/runs/{compared.first}", "/diff"):
            page = below.get(ROOT + path)
            assert page.status_code == 200
            links = re.findall(r'(?:href|src|action)="(/[^"]+)"', page.text)
            assert all(link.startswith("/here/") for link in links), path
