"""The pages about clusters: the list of a level, one cluster, its name, and the sweep of sizes."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cluster_tree import (
    COLOURS,
    EVIL,
    ITEMS,
    SPACE,
    TENS,
    Tree,
    build,
    members,
    probability_of,
)
from gallery import Gallery
from served import ROOT, Site, site

from nearsql.datasette_plugins import cluster_members, clusters, pages
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection

HERE = "/-/nearsql/tree"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    made = build(tmp_path_factory.mktemp("tree") / "tree.db")
    # Compiled here: in a new installation a page has no time to wait for it.
    asked(made.path, "select count(*) from cluster_sweep(?, '[5]', 3)", SPACE)
    return made


@pytest.fixture(scope="module")
def tree_site(tree: Tree) -> Iterator[Site]:
    with site(tree.path) as opened:
        yield opened


@pytest.fixture
def own(tree_site: Site, tree: Tree) -> Iterator[Site]:
    """A site that the test may write to: the names it has given go afterwards."""
    yield tree_site
    db = connection.connect(tree.path)
    db.execute("delete from cluster_labels where method = 'hand'")
    db.commit()
    db.close()


@pytest.fixture
def copy(tree: Tree, tmp_path: Path) -> Path:
    """The database, to be changed."""
    path = tmp_path / "tree.db"
    path.write_bytes(tree.path.read_bytes())
    return path


def changed(path: Path, *statements: str) -> None:
    db = connection.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def asked(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    db = connection.connect(path, read_only=True)
    found = [tuple(row) for row in db.execute(sql, parameters)]
    db.close()
    return found


def page_of(own: Site, tree: Tree, **arguments: Any) -> str:
    """The list of a run's clusters, as text without entities."""
    response = own.get(f"{HERE}/clusters/{tree.clusters}?{urlencode(arguments)}")
    assert response.status_code == 200, response.text
    return unescape(response.text)


def table_rows(page: str) -> list[str]:
    return re.findall(
        r"<tr>.*?</tr>|<tr class=.noise.>.*?</tr>", page.partition("<tbody>")[2], re.DOTALL
    )


def labels_of(page: str, tree: Tree, level: int = 1) -> list[int]:
    """The numbers of the clusters that a list shows, in its order."""
    return [
        int(label)
        for label in re.findall(
            rf'class="name" href="{HERE}/clusters/{tree.clusters}/{level}/(\d+)"', page
        )
    ]


def shown_items(page: str) -> list[int]:
    return [int(item) for item in re.findall(r'title="Item (\d+)"', page)]


# The list -------------------------------------------------------------------------------------------


def test_a_level_has_its_clusters_with_sizes_and_then_the_noise(
    tree_site: Site, tree: Tree
) -> None:
    page = page_of(tree_site, tree)
    forests, lakes, noise = table_rows(page)
    assert ">36<" in forests
    assert "forests" in forests
    assert "leaf 60%, bark 20%" in forests
    assert "name fits 75%" in forests
    assert ">18<" in lakes
    assert "strength 8" in lakes
    assert ">6<" in noise
    assert "9.5%" in noise  # of 63


def test_every_level_is_there_with_its_noise(tree_site: Site, tree: Tree) -> None:
    page = page_of(tree_site, tree, level=2)
    found = re.search(r'<nav class="levels".*?</nav>', page, re.DOTALL)
    assert found
    levels = re.findall(
        r"Level (\d)</b> <span>(\d) clusters</span>.*?([\d.]+)% noise", found[0], re.DOTALL
    )
    assert levels == [("1", "2", "9.5"), ("2", "3", "9.5"), ("3", "4", "9.5")]
    assert 'href="?level=2" aria-current="true"' in found[0]
    assert labels_of(page, tree, 2) == [0, 1, 2]
    assert "in forests" in page


def test_the_exemplar_is_shown_first_and_then_the_surest(tree_site: Site, tree: Tree) -> None:
    forests = table_rows(page_of(tree_site, tree))[0]
    surest = sorted((i for i in members(1, 0) if i != 3), key=lambda i: (-probability_of(i), i))
    assert shown_items(forests) == [3, *surest[:5]]


