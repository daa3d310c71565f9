"""`nearsql label` by keywords: from what is read to the rows, and what the command says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from topics import TOPICS, Topics, add_cluster

from nearsql.pipeline import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.label import label_clusters
from nearsql.pipeline.label.clusters import Cluster, draw_members
from nearsql.pipeline.label.contents import Content, read_contents
from nearsql.pipeline.label.levels import Reading
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi


def names(db: dbapi.Connection, run_id: int) -> dict[int, str]:
    return dict(
        db.execute("select cluster_id, name from cluster_labels where run_id = ?", (run_id,))
    )


def nearsql(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()", *map(str, args)],
        capture_output=True,
        text=True,
    )


def test_names_are_words_of_their_topic(db: dbapi.Connection, topics: Topics) -> None:
    result = label_clusters(db, topics.run_id)
    found = names(db, result.run_id)
    assert result.counts["clusters"] == result.counts["named"] == 6
    for group, of_group in TOPICS.items():
        common = {w for words in of_group.values() for w in words}
        first = found[topics.clusters[group]].split(", ")[0]
        assert first in common | {"animal", "vet", "kitchen", "recipe"}
        for topic, words in of_group.items():
            assert found[topics.clusters[topic]].split(", ")[0] in words
    # As judged by hand: what each stored judgement says is what the words of the item say.
    for cluster, said, precision, recall in db.execute(
        "select cluster_id, held_out_json, held_out_precision, held_out_recall from cluster_labels"
    ).fetchall():
        judged = json.loads(said)
        members = {
            item
            for (item,) in db.execute(
                "select item_id from memberships where cluster_id = ?", (cluster,)
            )
        }
        assert {item for item, _ in judged["members"]} <= members
        assert not {item for item, _ in judged["others"]} & members
        right, wrong = (sum(y for _, y in judged[k]) for k in ("members", "others"))
        assert precision == (right / (right + wrong) if right + wrong else None)
        assert recall == right / len(judged["members"])
    assert result.precision is not None
    assert result.precision > 0.9
    assert replay(db, result.run_id).is_same


def test_the_view_of_clusters_shows_the_newest_name(db: dbapi.Connection, topics: Topics) -> None:
    result = label_clusters(db, topics.run_id)
    shown = db.execute(
        "select distinct level, cluster, cluster_name from embedding_clusters where cluster is not null"
    ).fetchall()
    assert sorted(name for _, _, name in shown) == sorted(names(db, result.run_id).values())
    with immediate(db):
        db.execute(
            "insert into cluster_labels (cluster_id, name, method) values (?, 'mine', 'hand')",
            (topics.clusters["cats"],),
        )
    again = label_clusters(db, topics.run_id)  # nothing of an earlier run or a person is lost
    assert db.execute("select count(*) from cluster_labels").fetchone() == (13,)
    assert names(db, again.run_id) == names(db, result.run_id)


def test_levels_and_sizes(db: dbapi.Connection, topics: Topics) -> None:
    coarse = label_clusters(db, topics.run_id, level=1)
    assert set(names(db, coarse.run_id)) == {topics.clusters["pets"], topics.clusters["food"]}
    large = label_clusters(db, topics.run_id, min_size=13)
    assert names(db, large.run_id) == names(db, coarse.run_id)
    assert (large.counts["clusters"], large.counts["too_small"]) == (2, 4)
    with pytest.raises(UserError, match="has no level 3: its levels are 1, 2"):
        label_clusters(db, topics.run_id, level=3)
    with pytest.raises(UserError, match="no cluster has 1,000 members: the largest has 24"):
        label_clusters(db, topics.run_id, min_size=1000)
    with pytest.raises(LookupError, match="there is no run 99"):
        label_clusters(db, 99)
    with pytest.raises(UserError, match=r"run 2 \(label\) has no clusters"):
        label_clusters(db, coarse.run_id)


def test_held_out_members_make_no_names(db: dbapi.Connection, topics: Topics) -> None:
    """A word that only held-out members have is no keyword."""
    cluster = Cluster(*_row(db, topics.clusters["cats"]))
    held_out = draw_members(db, cluster, 42, 1000, 10).held_out.tolist()
    assert len(held_out) == 3  # a quarter of twelve
    assert cluster.exemplar not in held_out
    marks = ",".join("?" * len(held_out))
    db.execute(f"update items set content = content || ' zebra' where id in ({marks})", held_out)
    db.commit()
    label_clusters(db, topics.run_id, level=2)
    keywords = [k for (k,) in db.execute("select keywords_json from cluster_labels")]
    assert not any("zebra" in k for k in keywords)
    db.execute("update items set content = content || ' zebra' where id = ?", (cluster.exemplar,))
    others = [
        i
        for (i,) in db.execute(
            "select item_id from memberships where cluster_id = ?", (cluster.id,)
        )
        if i not in held_out
    ]
    db.execute("update items set content = content || ' zebra' where id = ?", (others[-1],))
    db.commit()
    label_clusters(db, topics.run_id, level=2)
    assert any("zebra" in k for (k,) in db.execute("select keywords_json from cluster_labels"))


def _row(db: dbapi.Connection, cluster: int) -> tuple[Any, ...]:
    return db.execute(
        "select id, level, label, parent_id, size, exemplar_item_id from clusters where id = ?",
        (cluster,),
    ).fetchone()


def test_members_assigned_afterwards_are_left_alone(db: dbapi.Connection, topics: Topics) -> None:
    cats = topics.clusters["cats"]
    before = label_clusters(db, topics.run_id, level=2)
    with immediate(db):
        db.execute(
            "update memberships set cluster_id = ?, is_assigned = 1"
            " where level = 2 and cluster_id is null",
            (cats,),
        )
    after = label_clusters(db, topics.run_id, level=2)
    assert names(db, before.run_id) == names(db, after.run_id)
    assert replay(db, before.run_id).is_same


def test_at_most_so_many_are_read_and_the_exemplar_always(
    db: dbapi.Connection, topics: Topics
) -> None:
    cluster = Cluster(*_row(db, topics.clusters["pets"]))
    for seed in range(20):
        drawn = draw_members(db, cluster, seed, 5, 4)
        assert (len(drawn.read), len(drawn.held_out)) == (5, 4)
        assert cluster.exemplar in drawn.read
        assert drawn.surest[0] == cluster.exemplar
        assert sorted(drawn.surest) == drawn.read.tolist()
        assert not set(drawn.read.tolist()) & set(drawn.held_out.tolist())
        assert drawn.surest[1:].tolist() == sorted(
            drawn.surest[1:].tolist()
        )  # made so by topics.py
    assert len(draw_members(db, cluster, 0, 1000, 1000).held_out) == 24 // 4


def test_replay_says_what_changed(db: dbapi.Connection, topics: Topics) -> None:
    result = label_clusters(db, topics.run_id)
    db.execute("update items set content = content || ' more' where id = 3")
    db.commit()
    with pytest.raises(
        CannotReplay, match="their texts, labels or predicted classes, have changed"
    ):
        replay(db, result.run_id)
    db.execute("delete from runs where id = ?", (topics.run_id,))
    db.commit()
    with pytest.raises(CannotReplay, match="the clusters that run 2 named are deleted"):
        replay(db, result.run_id)


@pytest.fixture
def pictures(db: dbapi.Connection) -> int:
    """Two clusters of four images each; gives the clustering's run."""
    with immediate(db):
        for item in range(1, 9):
            db.execute(
                "insert into items (id, kind, collection, sha256, width, height, sequence_number)"
                " values (?, 'image', 'pictures', ?, 8, 8, ?)",
                (item, f"{item:064x}", item),
            )
    with run(db, "cluster", parameters={"method": "tests"}) as current, immediate(db):
        for n in range(2):
            add_cluster(db, current.id, 1, n, list(range(4 * n + 1, 4 * n + 5)))
    return current.id


