"""Clusters by a stored loss distance: as the hdbscan library finds them, recorded and replayable."""

import itertools
import json
from pathlib import Path
from typing import Any

import hdbscan
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from served import site

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.pipeline import runs
from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster.losses import cluster_losses, loss_matrix
from nearsql.pipeline.console import UserError
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi

N = 40


def directed(seed: int = 0, n: int = N) -> NDArray[np.float64]:
    """Distances between two groups and a few strangers, with a direction and no 0."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2)) + 9 * (np.arange(n) % 2)[:, None]
    points[-3:] += rng.uniform(50, 90, (3, 2))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    return apart * rng.uniform(0.8, 1.2, (n, n)) + 0.3


def add_run(
    db: dbapi.Connection, distances: NDArray[np.float64], pairs: str = "all", **more: Any
) -> int:
    """A finished run of these distances [target, image]; NaN is undefined."""
    n = len(distances)
    with runs.immediate(db):
        db.execute("insert or ignore into models (id, name, family) values (1, 'y', 'yolo')")
        for item in range(1, n + 1):
            db.execute(
                "insert or ignore into items (id, kind, collection, sha256, width, height,"
                " sequence_number) values (?, 'image', 'tests', ?, 1, 1, ?)",
                (item, f"{item:064x}", item),
            )
    parameters = {"pairs": pairs, "components": ["box", "cls"], **more}
    with (
        runs.run(db, "loss-distance", parameters=parameters, model_id=1) as current,
        runs.immediate(db),
    ):
        for target, image in itertools.product(range(n), repeat=2):
            value = float(distances[target, image])
            is_defined = not np.isnan(value)
            db.execute(
                "insert into loss_distances (run_id, target_item_id, image_item_id, component,"
                " distance, reason) values (?, ?, ?, 'cls', ?, ?)",
                (
                    *(current.id, target + 1, image + 1),
                    *((value, None) if is_defined else (None, "a test")),
                ),
            )
    return current.id


@pytest.mark.parametrize("symmetrize", ["mean", "max", "min"])
@pytest.mark.parametrize("options", [{}, {"min_samples": 2, "selection": "leaf", "epsilon": 0.5}])
def test_as_the_library_does(db: dbapi.Connection, symmetrize: str, options: Any) -> None:
    distances = directed()
    result = cluster_losses(
        db, add_run(db, distances), symmetrize=symmetrize, min_cluster_size=6, **options
    )
    both = np.stack([distances, distances.T])
    square = {"mean": both.mean(0), "max": both.max(0), "min": both.min(0)}[symmetrize]
    np.fill_diagonal(square, 0)
    with stable_sort():
        library = hdbscan.HDBSCAN(
            metric="precomputed",
            min_cluster_size=6,
            min_samples=options.get("min_samples"),
            cluster_selection_method=options.get("selection", "eom"),
            cluster_selection_epsilon=options.get("epsilon", 0.0),
        ).fit(square)
    found = db.execute(
        "select m.item_id, coalesce(c.label, -1), m.probability, m.outlier_score from memberships m"
        " left join clusters c on c.id = m.cluster_id where m.run_id = ? order by m.item_id",
        (result.run_id,),
    ).fetchall()
    assert [row[0] for row in found] == list(range(1, N + 1))
    assert [row[1] for row in found] == library.labels_.tolist()
    assert [row[2] for row in found] == library.probabilities_.tolist()
    assert [row[3] for row in found] == library.outlier_scores_.tolist()
    assert result.counts["clusters"] == library.labels_.max() + 1 >= 2
    assert result.counts["noise"] == (library.labels_ < 0).sum() > 0
    assert replay(db, result.run_id).is_same


def test_what_is_recorded(db: dbapi.Connection) -> None:
    source = add_run(db, directed())
    result = cluster_losses(db, source, symmetrize="max", min_cluster_size=5)
    (parameters,) = db.execute(
        "select parameters_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert json.loads(parameters) == {
        "method": "hdbscan of loss distances",
        "loss_distance_run": source,
        "component": "cls",
        "symmetrize": "max",
        "min_cluster_size": 5,
        "min_samples": 5,
        "selection": "eom",
        "epsilon": 0.0,
    }
    assert db.execute(
        "select kind, input_run_id from run_inputs where run_id = ?", (result.run_id,)
    ).fetchall() == [("run", source)]
    sizes = db.execute(
        "select size, centroid from clusters where run_id = ? order by label", (result.run_id,)
    ).fetchall()
    assert sum(size for size, _ in sizes) == N - result.counts["noise"]
    assert {centroid for _, centroid in sizes} == {None}
    with pytest.raises(dbapi.OperationalError, match="clustered stored distances"):
        db.execute("select cluster_assign(?, '[1, 2]')", (result.run_id,)).fetchone()
    db.execute("update loss_distances set distance = distance + target_item_id % 7")
    db.commit()
    assert not replay(db, result.run_id).is_same
    db.execute("delete from runs where id = ?", (source,))
    db.commit()
    with pytest.raises(CannotReplay, match="there is no such run"):
        replay(db, result.run_id)


def test_items_with_undefined_distances_are_left_out(db: dbapi.Connection) -> None:
    distances = directed()
    distances[4] = np.nan  # an image without predictions
    distances[7, 11] = distances[8, 11] = np.nan
    result = cluster_losses(db, add_run(db, distances))
    counts = result.counts
    assert (counts["total"], counts["sampled"], counts["left_out"]) == (N, N - 2, 2)
    assert db.execute(
        "select item_id, stage, message from item_errors where run_id = ?", (result.run_id,)
    ).fetchall() == [
        (5, "cluster", "39 of its cls distances to the others are undefined"),
        (12, "cluster", "2 of its cls distances to the others are undefined"),
    ]
    matrix = loss_matrix(db, 1, "cls", "mean")
    assert not np.isnan(matrix.distances).any()
    assert matrix.item_ids == [item for item in range(1, N + 1) if item not in (5, 12)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_id": 9}, r"must be a run of loss distances, not 9 \(there is no such run\)"),
        ({"run_id": 3}, "that one is of kind 'detect'"),
        ({"run_id": 2}, "run 2 has the distances of landmarks only"),
        ({"component": "seg"}, "run 1 has no component 'seg': it has box, cls"),
        ({"component": "box"}, "run 1 has 0 items whose box distances are all defined"),
        ({"symmetrize": "sum"}, "--symmetrize must be one of mean, max, min, not 'sum'"),
    ],
)
def test_refusals(db: dbapi.Connection, options: dict[str, Any], message: str) -> None:
    add_run(db, directed(n=4))
    add_run(db, directed(n=4), pairs="landmarks")
    with runs.run(db, "detect", parameters={}, model_id=1):
        pass
    with pytest.raises(UserError, match=message):
        cluster_losses(db, **{"run_id": 1, **options})
    assert db.execute("select count(*) from runs").fetchone() == (3,)


def test_the_command(db: dbapi.Connection, database: Path) -> None:
    add_run(db, directed())
    name = str(database)
    called = CliRunner().invoke(cli, ["cluster", name, "--loss-distance", "1"])
    assert called.exit_code == 0, called.output
    assert "run 2: cls of run 1, mean of both directions" in called.stderr
    for arguments, message in (
        (["space", "--loss-distance", "1"], "name no SPACE"),
        (
            ["--loss-distance", "1", "--downsample", "2"],
            "--downsample does not go with --loss-distance",
        ),
        (["--symmetrize", "max"], "--symmetrize belongs to --loss-distance"),
    ):
        refused = CliRunner().invoke(cli, ["cluster", name, *arguments])
        assert isinstance(refused.exception, UserError)
        assert message in str(refused.exception)


def test_the_hint_after_no_clusters_clusters_the_same(db: dbapi.Connection, database: Path) -> None:
    add_run(db, np.ones((6, 6)))
    called = CliRunner().invoke(
        cli, ["cluster", str(database), "--loss-distance", "1", "--symmetrize", "max"]
    )
    assert (
        f"next: nearsql cluster {database} --loss-distance 1 --symmetrize=max"
        " --min-cluster-size 2 --min-samples 1"
    ) in called.stderr


def test_the_pages_say_what_was_clustered(db: dbapi.Connection, database: Path) -> None:
    add_run(db, directed())
    cluster_losses(db, 1)
    with site(database) as served:
        for page in ("", "/clusters/2", "/items/1"):
            assert "cls losses of run 1" in served.get(f"/-/nearsql/test{page}").text