def test_what_is_within_a_cluster_is_below_it_as_deep_as_it_goes(
    tree_site: Site, tree: Tree
) -> None:
    forests, lakes, _ = table_rows(page_of(tree_site, tree))
    within = re.findall(r'<li class="depth-(\d)"><a href="[^"]*/(\d)/(\d)">([^<]*)</a>', forests)
    assert within == [
        ("1", "2", "0", "oaks"),
        ("2", "3", "0", "cluster 0"),
        ("2", "3", "1", "cluster 1"),
        ("1", "2", "1", "beeches"),
    ]
    assert "4 clusters within" in forests
    assert "within" not in lakes  # it passes to the next levels as it is


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("size", [0, 1]),
        ("small", [1, 0]),
        ("name", [0, 1]),
        ("number", [0, 1]),
        ("strength", [1, 0]),
        ("precision", [1, 0]),
        ("high", [1, 0]),
        ("low", [0, 1]),
    ],
)
def test_clusters_can_be_sorted(tree_site: Site, tree: Tree, sort: str, order: list[int]) -> None:
    page = page_of(tree_site, tree, sort=sort)
    assert labels_of(page, tree) == order
    assert f'<option value="{sort}" selected>' in page


def test_what_has_no_value_is_last_however_sorted(tree_site: Site, tree: Tree) -> None:
    for sort in ("name", "strength", "precision"):
        assert labels_of(page_of(tree_site, tree, level=2, sort=sort), tree, 2)[-1] == 2
    assert labels_of(page_of(tree_site, tree, level=2, sort="name"), tree, 2) == [1, 0, 2]


@pytest.mark.parametrize(
    ("search", "found"),
    [("FOREST", [0]), ("water", [1]), ("r", [0, 1]), ("%", [0, 1]), ("_", []), ("cluster", [])],
)
def test_clusters_can_be_found_by_name_and_description(
    tree_site: Site, tree: Tree, search: str, found: list[int]
) -> None:
    page = page_of(tree_site, tree, q=search)
    assert labels_of(page, tree) == found
    if not found:
        assert "No cluster of this level has a name or description with" in page


def test_a_cluster_without_a_name_is_found_by_its_number(tree_site: Site, tree: Tree) -> None:
    assert labels_of(page_of(tree_site, tree, level=3, q="cluster 2"), tree, 3) == [2]


def test_label_mixes_are_those_of_the_members(tree_site: Site, tree: Tree) -> None:
    rows = table_rows(page_of(tree_site, tree, label="colour"))
    for row, label in zip(rows, (0, 1, None), strict=True):
        said = dict(re.findall(r"<title>(\w+): (\d+)</title>", row))
        counted = {
            colour: sum(COLOURS[i % 3] == colour for i in members(1, label)) for colour in COLOURS
        }
        assert said == {colour: str(n) for colour, n in counted.items()}


def test_the_means_of_a_detector_are_those_of_the_members(tree_site: Site, tree: Tree) -> None:
    page = page_of(tree_site, tree)
    assert "Mean box loss" in page
    for row, label in zip(table_rows(page), (0, 1, None), strict=True):
        (said,) = re.findall(r'data-head="Mean box loss">\s*([\d.]+)\s*<svg', row)
        assert float(said) == pytest.approx(
            mean(tree.box_loss[i] for i in members(1, label)), rel=1e-3
        )
    page = page_of(tree_site, tree, measure="hit_freq")
    assert [
        float(v) for v in re.findall(r'data-head="Mean hit_freq">\s*([\d.]+)\s*<svg', page)
    ] == [
        0.25,
        0.75,
        pytest.approx(mean([0.25] * 4 + [0.75] * 2), abs=1e-4),
    ]
    assert page_of(tree_site, tree, measure="cls loss").count('<span class="none">none</span>') == 3


def test_without_a_detector_there_are_no_measures(gallery_site: Site, gallery: Gallery) -> None:
    page = gallery_site.get(f"/-/nearsql/gallery/clusters/{gallery.clusters}").text
    assert "Mean" not in page
    assert 'name="measure"' not in page
    assert 'value="high"' not in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("level=4", "level must be one of 1, 2, 3, not '4'"),
        ("level=x", "level must be one of 1, 2, 3, not 'x'"),
        ("sort=colour", "sort must be one of size, small"),
        ("page=0", "page must be a whole number from 1"),
        ("page=²", "page must be a whole number from 1"),
        ("measure=luck", "measure must be one of box loss, cls loss"),
        ("detector=1", "detector must be one of"),
    ],
)
def test_an_argument_that_means_nothing_is_400(
    tree_site: Site, tree: Tree, arguments: str, sentence: str
) -> None:
    response = tree_site.get(f"{HERE}/clusters/{tree.clusters}?{arguments}")
    assert response.status_code == 400
    assert sentence in unescape(response.text)