def detect(db: dbapi.Connection, classes: dict[int, list[str | None]]) -> None:
    with immediate(db):
        db.execute("insert or ignore into models (id, name, family) values (1, 'eye', 'yolo')")
    with run(db, "detect", parameters={}, model_id=1) as current, immediate(db):
        db.executemany(
            "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min, y_min,"
            " x_max, y_max) values (?, ?, 7, ?, 0.9, 0, 0, 1, 1)",
            [(current.id, item, name) for item, seen in classes.items() for name in seen],
        )


def test_images_are_named_by_labels_and_the_newest_predictions(
    db: dbapi.Connection, pictures: int
) -> None:
    with immediate(db):
        for item in range(1, 9):
            db.executemany(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'tests')",
                [(item, "kind", "bird" if item < 5 else "fish"), (item, "count", "3")],
            )
    detect(db, {1: ["old"], 2: ["old"]})
    detect(db, {1: ["wing", "wing"], 2: ["wing"], 5: ["fin"], 6: ["fin", None]})
    contents = list(read_contents(db, [1, 6], characters=10))
    assert contents == [
        Content(1, None, False, ("bird", "count 3"), ("wing",)),
        Content(6, None, False, ("count 3", "fish"), ("class 7", "fin")),
    ]
    result = label_clusters(db, pictures, reading=Reading(held_out=0))
    assert list(names(db, result.run_id).values()) == [
        "bird, wing, count 3",
        "fish, fin, count 3",
    ]
    only = label_clusters(db, pictures, reading=Reading(held_out=0, label_names=("count",)))
    assert list(names(db, only.run_id).values()) == ["wing, count 3", "fin, count 3"]
    assert replay(db, only.run_id).is_same
    with pytest.raises(
        UserError, match="no item has a label named 'size': the names are 'count', 'kind'"
    ):
        label_clusters(db, pictures, reading=Reading(label_names=("size",)))


