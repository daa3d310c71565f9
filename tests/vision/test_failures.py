"""Where yolov8n-seg fails on coco128: the findings, their pages, and what neighbours foretell of it."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from detectors import assets
from served import Site, site

from nearsql.pipeline.annotations.annotate import annotate
from nearsql.pipeline.cli import cli
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.evaluate import evaluate
from nearsql.pipeline.failures import FailuresResult, failures
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.assets

COMPONENTS = ("box", "cls", "dfl", "seg")
N = 128


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 128 photographs, judged in less than half the usual size: in a sixth of the time."""
    path = tmp_path_factory.mktemp("coco128") / "photos.db"
    db = connection.create(path)
    folder = assets() / "coco128-seg"
    ingest_images(db, folder / "images", collection="coco128")
    annotate(db, "coco128", "yolo", folder, classes=assets() / "coco128-seg.yaml")
    detect(db, assets() / "weights" / "yolov8n-seg.pt", imgsz=256)
    db.close()
    return path


@pytest.fixture(scope="module")
def photos(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, which the tests fill."""
    return Path(shutil.copy(judged, tmp_path_factory.mktemp("photos")))


@pytest.fixture(scope="module")
def db(photos: Path) -> Iterator[dbapi.Connection]:
    opened = connection.connect(photos)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def found(db: dbapi.Connection) -> FailuresResult:
    return failures(db, cluster=True)


@pytest.fixture(scope="module")
def pages(photos: Path, found: FailuresResult) -> Iterator[Site]:
    with site(photos) as opened:
        yield opened


def test_the_ten_worst_images_of_each_loss(db: dbapi.Connection, found: FailuresResult) -> None:
    for component in COMPONENTS:
        worst = db.execute(
            "select item_id from losses where component = ? order by value desc limit 10",
            (component,),
        ).fetchall()
        findings = found.of_kind(f"worst_loss:{component}")
        assert [finding.item_id for finding in findings] == [item for (item,) in worst]
        assert [finding.evidence["rank"] for finding in findings] == list(range(1, 11))


def test_mistakes_add_up_to_the_metrics(db: dbapi.Connection, found: FailuresResult) -> None:
    n_gt, missed, false = db.execute(
        "select sum(n_gt), sum(fn), sum(fp) from image_metrics"
    ).fetchone()
    table = found.mistakes.table
    assert sum(line.objects for line in table) == n_gt == 929
    assert sum(line.missed for line in table) == found.counts["missed_objects"] == missed
    assert sum(line.false_alarms for line in table) == found.counts["false_alarms"] == false
    by_image = db.execute("select item_id, fn, fp from image_metrics").fetchall()
    assert {f.item_id: int(f.score) for f in found.of_kind("miss")} == {
        item: fn for item, fn, _ in by_image if fn
    }
    assert {f.item_id: len(f.evidence["alarms"]) for f in found.of_kind("false_alarm")} == {
        item: fp for item, _, fp in by_image if fp
    }
    # As everybody knows of such detectors.
    share = {
        size: sum(line.missed for line in table if line.size == size)
        / sum(line.objects for line in table if line.size == size)
        for size in ("small", "medium", "large")
    }
    assert share["small"] > share["medium"] > share["large"]


def test_clusters_of_failures_do_worse(db: dbapi.Connection, found: FailuresResult) -> None:
    clusters = found.of_kind("failure_cluster")
    assert clusters
    for finding in clusters:
        told = finding.evidence
        assert told["name"]
        assert len(told["items"]) == told["images"]
        assert finding.item_id in told["items"]
        (cls,) = db.execute(
            "select avg(value) from losses where component = 'cls'"
            " and item_id in (select value from json_each(?))",
            (json.dumps(told["items"]),),
        ).fetchone()
        assert told["means"]["cls"] == pytest.approx(cls, abs=1e-6)
    assert clusters[0].evidence["means"]["cls"] > clusters[0].evidence["means_of_all"]["cls"]


def test_lonely_failures_have_neighbours_that_do_well(found: FailuresResult) -> None:
    assert found.lonely is not None
    values = [each.value for each in found.lonely.compared]
    for finding in found.of_kind("lonely_failure"):
        told = finding.evidence
        nearest = np.mean([each["value"] for each in told["neighbors"]])
        assert told["value"] < np.quantile(values, 0.25) < np.median(values) < nearest


def test_it_is_found_again(db: dbapi.Connection, found: FailuresResult) -> None:
    assert replay(db, found.run_id).is_same


def test_every_link_opens_the_image_with_its_boxes(
    db: dbapi.Connection, photos: Path, pages: Site
) -> None:
    shown = CliRunner().invoke(cli, ["failures", str(photos)])
    assert shown.exit_code == 0, shown.output
    for component in COMPONENTS:
        table = shown.stdout.partition(f"the largest {component} losses")[2].split("\n\n")[1]
        links = re.findall(r"http://127\.0\.0\.1:8001(/\S+/items/(\d+))", table)
        assert len(links) == 10
        for link, item in links:
            page = pages.get(link)
            assert page.status_code == 200
            objects, predictions, width, height = db.execute(
                "select (select count(*) from annotations where item_id = i.id),"
                " (select count(*) from predictions where item_id = i.id), width, height"
                " from items i where id = ?",
                (item,),
            ).fetchone()
            # A box, and before it the outline of the mask where there is one.
            drawn = r'<g class="box [^"]*" data-box="{}\d+"[^>]*>\s*(?:<path[^>]*>\s*)*<rect'
            assert len(re.findall(drawn.format("o"), page.text)) == objects
            assert len(re.findall(drawn.format("p"), page.text)) == predictions
            assert f'viewBox="0 0 {width} {height}"' in page.text
            (image,) = re.findall(r'<div class="thing">\s*<img src="([^"]+)"', page.text)
            assert pages.get(unescape(image)).headers["content-type"] == "image/jpeg"


def test_mean_iou_from_neighbours_in_gap_and_its_honest_r2(db: dbapi.Connection) -> None:
    """The features tell hardly anything of it: the mean of all images would foretell about as well."""
    space = "yolov8n-seg/gap/p5"
    run = evaluate(db, [space], target="mean_iou", ks=(10,), weightings=("uniform",)).run_id
    (r2,) = db.execute(
        "select value from cv_metrics where run_id = ? and metric = 'r2' and fold is null", (run,)
    ).fetchone()
    truth, foretold = np.array(
        db.execute("select y_true, y_pred from cv_predictions where run_id = ?", (run,)).fetchall(),
        float,
    ).T
    assert r2 == pytest.approx(
        1 - ((truth - foretold) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    )
    assert -0.5 < r2 < 0.5
    # By hand, each image left out by itself instead of folds.
    (by_hand,) = db.execute(
        """
        with q as (select item_id, mean_iou as v from image_metrics where mean_iou is not null),
        foretold as (
            select own.v as truth, vote_value(theirs.v, g.distance) as v
            from knn_graph(?, 10, (select json_group_array(item_id) from q)) g
            join q own on own.item_id = g.id
            join q theirs on theirs.item_id = g.neighbor_id
            group by g.id
        )
        select r2(truth, v) from foretold
        """,
        (space,),
    ).fetchone()
    print(f"R2 of mean_iou from 10 neighbours: {r2:.3f} in 5 folds, {by_hand:.3f} left one out")
    assert by_hand == pytest.approx(r2, abs=0.3)


def test_everything_on_the_page_of_failures_runs(
    judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "failures.md").read_text(encoding="utf-8")
    shutil.copy(judged, tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^ {4}nearsql (.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        outcome = CliRunner().invoke(cli, shlex.split(command))
        assert outcome.exit_code == 0, (command, outcome.output, outcome.exception)
    statements = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(statements) == 4
    opened = connection.connect("photos.db", read_only=True)
    for statement in statements:
        assert opened.execute(statement).fetchall(), statement
    opened.close()