def test_many_clusters_come_page_by_page(copy: Path, tree: Tree) -> None:
    n = 2 * clusters.CLUSTERS_SHOWN + 7
    changed(
        copy,
        "with recursive more (n) as (select 2 union all select n + 1 from more"
        f" where n < {n - 1}) insert into clusters (run_id, level, label, size)"
        f" select {tree.clusters}, 1, n, 1 from more",
    )
    with site(copy) as own:
        seen = []
        for number in (1, 2, 3):
            page = page_of(own, tree, page=number)
            seen += labels_of(page, tree)
            assert '<tr class="noise">' in page
            assert f"Page {number} of 3" in page
        assert len(set(seen)) == len(seen) == n
        assert f"{n} clusters of 63 items" in page
        assert 'href="?page=2"' in page
        assert "sort=name&page=2" in page_of(own, tree, sort="name")


def test_all_noise_says_so_and_what_to_try(copy: Path, tree: Tree) -> None:
    changed(copy, "update memberships set cluster_id = null", "delete from clusters")
    with site(copy) as own:
        page = page_of(own, tree)
    assert "All 63 items are" in page
    assert "nearsql cluster FILE SPACE --sweep" in page


def test_clusters_without_names_say_how_to_name_them(copy: Path, tree: Tree) -> None:
    changed(copy, "delete from cluster_labels")
    with site(copy) as own:
        assert f"nearsql label FILE {tree.clusters}" in page_of(own, tree)
        assert f"nearsql label FILE {tree.clusters}" not in page_of(own, tree, q="nothing like it")


def test_parents_in_a_circle_stop_nobody(copy: Path, tree: Tree) -> None:
    changed(
        copy,
        "update clusters set parent_id = (select id from clusters where level = 3 and label = 0)"
        " where level = 1 and label = 0",
    )
    with site(copy) as own:
        assert "4 clusters within" in page_of(own, tree)
        response = own.get(f"{HERE}/clusters/{tree.clusters}/2/0")
        assert response.status_code == 200
        path = re.search(r'<nav class="path".*?</nav>', response.text, re.DOTALL)
        assert path
        assert path[0].count("<a") == 4  # the run, and each of the circle once


# One cluster ----------------------------------------------------------------------------------------


def sheet(own: Site, tree: Tree, cluster: str, **arguments: Any) -> list[int]:
    response = own.get(f"{HERE}/clusters/{tree.clusters}/{cluster}?{urlencode(arguments)}")
    assert response.status_code == 200
    return shown_items(response.text)


def outlier(item: int) -> float:
    return (item % 7) / 7


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("surest", lambda i: -probability_of(i)),
        ("least", probability_of),
        ("outlying", lambda i: -outlier(i)),
        ("inlying", outlier),
        ("number", lambda i: i),
    ],
)
def test_members_come_in_any_order_and_those_without_a_value_last(
    tree_site: Site, tree: Tree, sort: str, key: Any
) -> None:
    found = [i for i in members(1, 1) if i <= ITEMS]
    assert sheet(tree_site, tree, "1/1", sort=sort) == [
        *sorted(found, key=lambda i: (key(i), i)),
        61,
        62,
        63,
    ]
    noise = sheet(tree_site, tree, "1/noise", sort="outlying")
    assert noise == sorted(members(1, None), key=lambda i: (-outlier(i), i))


def test_assigned_items_are_counted_and_on_the_last_page(
    tree_site: Site, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_members, "MEMBERS_SHOWN", 18)
    page = tree_site.get(f"{HERE}/clusters/{tree.clusters}/1/1").text
    assert "21 items, 3 of them assigned afterwards" in page
    assert "Page 1 of 2" in page
    assert 'href="?page=2"' in page
    assert sheet(tree_site, tree, "1/1", page=2) == [61, 62, 63]
    beyond = tree_site.get(f"{HERE}/clusters/{tree.clusters}/1/1?page=3").text
    assert "There is no page 3" in beyond


def test_a_cluster_knows_what_is_around_and_within_it(tree_site: Site, tree: Tree) -> None:
    at = f"{HERE}/clusters/{tree.clusters}"
    page = tree_site.get(f"{at}/2/0").text
    path = re.search(r'<nav class="path".*?</nav>', page, re.DOTALL)
    assert path
    assert re.findall(r'href="([^"]+)"', path[0]) == [f"{at}?level=2", f"{at}/1/0"]
    within = re.search(r'<ul class="children">.*?</ul>', page, re.DOTALL)
    assert within
    assert re.findall(r'href="([^"]+)">([^<]+)<', within[0]) == [
        (f"{at}/3/0", "cluster 0"),
        (f"{at}/3/1", "cluster 1"),
    ]
    assert f'rel="next" href="{at}/2/1"' in page  # as large, and the next by number
    assert 'rel="prev"' not in page
    assert f'rel="prev" href="{at}/2/0"' in tree_site.get(f"{at}/2/1").text


