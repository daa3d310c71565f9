"""The pages about clusters: the list of a level, and one cluster."""

import json
import re
from html import unescape
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from cluster_tree import COLOURS, ITEMS, TENS, Tree, asked, changed, members, probability_of
from gallery import Gallery
from served import Site, site

from nearsql.datasette_plugins import cluster_members, clusters

HERE = "/-/nearsql/tree"


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


def test_many_clusters_come_page_by_page(tree_copy: Path, tree: Tree) -> None:
    n = 2 * clusters.CLUSTERS_SHOWN + 7
    changed(
        tree_copy,
        "with recursive more (n) as (select 2 union all select n + 1 from more"
        f" where n < {n - 1}) insert into clusters (run_id, level, label, size)"
        f" select {tree.clusters}, 1, n, 1 from more",
    )
    with site(tree_copy) as own:
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


def test_all_noise_says_so_and_what_to_try(tree_copy: Path, tree: Tree) -> None:
    changed(tree_copy, "update memberships set cluster_id = null", "delete from clusters")
    with site(tree_copy) as own:
        page = page_of(own, tree)
    assert "All 63 items are" in page
    assert "nearsql cluster FILE SPACE --sweep" in page


def test_clusters_without_names_say_how_to_name_them(tree_copy: Path, tree: Tree) -> None:
    changed(tree_copy, "delete from cluster_labels")
    with site(tree_copy) as own:
        assert f"nearsql label FILE {tree.clusters}" in page_of(own, tree)
        assert f"nearsql label FILE {tree.clusters}" not in page_of(own, tree, q="nothing like it")


def test_parents_in_a_circle_stop_nobody(tree_copy: Path, tree: Tree) -> None:
    changed(
        tree_copy,
        "update clusters set parent_id = (select id from clusters where level = 3 and label = 0)"
        " where level = 1 and label = 0",
    )
    with site(tree_copy) as own:
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


def test_the_mean_probability_is_of_those_that_were_clustered(tree_copy: Path, tree: Tree) -> None:
    of_members = mean(probability_of(item) for item in members(1, 1) if item <= ITEMS)
    changed(tree_copy, "update memberships set probability = 0 where is_assigned = 1 and level = 1")
    with site(tree_copy) as own:
        page = own.get(f"{HERE}/clusters/{tree.clusters}/1/1").text
    assert f"mean probability {of_members:.2f}" in page


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


def test_every_level_of_the_tree_is_what_its_docstring_says(tree: Tree) -> None:
    stored = asked(tree.path, "select level, label, size from clusters order by level, label")
    assert stored == [
        (level, label, sum(i <= ITEMS for i in members(level, label)))
        for level in TENS
        for label in sorted(set(TENS[level]))
    ]
    assert json.loads(asked(tree.path, "select parameters_json from runs where id = 1")[0][0])
