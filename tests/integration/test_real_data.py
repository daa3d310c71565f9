"""Real photographs, real questions, real clothes: what the parts do together on more than toys."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hdbscan import HDBSCAN

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.pipeline.embed import embed
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def assets() -> Path:
    return Path(os.environ["NEARSQL_ASSETS"])


def test_photographs_from_folder_to_neighbours(db: dbapi.Connection, assets: Path) -> None:
    folder = assets / "coco128-seg" / "images"
    before = sorted(folder.rglob("*"))
    result = ingest_images(db, folder, collection="coco", label="split")
    assert result.counts["new"] == len(list(folder.rglob("*.jpg"))) == 128
    assert result.counts["errors"] == 0
    assert embed(db, "pixels", collection="coco").counts == {"vectors": 128, "errors": 0}
    assert embed(db, "pixels", collection="coco").run_id is None  # nothing left to do
    assert db.execute("select count(*) from knn('coco/pixels', 1, 1000)").fetchone() == (127,)
    assert db.execute("select distinct value from item_labels").fetchall() == [("train2017",)]
    for (run_id,) in db.execute("select id from runs where status = 'finished'").fetchall():
        assert replay(db, run_id).is_same
    assert sorted(folder.rglob("*")) == before  # the user's folder is only read


def test_neighbours_of_questions_mean_the_same(db: dbapi.Connection, assets: Path) -> None:
    table = assets / "text" / "banking77_test.csv"
    ingested = ingest_texts(db, table, text="text", label="label", collection="questions")
    assert ingested.counts["new"] > 3000
    embed(db, "tfidf", collection="questions")
    agree, asked = db.execute(
        "select sum(voted = label), count(*) from ("
        " select own.value as label, vote(theirs.value, g.distance, 'distance') as voted"
        " from knn_graph('questions/tfidf', 10) g"
        " join item_labels own on own.item_id = g.id"
        " join item_labels theirs on theirs.item_id = g.neighbor_id group by g.id)"
    ).fetchone()
    assert asked == ingested.counts["new"]
    assert agree / asked > 0.6  # of 77 intents; chance is 0.013


def test_clusters_of_clothes_equal_the_library(
    db: dbapi.Connection, assets: Path, add_space
) -> None:
    (file,) = (assets / "fashion-mnist").glob("t10k-images*")
    with gzip.open(file) as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 784)[:1500]
    add_space("clothes", images)
    rows = db.execute("select cluster from hdbscan('clothes', 10, 5) order by id").fetchall()
    found = np.array([-1 if cluster is None else cluster for (cluster,) in rows])
    library = HDBSCAN(min_cluster_size=10, min_samples=5, algorithm="prims_kdtree")
    with stable_sort():
        np.testing.assert_array_equal(found, library.fit_predict(images.astype(np.float64)))


def test_questions_by_pipe(tmp_path: Path, assets: Path) -> None:
    path = tmp_path / "q.db"
    table = assets / "text" / "banking77_test.csv"
    program = "from nearsql.pipeline.cli import main; main()"
    options = ["--format", "csv", "--text", "text", "--label", "label", "--collection", "piped"]
    with open(table, "rb") as f:
        done = subprocess.run(
            [sys.executable, "-c", program, "ingest", path, "-", *options],
            stdin=f,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    db = connection.connect(path)
    lines = len(table.read_text(encoding="utf-8").splitlines()) - 1
    (items,) = db.execute("select count(*) from items where collection = 'piped'").fetchone()
    assert 0 < items <= lines
    db.close()