def test_a_cluster_shows_what_a_detector_says_here_and_of_all(tree_site: Site, tree: Tree) -> None:
    lakes = tree_site.get(f"{HERE}/clusters/{tree.clusters}/1/1").text
    rows = re.findall(r'<tr( class="worse")?><th scope="row">([\w ]+)', lakes)
    assert [name.strip() for _, name in rows][-3:] == ["box loss", "hit_freq", "mean_conf"]
    worse = {name.strip(): bool(state) for state, name in rows}
    assert worse["box loss"]  # larger losses are worse, larger metrics are not
    assert not worse["hit_freq"]
    assert not worse["mean_conf"]
    forests = tree_site.get(f"{HERE}/clusters/{tree.clusters}/1/0").text
    assert re.search(r'class="worse"><th scope="row">hit_freq', forests)
    here = mean(tree.box_loss[i] for i in members(1, 1))
    of_all = mean(tree.box_loss.values())
    assert f'<td class="n">{here:.4g}</td><td class="n">{of_all:.4g}</td>' in lakes


def test_on_the_map_a_cluster_is_filtered_by_sql_that_names_its_members(
    tree_site: Site, tree: Tree
) -> None:
    page = unescape(tree_site.get(f"{HERE}/clusters/{tree.clusters}/2/1").text)
    (link,) = re.findall(rf'href="{HERE}/map/{tree.projection}#([^"]+)"', page)
    on_map = {name: values[0] for name, values in parse_qs(link).items()}
    assert on_map["colour"] == f"cluster:{tree.clusters}:2"
    ids = [id for (id,) in asked(tree.path, on_map["filter"])]
    assert sorted(ids) == members(2, 1)


def test_every_sql_link_gives_the_rows_of_its_block(tree_site: Site, tree: Tree) -> None:
    paths = [
        "",
        "?level=2&label=colour&measure=hit_freq",
        "/1/0",
        "/2/0",
        "/1/noise",
        "/sweep?go=1",
    ]
    seen = 0
    for path in paths:
        page = tree_site.get(f"{HERE}/clusters/{tree.clusters}{path}").text
        for link in re.findall(r'class="sql" href="([^"]+)"', page):
            question = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
            answer = tree_site.query("tree", question.pop("sql"), **question)
            assert answer.json()["rows"], link
            seen += 1
    assert seen >= 20


def test_every_link_answers_below_base_url_too(tree: Tree) -> None:
    with site(tree.path, settings={"base_url": "/here/"}) as below:
        links = set()
        for path in ("", "/2/0", "/1/noise", "/sweep?go=1"):
            page = below.get(f"{HERE}/clusters/{tree.clusters}{path}")
            assert page.status_code == 200
            main = page.text[page.text.index('<section class="content">') :]
            links |= {unescape(m) for m in re.findall(r'(?:href|src|action)="(/[^"#]*)', main)}
        own = {link for link in links if "/-/nearsql" in link and "thumbnail" not in link}
        assert all(link.startswith("/here/") for link in own)
        for link in sorted(own):
            if "/clusters/" in link:
                assert below.get(link.removeprefix("/here")).status_code == 200, link


# Names by hand --------------------------------------------------------------------------------------


def name(own: Site, tree: Tree, given: Any, cluster: str = "1/0", **options: Any) -> Any:
    return own.post(f"{HERE}/clusters/{tree.clusters}/{cluster}/name", {"name": given}, **options)


def names_of(tree: Tree, label: int = 0) -> list[tuple[str, str, str | None]]:
    return asked(
        tree.path,
        "select n.name, n.method, n.author from cluster_labels n join clusters c on c.id = n.cluster_id"
        " where c.level = 1 and c.label = ? order by n.id",
        label,
    )


def test_a_name_by_hand_is_kept_with_its_author_and_the_newest_counts(
    own: Site, tree: Tree
) -> None:
    answer = name(own, tree, "  old   woods ")
    assert answer.status_code == 200, answer.text
    url = f"{HERE}/clusters/{tree.clusters}/1/0"
    assert answer.json() == {"ok": True, "name": "old woods", "author": "root", "url": url}
    assert names_of(tree) == [("forests", "keywords", None), ("old woods", "hand", "root")]
    page = own.get(url).text
    assert "<h1>old woods</h1>" in page
    assert "leaf 60%, bark 20%" in page  # what was known of the cluster stays
    assert "2 names so far" in page
    assert "old woods" in page_of(own, tree)
    assert asked(
        tree.path,
        "select distinct cluster_name from embedding_clusters where level = 1 and cluster = 0",
    ) == [("old woods",)]
    name(own, tree, "old woods")
    assert len(names_of(tree)) == 2  # the same name again is no new name
    name(own, tree, "forests")
    assert names_of(tree)[-1] == ("forests", "hand", "root")


