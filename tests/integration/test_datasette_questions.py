"""The named questions: each runs as it is, in sqlite-utils and in Datasette, and answers rightly."""

import json
import re
import subprocess
import sys
from html import unescape
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from gallery import COLOURS, IMAGES, PER_COLOUR, Gallery
from served import Site

from nearsql.datasette_plugins.questions import Question, all_questions
from nearsql.udfs import connection

VALUES = {
    "space": "paint/space",
    "item": "1",
    "k": "10",
    "run": "1",
    "level": "1",
    "cluster": "1",
    "label": "colour",
    "threshold": "3.0",
    "detector": "1",
    "other_detector": "1",
}
OURS = (
    "clusters_of_run",
    "compare_detectors",
    "detector_by_class",
    "disagreeing_neighbours",
    "duplicates_of_space",
    "false_alarms",
    "findings_of_run",
    "hardest_images",
    "items_of_cluster",
    "label_mix_of_clusters",
    "leaks_of_space",
    "missed_objects",
    "near_duplicates",
    "nearest_items",
    "outliers_of_run",
    "outliers_of_space",
    "run_inputs",
    "stored_neighbours",
    "wrong_labels",
)


def ask(gallery: Gallery, name: str, **values: str) -> list[dict]:
    """The answer as a shell would get it: values as texts."""
    text = files("nearsql.schema.queries").joinpath(f"{name}.sql").read_text("utf-8")
    parameters = {p: {**VALUES, **values}[p] for p in Question(name, "", text).parameters}
    db = connection.connect(gallery.path, read_only=True)
    cursor = db.execute(text, parameters)
    names = [d[0] for d in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    db.close()
    return rows


@pytest.fixture(scope="module")
def vectors(gallery: Gallery) -> np.ndarray:
    db = connection.connect(gallery.path, read_only=True)
    rows = db.execute("select vector from vectors where space_id = 1 order by item_id").fetchall()
    db.close()
    return np.array([np.frombuffer(v, "<f4") for (v,) in rows]).astype(float)


# One process for all questions: most of each would be imports.
ASK_ALL = """
import json, sys
from click.testing import CliRunner
from sqlite_utils.cli import cli
answers = {}
for name, words in json.load(sys.stdin).items():
    done = CliRunner().invoke(cli, words)
    answers[name] = (done.exit_code, done.stdout, done.stderr or repr(done.exception))
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def by_sqlite_utils(gallery: Gallery) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of `sqlite-utils query` by question."""
    asked = {}
    for name in OURS:
        text = files("nearsql.schema.queries").joinpath(f"{name}.sql").read_text("utf-8")
        asked[name] = ["query", str(gallery.path), text]
        for parameter in Question(name, "", text).parameters:
            asked[name] += ["-p", parameter, VALUES[parameter]]
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: tuple(answer) for name, answer in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", OURS)
def test_it_runs_through_sqlite_utils(
    gallery: Gallery, by_sqlite_utils: dict[str, tuple[int, str, str]], name: str
) -> None:
    exit_code, answer, errors = by_sqlite_utils[name]
    assert exit_code == 0, errors
    assert [list(row.values()) for row in json.loads(answer)] == [
        list(row.values()) for row in ask(gallery, name)
    ]


def test_the_overview_asks_each_question_filled_in(gallery_site: Site) -> None:
    page = gallery_site.get("/-/nearsql/gallery").text
    listed = re.search(r'<ul class="questions">(.*?)</ul>', page, re.DOTALL)[1]
    links = re.findall(r'<a href="([^"]+)">([^<]+)</a>', listed)
    assert [unescape(title) for _, title in links] == [q.title for q in all_questions()]
    for link, title in links:
        asked = {k: v[0] for k, v in parse_qs(urlsplit(unescape(link)).query).items()}
        question = next(q for q in all_questions() if q.title == unescape(title))
        assert asked.pop("sql") == question.sql
        if question.name in OURS:
            # The gallery has no detector's run that could be asked about.
            known = set(question.parameters) - {"detector", "other_detector"}
            assert set(asked) == known
            assert gallery_site.get(unescape(link)).status_code == 200


def test_parameters_are_found_outside_comments_and_texts() -> None:
    sql = "/* is\n:this */ -- what :comment says\nselect ':text', \":name\", :a, x from t where b = :b and a = :a"
    assert Question("q", "t", sql).parameters == ["a", "b"]


def test_nearest_items(gallery: Gallery, vectors: np.ndarray) -> None:
    distances = np.linalg.norm(vectors - vectors[0], axis=1)
    expected = [i + 1 for i in np.argsort(distances, kind="stable") if i != 0][:10]
    rows = ask(gallery, "nearest_items")
    assert [row["item_id"] for row in rows] == expected
    assert rows[0]["labels"] == "colour red"


def test_clusters_of_run_and_their_items(gallery: Gallery) -> None:
    rows = ask(gallery, "clusters_of_run")
    assert [(r["cluster"], r["size"]) for r in rows if r["cluster"] is not None] == [
        (0, 27),
        (1, 27),
        (2, 27),
    ]
    assert [(r["name"], r["size"]) for r in rows if r["cluster"] is None] == [("noise", 9)]
    members = ask(gallery, "items_of_cluster")
    green = range(PER_COLOUR + 1, 2 * PER_COLOUR + 1)
    assert [row["item_id"] for row in members] == [i for i in green if i % 10]


def test_label_mix_of_clusters(gallery: Gallery) -> None:
    rows = ask(gallery, "label_mix_of_clusters")
    mix = {(r["cluster"], r["label"]): (r["items"], r["share_of_cluster"]) for r in rows}
    assert {key: mix[key] for key in mix if key[0] is not None} == {
        (label, colour): (27, 1.0) for label, colour in enumerate(COLOURS)
    }
    assert {key[1]: mix[key] for key in mix if key[0] is None} == dict.fromkeys(
        COLOURS, (3, 0.3333)
    )


def test_outliers_of_run(gallery: Gallery) -> None:
    rows = ask(gallery, "outliers_of_run")
    scores = [row["outlier_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row["item_id"] for row in rows[:3]} == {30, 60, 90}


def test_near_duplicates(gallery: Gallery, vectors: np.ndarray) -> None:
    expected = {}
    for a in range(IMAGES):
        order = np.argsort(np.linalg.norm(vectors - vectors[a], axis=1), kind="stable")
        for b in [i for i in order if i != a][:10]:
            distance = float(np.linalg.norm(vectors[a] - vectors[b]))
            if distance <= 3.0:
                expected[min(a, b) + 1, max(a, b) + 1] = distance
    rows = ask(gallery, "near_duplicates")
    assert len(expected) > 20
    assert {(r["item_id"], r["other_item_id"]): r["distance"] for r in rows} == pytest.approx(
        expected, rel=1e-5
    )


def test_disagreeing_neighbours(tmp_path_factory: pytest.TempPathFactory) -> None:
    from gallery import build

    gallery = build(tmp_path_factory.mktemp("wrong") / "gallery.db")
    assert ask(gallery, "disagreeing_neighbours") == []
    db = connection.connect(gallery.path)
    db.execute("update item_labels set value = 'blue' where item_id = 5 and name = 'colour'")
    db.commit()
    db.close()
    rows = ask(gallery, "disagreeing_neighbours")
    assert [(r["item_id"], r["label"], r["voted"]) for r in rows] == [(5, "blue", "red")]
    assert 0.9 < rows[0]["share_of_votes"] <= 1


def test_run_inputs_tell_what_has_changed(tmp_path_factory: pytest.TempPathFactory) -> None:
    from gallery import build

    gallery = build(tmp_path_factory.mktemp("inputs") / "gallery.db")
    assert [(r["name"], r["state"]) for r in ask(gallery, "run_inputs")] == [
        ("paint/space", "unchanged")
    ]
    db = connection.connect(gallery.path)
    db.execute("delete from vectors where item_id = 7")
    db.commit()
    assert [r["state"] for r in ask(gallery, "run_inputs")] == ["changed"]
    db.execute("delete from spaces where name = 'paint/space'")
    db.commit()
    db.close()
    assert [r["state"] for r in ask(gallery, "run_inputs")] == ["deleted"]


def test_stored_neighbours(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> None:
    from gallery import build

    from nearsql.pipeline.neighbors import neighbors

    gallery = build(tmp_path_factory.mktemp("stored") / "gallery.db")
    assert ask(gallery, "stored_neighbours") == []  # run 1 is no graph
    db = connection.connect(gallery.path)
    (result,) = neighbors(db, ["paint/space"], k=5)
    rows = ask(gallery, "stored_neighbours", run=str(result.run_id), item="42")
    distances = np.linalg.norm(vectors - vectors[41], axis=1)
    nearest = [i for i in np.argsort(distances, kind="stable") if i != 41][:5]
    assert [(r["rank"], r["item_id"]) for r in rows] == [
        (rank, i + 1) for rank, i in enumerate(nearest, start=1)
    ]
    assert [r["distance"] for r in rows] == pytest.approx(distances[nearest], rel=1e-5)
    assert rows[0]["labels"] == "colour green"
    # One that stopped on the way has part of a graph, which is no answer.
    db.execute(
        "insert into runs (kind, status, finished_at, error)"
        " values ('neighbors', 'interrupted', '2026-01-01', 'KeyboardInterrupt')"
    )
    (stopped,) = db.execute("select max(id) from runs").fetchone()
    db.execute("insert into neighbors values (?, 42, 1, 41, 0.5)", (stopped,))
    db.commit()
    db.close()
    assert ask(gallery, "stored_neighbours", run=str(stopped), item="42") == []
