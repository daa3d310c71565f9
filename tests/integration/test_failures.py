"""`nearsql failures`: what it finds in rows whose answer is known, what it stores, and what it refuses."""

import csv
import io
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from judged_images import add_detector, add_images, add_space, annotate, judge

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.failures import failures
from nearsql.pipeline.replay import CannotReplay, recorded_run, replay
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.schema import query_files
from nearsql.udfs import dbapi

N = 24
LONELY = 5
ODD = range(19, 25)  # the detector fails on these alike: it sees dogs that are none
BOX = (10.0, 10.0, 60.0, 60.0)
FAR = (120.0, 20.0, 140.0, 40.0)


@pytest.fixture
def photos(db: dbapi.Connection) -> dbapi.Connection:
    """24 images with a cat each, 23 with a dog besides. Run 1 is a detector's.

    Images 1 to 12 lie close together in made-up/gap/p5, and so do the others. Image 5 is the one of its
    group where the cat is missed.
    """
    add_images(db, N)
    model = add_detector(db)
    for item in range(1, N + 1):
        annotate(db, item, (item, "cat", BOX))
    annotate(db, 23, (100, "dog", FAR))
    annotate(db, 24, (101, "unicorn", FAR))
    annotate(db, 2, (102, "dog", (0, 0, 100, 100)), is_crowd=True)
    seen = {item: [("cat", BOX, 0.9, item)] for item in range(1, N + 1)}
    seen[LONELY] = [("dog", BOX, 0.6, None), ("cat", BOX, 0.1, None)]
    seen[2].append(("dog", (0, 0, 50, 50), 0.8, None))  # on the crowd
    for item in ODD:
        seen[item].append(("dog", FAR, 0.5 + item / 100, 100 if item == 23 else None))
    groups = np.repeat([[0.0, 0.0], [50.0, 0.0]], N // 2, axis=0)
    features = groups + np.random.default_rng(0).normal(size=(N, 2))
    quality = quality_near(LONELY, features)
    losses = {item: (item / 10, 1.0) for item in seen} | {3: (None, 2.0)}
    judge(db, model, seen, losses=losses, mean_iou_gt=quality)
    add_space(db, "made-up/gap/p5", features, model=model)
    return db


def quality_near(item: int, features: np.ndarray) -> dict[int, float]:
    """How well the detector does: the better the nearer to an image, but on that one not at all."""
    order = np.argsort(np.linalg.norm(features - features[item - 1], axis=1), kind="stable") + 1
    return {int(other): 1 - rank / 100 if rank else 0.0 for rank, other in enumerate(order)}


def stored(db: dbapi.Connection, run_id: int) -> dict[str, dict[int, tuple[float, Any]]]:
    """The findings of a run: (score, evidence) by kind and item."""
    found: dict[str, dict[int, tuple[float, Any]]] = {}
    for kind, item, score, evidence in db.execute(
        "select kind, item_id, score, evidence_json from findings where run_id = ?", (run_id,)
    ):
        found.setdefault(kind, {})[item] = (score, json.loads(evidence))
    return found


def test_worst_images_by_each_loss(photos: dbapi.Connection) -> None:
    found = stored(photos, failures(photos, worst=3).run_id)
    box = found["worst_loss:box"]
    assert {item: score for item, (score, _) in box.items()} == {24: 2.4, 23: 2.3, 22: 2.2}
    assert box[23][1] | {"rank": 2, "of_images": 23, "component": "box", "objects": 2} == box[23][1]
    # Of equal losses, those of the lowest ids.
    assert {i: e["rank"] for i, (_, e) in found["worst_loss:cls"].items()} == {3: 1, 1: 2, 2: 3}


def test_misses_and_false_alarms_are_those_of_the_metrics(photos: dbapi.Connection) -> None:
    result = failures(photos)
    found = stored(photos, result.run_id)
    missed, alarms = photos.execute("select sum(fn), sum(fp) from image_metrics").fetchone()
    assert result.counts["missed_objects"] == missed == 1
    # The one on the crowd counts in this table, which `nearsql detect` would have left out.
    assert result.counts["false_alarms"] == alarms - 1 == 6
    (miss,) = found["miss"][LONELY][1]["misses"]
    assert (miss["class"], miss["size"], miss["why"]) == ("cat", "medium", "wrong class")
    assert miss["predicted"] == "dog"
    (alarm,) = found["false_alarm"][LONELY][1]["alarms"]
    assert (alarm["why"], alarm["annotated"]) == ("wrong class", "cat")
    assert found["false_alarm"].keys() == {LONELY, 19, 20, 21, 22, 24}
    assert found["false_alarm"][24][0] == pytest.approx(0.74)
    assert result.mistakes.why_false == {"nothing there": 5, "wrong class": 1}


def test_the_table_is_that_of_the_named_question(photos: dbapi.Connection) -> None:
    result = failures(photos)
    asked = ask(photos, "mistakes_by_class_and_size", detector=1)
    assert [
        (r["class"], r["size"], r["objects"], r["missed"], r["false_alarms"]) for r in asked
    ] == [tuple(line) for line in result.mistakes.table]
    assert [tuple(line) for line in result.mistakes.table] == [
        ("dog", "small", 1, 0, 5),
        ("cat", "medium", 24, 1, 0),
        ("dog", "medium", 0, 0, 1),
    ]
    worst = ask(photos, "worst_images_by_loss", detector=1)
    by_place = {(row["component"], row["place"]): row["item_id"] for row in worst}
    assert len(by_place) == 20
    assert by_place == {
        (kind.partition(":")[2], e["rank"]): item
        for kind, of_kind in stored(photos, result.run_id).items()
        if kind.startswith("worst_loss:")
        for item, (_, e) in of_kind.items()
    }


def test_a_lonely_failure_is_below_its_neighbours(photos: dbapi.Connection) -> None:
    result = failures(photos, k=4)
    score, evidence = stored(photos, result.run_id)["lonely_failure"][LONELY]
    ids = [n["item_id"] for n in evidence["neighbors"]]
    expected = photos.execute(
        "select id from knn('made-up/gap/p5', ?, 4) order by rank", (LONELY,)
    ).fetchall()
    assert ids == [i for (i,) in expected]
    assert evidence["expected"] == math.fsum([0.99, 0.98, 0.97, 0.96]) / 4 == score
    assert result.lonely is not None
    assert evidence["low"] == result.lonely.low > evidence["value"]
    assert evidence["high"] == result.lonely.high < evidence["expected"]
    (by_sql,) = [
        r for r in ask(photos, "lonely_failures", detector=1, space="made-up/gap/p5", k=4)
    ][:1]
    assert (by_sql["item_id"], by_sql["difference"]) == (LONELY, round(-score, 3))
    # The share of variance that vote_value explains, by SQL alone.
    errors, spread = photos.execute(
        """
        with q as (select item_id, mean_iou_gt as v from image_metrics),
        foretold as (
            select g.id, o.v, vote_value(n.v, g.distance) as p
            from knn_graph('made-up/gap/p5', 4) g
            join q o on o.item_id = g.id join q n on n.item_id = g.neighbor_id group by g.id
        )
        select sum((v - p) * (v - p)), sum((v - (select avg(v) from q)) * (v - (select avg(v) from q)))
        from foretold
        """
    ).fetchone()
    assert result.lonely.r2 == pytest.approx(1 - errors / spread)


def add_metric_space(db: dbapi.Connection, settings: str | None = None) -> None:
    """Images 19 to 24 fail alike; of the others two groups do well."""
    draw = np.random.default_rng(1)
    centres = np.array([[-2.0, 1.0]] * 9 + [[-1.0, 2.0]] * 9 + [[6.0, -6.0]] * 6)
    with immediate(db):
        model = db.execute(
            "insert into models (name, family, parameters_json) values ('made-up/metrics', 'other', ?)",
            (json.dumps({"settings": json.loads(settings or '{"metrics_conf": 0.25}')}),),
        ).lastrowid
    add_space(
        db, "made-up/metrics", centres + 0.05 * draw.normal(size=(N, 2)), "metric", model or 0
    )


def test_clusters_of_failures_are_named_by_what_was_predicted(photos: dbapi.Connection) -> None:
    add_metric_space(photos)
    result = failures(photos, cluster=True)
    found = stored(photos, result.run_id)["failure_cluster"]
    told = [e for _, (_, e) in found.items() if e["items"] == list(ODD)]
    assert len(told) == 1
    assert "dog" in told[0]["name"]
    assert told[0]["means"]["box"] == pytest.approx(2.15)
    assert told[0]["images"] == len(ODD)
    assert min(score for score, _ in found.values()) > 0
    # Clustered once: nothing has changed.
    again = failures(photos, cluster=True)
    assert again.cluster_run == result.cluster_run
    assert replay(photos, result.run_id).is_same
    photos.execute(
        "update models set parameters_json = '{\"settings\": {}}' where name like '%/metrics'"
    )
    photos.commit()
    with pytest.raises(UserError, match="other settings than run 1"):
        failures(photos, cluster=True)


def test_later_runs_with_the_same_settings_count_together(photos: dbapi.Connection) -> None:
    (model,) = photos.execute("select model_id from runs where id = 1").fetchone()
    annotate(photos, 7, (200, "dog", FAR), sha256="1" * 64)
    before = failures(photos)
    assert before.counts["judged"] == N - 1
    assert before.counts["left_out"] == 1
    judge(photos, model, {7: [("cat", BOX, 0.9, 7)]}, losses={7: (99.0, 99.0)})
    result = failures(photos)
    assert result.detector.runs == (1, 3)
    assert result.counts["judged"] == N
    found = stored(photos, result.run_id)
    assert found["worst_loss:box"][7][1]["rank"] == 1
    assert found["miss"].keys() == {LONELY, 7}
    # With other settings it is another detector.
    other = judge(photos, model, {1: []}, settings={"metrics_conf": 0.5})
    assert failures(photos).detector.runs == (other,)
    assert failures(photos, 3).detector.runs == (1, 3)


def test_decisions_survive_a_second_run(photos: dbapi.Connection) -> None:
    first = failures(photos)
    with immediate(photos):
        photos.execute(
            "update findings set decision = 'dismiss', decided_at = '2026-01-01T00:00:00Z'"
            " where run_id = ? and kind = 'false_alarm' and item_id = 24",
            (first.run_id,),
        )
    second = failures(photos, worst=2)
    assert second.counts["decided"] == 1
    third = failures(photos)
    assert photos.execute(
        "select kind, item_id, decision, decided_at from findings where run_id = ?"
        " and decision is not null",
        (third.run_id,),
    ).fetchall() == [("false_alarm", 24, "dismiss", "2026-01-01T00:00:00Z")]
    # A decision is a person's, and no part of the result.
    assert replay(photos, third.run_id).is_same
    # What is wrong there now is not all that was asked about then.
    with immediate(photos):
        photos.execute("update predictions set iou = null where run_id = 1 and item_id = 24")
    assert [
        f.score for f in failures(photos).findings if (f.kind, f.item_id) == ("false_alarm", 24)
    ] == [0.9]
    assert failures(photos).counts["decided"] == 0
    # Evidence that nobody of ours wrote is no claim.
    with immediate(photos):
        photos.execute('update findings set evidence_json = \'{"misses": 3, "alarms": [4]}\'')
        photos.execute("update findings set evidence_json = '[]' where id % 2")
    assert failures(photos).counts["decided"] == 0
    # Another detector's findings are not decided about.
    judge(photos, add_detector(photos, "other"), {24: [("dog", FAR, 0.9, None)]})
    assert failures(photos).counts["decided"] == 0


def test_replay_says_what_keeps_it_from_the_same(photos: dbapi.Connection) -> None:
    result = failures(photos)
    assert replay(photos, result.run_id).is_same
    with immediate(photos):
        photos.execute("update spaces set name = 'renamed' where name = 'made-up/gap/p5'")
    assert replay(photos, result.run_id).is_same
    annotate(photos, 3, (300, "dog", FAR), sha256="2" * 64)
    with pytest.raises(CannotReplay, match="annotated anew"):
        replay(photos, result.run_id)


def test_every_recorded_parameter_counts(photos: dbapi.Connection) -> None:
    add_metric_space(photos)
    run_id = failures(photos, cluster=True).run_id
    original = recorded_run(photos, run_id)
    changes = {
        "detector_runs": [99],
        "worst": 9,
        "space": "called otherwise",
        "metric": "mean_iou",
        "k": 3,
        "cluster_run": None,
        "label_run": None,
        "truth_sha256": "0" * 64,
    }
    assert changes.keys() == original.parameters.keys()
    for name, value in changes.items():
        parameters = {**original.parameters, name: value}
        assert parameters != original.parameters
        inputs = [space_input(photos, "made-up/gap/p5")]
        with run(photos, "failures", parameters=parameters, inputs=inputs) as other:
            other.result_sha256 = original.result_sha256
        with suppress(CannotReplay):
            assert not replay(photos, other.id).is_same, name


def test_annotations_that_change_meanwhile_stop_it(
    photos: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsql.pipeline.failures import run as module

    def meddle(*args: Any, **options: Any) -> Any:
        annotate(photos, 3, (300, "dog", FAR), sha256="2" * 64)
        return find(*args, **options)

    find = module._find
    monkeypatch.setattr(module, "_find", meddle)
    with pytest.raises(UserError, match="changed during this run"):
        failures(photos)
    assert photos.execute("select count(*) from findings").fetchone() == (0,)


def test_what_cannot_be_judged_is_a_sentence(db: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="no detector has judged images"):
        failures(db)
    with pytest.raises(LookupError, match="there is no run 9"):
        failures(db, 9)
    add_images(db, 2)
    model = add_detector(db)
    judge(db, model, {1: [], 2: []})
    with pytest.raises(UserError, match="judged no image by its ground truth"):
        failures(db, 1)
    annotate(db, 1, (1, "cat", BOX))
    judge(db, model, {1: []})
    with pytest.raises(UserError, match="no space 'made-up/metrics' to cluster"):
        failures(db, cluster=True)
    with pytest.raises(LookupError, match="there is no space 'nowhere'"):
        failures(db, space="nowhere")
    with pytest.raises(UserError, match="--metric must be one of"):
        failures(db, metric="beauty")
    # Without a space nobody has neighbours; all else is found.
    result = failures(db)
    assert result.lonely is None
    assert result.counts["miss"] == 1
    with pytest.raises(UserError, match="of kind 'failures'"):
        failures(db, result.run_id)


def ask(db: dbapi.Connection, name: str, **values: Any) -> list[dict[str, Any]]:
    (file,) = [f for f in query_files() if f.name == f"{name}.sql"]
    cursor = db.execute(file.read_text("utf-8"), values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def test_the_command_prints_tables_and_pipes_rows(photos: dbapi.Connection, database: Path) -> None:
    add_metric_space(photos)
    shown = CliRunner().invoke(cli, ["failures", str(database), "--worst", "3", "--cluster"])
    assert shown.exit_code == 0, shown.output
    for text in (
        "the largest box losses, of 23 images (median 1.3)",
        "the largest cls losses",
        "http://127.0.0.1:8001/-/nearsql/test/items/24",
        "images that do badly while their neighbours in made-up/gap/p5 do well",
        "clusters of failures",
        "6: 5 nothing there, 1 wrong class",
        "1: 1 wrong class",
    ):
        assert text in shown.output
    piped = CliRunner().invoke(cli, ["failures", str(database), "--nl", "--url", "http://here/"])
    rows = [json.loads(line) for line in piped.stdout.splitlines()]
    assert {row["kind"] for row in rows} == {
        *("worst_loss:box", "worst_loss:cls", "miss", "false_alarm", "lonely_failure"),
    }
    first = next(row for row in rows if row["kind"] == "worst_loss:box")
    assert first["page"] == "http://here/-/nearsql/test/items/24"
    assert first["evidence"]["objects"] == 1
    as_csv = CliRunner().invoke(cli, ["failures", str(database), "--csv"])
    lines = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert [(line["kind"], int(line["item_id"])) for line in lines] == [
        (row["kind"], row["item_id"]) for row in rows
    ]
    assert json.loads(lines[0]["evidence"]) == rows[0]["evidence"]
    useless = CliRunner().invoke(cli, ["failures", str(database), "--min-cluster-size", "3"])
    assert "belongs to --cluster" in str(useless.exception)
    assert json.loads(CliRunner().invoke(cli, ["failures", str(database), "--json"]).stdout) == [
        {**row, "page": row["page"].replace("http://here", "http://127.0.0.1:8001")} for row in rows
    ]
