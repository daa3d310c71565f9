"""The page that sweeps the sizes of clusters."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from cluster_tree import SPACE, Tree, asked, build, changed
from served import Site, site

from nearsql.datasette_plugins import pages
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection

HERE = "/-/nearsql/tree"


def test_a_sweep_is_made_only_when_asked_for(
    tree_site: Site, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = []
    rows = pages.Page.rows

    async def noted(self: pages.Page, name: str, **parameters: Any) -> list[pages.Row]:
        questions.append(name)
        return await rows(self, name, **parameters)

    monkeypatch.setattr(pages.Page, "rows", noted)
    page = tree_site.get(f"{HERE}/clusters/{tree.clusters}/sweep")
    assert page.status_code == 200
    assert f"nearsql cluster tree.db {SPACE} --min-samples 3 --sweep" in page.text
    assert "cluster_run" in questions
    assert "cluster_sweep" not in questions


def sweep_rows(page: str) -> list[tuple[int, ...]]:
    found = re.findall(
        r'<th scope="row" class="n">(\d+)</th>\s*<td class="n">(\d+)</td>\s*<td class="n">(\d+)</td>',
        page,
    )
    return [tuple(int(value) for value in row) for row in found]


def test_a_sweep_shows_what_the_function_gives(tree_site: Site, tree: Tree) -> None:
    page = tree_site.get(f"{HERE}/clusters/{tree.clusters}/sweep?go=1").text
    rows = asked(
        tree.path,
        "select min_cluster_size, clusters, noise, is_cliff from cluster_sweep(?, null, 3)",
        SPACE,
    )
    assert sweep_rows(page) == [row[:3] for row in rows]
    cliffs = sum(is_cliff for *_, is_cliff in rows)
    assert cliffs
    assert page.count('<span class="badge cliff">') == cliffs
    assert page.count("a cliff between") == 2 * cliffs
    assert page.count("<circle") == 3 * len(rows)
    assert page.count('<line class="chosen"') == 1
    assert ">run 1</span>" in page


def test_a_sweep_of_chosen_sizes(tree_site: Site, tree: Tree) -> None:
    page = tree_site.get(
        f"{HERE}/clusters/{tree.clusters}/sweep?go=1&sizes=20,+4+8,4&min_samples=2"
    ).text
    rows = asked(
        tree.path,
        "select min_cluster_size, clusters, noise from cluster_sweep(?, '[4, 8, 20]', 2)",
        SPACE,
    )
    assert sweep_rows(page) == rows
    assert 'value="4, 8, 20"' in page
    assert f"nearsql cluster tree.db {SPACE} --min-samples 2 --min-cluster-size" in page


def test_a_sweep_takes_the_items_that_the_run_took(tmp_path: Path) -> None:
    limited = build(tmp_path / "tree.db", within="a selection")
    changed(limited.path, "update memberships set is_assigned = 1 where item_id > 40")
    rows = asked(
        limited.path,
        "select min_cluster_size, clusters, noise from cluster_sweep(?, '[5, 9]', 3, 1,"
        " 'select id from items where id <= 40')",
        SPACE,
    )
    with site(limited.path) as own:
        response = own.get(f"{HERE}/clusters/{limited.clusters}/sweep?go=1&sizes=5,9")
    assert sweep_rows(response.text) == rows
    assert "--within 'a selection'" in unescape(response.text)
    assert "Sweep 40 items" in response.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("sizes=5,x", "sizes must be whole numbers from 2, such as 5, 10, 20; not 'x'"),
        ("sizes=1", "not '1'"),
        ("sizes=" + "+".join(map(str, range(2, 110))), "At most 100 sizes"),
        ("min_samples=0", "min_samples must be a whole number from 1, not '0'"),
        ("min_samples=many", "not 'many'"),
    ],
)
def test_what_cannot_be_swept_is_400(
    tree_site: Site, tree: Tree, arguments: str, sentence: str
) -> None:
    response = tree_site.get(f"{HERE}/clusters/{tree.clusters}/sweep?go=1&{arguments}")
    assert response.status_code == 400
    assert sentence in unescape(response.text)


def test_a_sweep_that_takes_too_long_names_the_command(
    tree_site: Site, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pages.Page.rows

    async def slow(self: pages.Page, name: str, **parameters: Any) -> list[pages.Row]:
        if name == "cluster_sweep":
            raise pages.TooLong(10_000)
        return await rows(self, name, **parameters)

    monkeypatch.setattr(pages.Page, "rows", slow)
    response = tree_site.get(f"{HERE}/clusters/{tree.clusters}/sweep?go=1&sizes=5,9")
    assert response.status_code == 200
    assert "takes longer than a page may" in response.text
    assert f"nearsql cluster tree.db {SPACE} --min-samples 3 --sizes 5,9 --sweep" in response.text


def test_a_sweep_needs_a_space(tree_copy: Path, tree: Tree) -> None:
    db = connection.connect(tree_copy)
    parameters = {"loss_distance_run": 1, "component": "box", "method": "hdbscan of loss distances"}
    with run(db, "cluster", parameters=parameters) as current, immediate(db):
        db.execute("insert into memberships (run_id, item_id) values (?, 1)", (current.id,))
    db.execute("delete from spaces")
    db.commit()
    db.close()
    with site(tree_copy) as own:
        of_losses = own.get(f"{HERE}/clusters/{current.id}/sweep?go=1")
        assert of_losses.status_code == 200
        assert "only the clusters of a space can be swept" in of_losses.text
        gone = own.get(f"{HERE}/clusters/{tree.clusters}/sweep?go=1")
        assert f"There is no space {SPACE} any more" in gone.text
