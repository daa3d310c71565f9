"""Names given to clusters by hand: who may, what is a name, and what is stored."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tree import EVIL, Tree, asked
from served import ROOT, Site, site

from nearsql.udfs import connection

HERE = "/-/nearsql/tree"


@pytest.fixture
def own(tree_site: Site, tree: Tree) -> Iterator[Site]:
    """A site that the test may write to: the names it has given go afterwards."""
    yield tree_site
    db = connection.connect(tree.path)
    db.execute("delete from cluster_labels where method = 'hand'")
    db.commit()
    db.close()


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
    assert "old woods" in own.get(f"{HERE}/clusters/{tree.clusters}").text
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
    own: Site, tree: Tree, tree_copy: Path
) -> None:
    for actor in (None, {"id": "anna"}):
        assert name(own, tree, "woods", actor=actor).status_code == 403
        page = own.get(f"{HERE}/clusters/{tree.clusters}/1/0", actor=actor).text
        assert "/name" not in page
        assert "Save as a selection" not in page
    assert names_of(tree) == [("forests", "keywords", None)]
    with site(immutables=[str(tree_copy)]) as fixed:
        assert name(fixed, tree, "woods").status_code == 403
        assert fixed.get(f"{HERE}/clusters/{tree.clusters}/1/0").status_code == 200


def test_names_are_inert(own: Site, tree: Tree) -> None:
    assert name(own, tree, EVIL).status_code == 200
    for path in ("", "?level=2", "/1/0", "/1/1", "/2/0", "/sweep", f"?q={EVIL}"):
        page = own.get(f"{HERE}/clusters/{tree.clusters}{path}", actor=ROOT).text
        assert EVIL not in page, path
    assert "&lt;script&gt;" in own.get(f"{HERE}/clusters/{tree.clusters}/1/0").text