def test_a_form_goes_back_to_where_it_came_from(own: Site, tree: Tree) -> None:
    page = own.get(f"{HERE}/clusters/{tree.clusters}/1/0", actor=ROOT).text
    action = f"{HERE}/clusters/{tree.clusters}/1/0/name"
    if own.is_first_line:  # 1.0 gives root its rights with the first POST of these tests
        assert f'action="{action}"' in page
    answer = own.post(action, {"name": "woods", "next": f"{HERE}/clusters"}, as_form=True)
    assert answer.status_code == 302
    assert answer.headers["location"] == f"{HERE}/clusters"
    answer = own.post(action, {"name": "wood", "next": "//evil.example/"}, as_form=True)
    assert answer.headers["location"] == f"{HERE}/clusters/{tree.clusters}/1/0"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("", "A name cannot be empty"),
        (" \n ", "A name cannot be empty"),
        (7, "a text"),
        (None, "a text"),
        (["x"], "a text"),
        ("x" * 201, "at most 200 characters; this one has 201"),
        ("a\x00b", "characters that are not seen"),
        ("right\u202eleft", "characters that are not seen"),
    ],
)
def test_what_is_no_name_is_refused(own: Site, tree: Tree, given: Any, sentence: str) -> None:
    answer = name(own, tree, given)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]
    assert names_of(tree) == [("forests", "keywords", None)]


def test_only_a_cluster_that_is_there_gets_a_name(own: Site, tree: Tree) -> None:
    for cluster in ("1/7", "4/0", "1/99999999999999999999"):
        assert name(own, tree, "woods", cluster).status_code == 404, cluster
    assert name(own, tree, "woods", "1/noise").status_code == 404
    assert own.get(f"{HERE}/clusters/{tree.clusters}/1/0/name").status_code == 405


def test_without_the_right_to_write_there_is_no_form_and_no_name(
    own: Site, tree: Tree, copy: Path
) -> None:
    for actor in (None, {"id": "anna"}):
        assert name(own, tree, "woods", actor=actor).status_code == 403
        page = own.get(f"{HERE}/clusters/{tree.clusters}/1/0", actor=actor).text
        assert "/name" not in page
        assert "Save as a selection" not in page
    assert names_of(tree) == [("forests", "keywords", None)]
    with site(immutables=[str(copy)]) as fixed:
        assert name(fixed, tree, "woods").status_code == 403
        assert fixed.get(f"{HERE}/clusters/{tree.clusters}/1/0").status_code == 200


def test_names_are_inert(own: Site, tree: Tree) -> None:
    assert name(own, tree, EVIL).status_code == 200
    for path in ("", "?level=2", "/1/0", "/1/1", "/2/0", "/sweep", f"?q={EVIL}"):
        page = own.get(f"{HERE}/clusters/{tree.clusters}{path}", actor=ROOT).text
        assert EVIL not in page, path
    assert "&lt;script&gt;" in own.get(f"{HERE}/clusters/{tree.clusters}/1/0").text


# The sweep ------------------------------------------------------------------------------------------


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


def test_a_sweep_needs_a_space(copy: Path, tree: Tree) -> None:
    db = connection.connect(copy)
    parameters = {"loss_distance_run": 1, "component": "box", "method": "hdbscan of loss distances"}
    with run(db, "cluster", parameters=parameters) as current, immediate(db):
        db.execute("insert into memberships (run_id, item_id) values (?, 1)", (current.id,))
    db.execute("delete from spaces")
    db.commit()
    db.close()
    with site(copy) as own:
        of_losses = own.get(f"{HERE}/clusters/{current.id}/sweep?go=1")
        assert of_losses.status_code == 200
        assert "only the clusters of a space can be swept" in of_losses.text
        gone = own.get(f"{HERE}/clusters/{tree.clusters}/sweep?go=1")
        assert f"There is no space {SPACE} any more" in gone.text


def test_every_level_of_the_tree_is_what_its_docstring_says(tree: Tree) -> None:
    stored = asked(tree.path, "select level, label, size from clusters order by level, label")
    assert stored == [
        (level, label, sum(i <= ITEMS for i in members(level, label)))
        for level in TENS
        for label in sorted(set(TENS[level]))
    ]
    assert json.loads(asked(tree.path, "select parameters_json from runs where id = 1")[0][0])