def test_of_texts_labels_are_not_looked_at(db: dbapi.Connection, topics: Topics) -> None:
    """They may be the very truth that the clusters are compared with."""
    with immediate(db):
        db.execute("insert into item_labels select id, 'truth', 'secret', 'tests' from items")
    label_clusters(db, topics.run_id)
    assert not any("secret" in k for (k,) in db.execute("select keywords_json from cluster_labels"))


def test_images_that_nobody_knows_anything_of(db: dbapi.Connection, pictures: int) -> None:
    with pytest.raises(UserError, match="neither text nor labels nor predicted classes"):
        label_clusters(db, pictures)
    assert db.execute("select count(*) from cluster_labels").fetchone() == (0,)


def test_texts_are_read_as_far_as_asked(db: dbapi.Connection) -> None:
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (1, 'text', 't', ?, 'ünïcode words', 1)",
        ("0" * 64,),
    )
    assert list(read_contents(db, [1, 1, 2], characters=7)) == [Content(1, "ünïcode", True, (), ())]
    assert list(read_contents(db, [1], characters=13)) == [
        Content(1, "ünïcode words", False, (), ())
    ]


def test_the_command(
    database: Path, db: dbapi.Connection, topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    done = nearsql("label", database, topics.run_id)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "run 2: names of run 1, by keywords" in done.stderr
    assert "6 of 6 clusters" in done.stderr
    assert "precision" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "next:" in line]
    sql = line.split('"')[1]
    assert len(db.execute(sql).fetchall()) == 6
    for options, message in (
        (["--model", "tiny"], "--model belongs to --method llm: give that, too"),
        (["--dry-run"], "--dry-run belongs to --method llm: give that, too"),
        (["--retries", "4"], "--retries belongs to --method llm: give that, too"),
        (
            ["--method", "llm"],
            "--method llm needs --model NAME: `llm models` lists those there are",
        ),
        (["--level", "7"], "run 1 has no level 7: its levels are 1, 2"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["label", str(database), str(topics.run_id), *options])
        assert stopped.value.code == 1
        assert capsys.readouterr().err == f"nearsql: {message}\n"
