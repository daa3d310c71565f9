"""Cluster by a stored loss distance: the library's HDBSCAN on the symmetrised matrix of a run.

    cluster_losses(db, 7, component="cls", symmetrize="mean")

A loss distance has a direction and is not 0 from an item to itself; a clustering needs a distance that
has none and is. So of each pair the mean, maximum or minimum of both directions is taken, which is
recorded, and the diagonal is 0.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.cluster.results import (
    ClusterRow,
    FoundClusters,
    MemberRow,
    hash_result,
    result_again,
    write_result,
)
from nearsql.pipeline.cluster.run import PACKAGES
from nearsql.pipeline.console import UserError
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.runs import Run, immediate, run, run_input
from nearsql.udfs import dbapi

if TYPE_CHECKING:
    from nearsql.udfs.clustering.hdbscan_tree import Clustering

METHOD = "hdbscan of loss distances"

Matrix = NDArray[np.float64]

SYMMETRIZE: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "mean": lambda there, back: (there + back) / 2,
    "max": np.maximum,
    "min": np.minimum,
}


@dataclass(frozen=True, slots=True)
class LossClusterResult:
    """How it went. counts: total, sampled, left_out, clusters, noise, noise_share."""

    run_id: int
    counts: dict[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LossMatrix:
    """Symmetric distances (n, n) float64 with a diagonal of 0 between items, in the order of ids.

    left_out: the items without a place in it, and why.
    """

    item_ids: list[int]
    distances: Matrix
    left_out: dict[int, str]


def cluster_losses(
    db: dbapi.Connection,
    run_id: int,
    *,
    component: str = "cls",
    symmetrize: str = "mean",
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: str = "eom",
    epsilon: float = 0.0,
) -> LossClusterResult:
    """Clusters the items of a run of loss distances between all pairs, as a run of its own.

    symmetrize: mean, max or min of both directions. The others are as in `cluster_spaces`. Items whose
    distances to others are undefined are left out, each with an `item_errors` row that says so. Raises
    UserError when the run is another, is not complete, or leaves fewer than 2 items.
    """
    matrix = loss_matrix(db, run_id, component, symmetrize)
    n = len(matrix.item_ids)
    parameters = {
        "method": METHOD,
        "loss_distance_run": run_id,
        "component": component,
        "symmetrize": symmetrize,
        "min_cluster_size": min_cluster_size,
        "min_samples": max(1, min(min_samples or min_cluster_size, n - 1)),
        "selection": selection,
        "epsilon": epsilon,
    }
    source = run_input(db, run_id)
    with run(db, "cluster", parameters=parameters, inputs=[source], packages=PACKAGES) as current:
        with current.timed("compute"):
            found = _hdbscan(matrix, parameters)
        noise = sum(row.label is None for row in found.members)
        current.counts |= {
            "total": n + len(matrix.left_out),
            "sampled": n,
            "left_out": len(matrix.left_out),
            "clusters": len(found.clusters),
            "noise": noise,
            "noise_share": round(noise / n, 4),
        }
        current.result_sha256 = hash_result(found.clusters, found.members)
        with immediate(db):
            with current.timed("write"):
                write_result(db, current.id, found.clusters, found.members)
                _write_left_out(current, matrix)
            current.finish()
    return LossClusterResult(current.id, dict(current.counts))


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """A run's clusters, computed anew."""
    then = recorded.parameters
    try:
        matrix = loss_matrix(db, then["loss_distance_run"], then["component"], then["symmetrize"])
    except UserError as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    return result_again(db, recorded.id, _hdbscan(matrix, then))


def loss_matrix(db: dbapi.Connection, run_id: int, component: str, symmetrize: str) -> LossMatrix:
    """The symmetrised distances of a finished run of all pairs.

    Of items between which a distance is undefined, the one with the most undefined distances (of
    several, the one of highest id) is left out, until none is undefined. Raises UserError.
    """
    if symmetrize not in SYMMETRIZE:
        raise UserError(f"--symmetrize must be one of {', '.join(SYMMETRIZE)}, not {symmetrize!r}")
    _check_run(db, run_id, component)
    found = db.execute(
        "select target_item_id, image_item_id, distance from loss_distances"
        " where run_id = ? and component = ?",
        (run_id, component),
    ).fetchall()
    item_ids = np.unique([row[:2] for row in found])
    directed = np.full((len(item_ids), len(item_ids)), np.nan)
    if found:
        targets, image_ids, values = zip(*found, strict=True)
        places = np.searchsorted(item_ids, targets), np.searchsorted(item_ids, image_ids)
        directed[places] = np.array(values, np.float64)  # None is NaN
    distances = SYMMETRIZE[symmetrize](directed, directed.T)
    np.fill_diagonal(distances, 0.0)
    kept, left_out = _defined(distances)
    if len(kept) < 2:
        raise UserError(
            f"run {run_id} has {len(kept)} items whose {component} distances are all defined, and 2"
            " are needed to cluster"
        )
    ids = item_ids.tolist()
    return LossMatrix(
        [ids[place] for place in kept],
        np.ascontiguousarray(distances[np.ix_(kept, kept)]),
        {
            ids[place]: f"{n} of its {component} distances to the others are undefined"
            for place, n in left_out.items()
        },
    )


def _check_run(db: dbapi.Connection, run_id: int, component: str) -> None:
    row = db.execute(
        "select kind, status, parameters_json from runs where id = ?", (run_id,)
    ).fetchone()
    if row is None or row[0] != "loss-distance":
        found = "there is no such run" if row is None else f"that one is of kind {row[0]!r}"
        raise UserError(f"--loss-distance must be a run of loss distances, not {run_id} ({found})")
    _, status, parameters_json = row
    parameters = json.loads(parameters_json)
    if status != "finished":
        raise UserError(f"run {run_id} is {status}: only a finished run can be clustered")
    if parameters["pairs"] != "all":
        raise UserError(
            f"run {run_id} has the distances of {parameters['pairs']} only: to cluster, those of all"
            " pairs are needed (`nearsql loss-distance --pairs all`)"
        )
    if component not in parameters["components"]:
        raise UserError(
            f"run {run_id} has no component {component!r}: it has"
            f" {', '.join(parameters['components'])}"
        )


def _defined(distances: Matrix) -> tuple[list[int], dict[int, int]]:
    """The places among which all distances are defined; and of each other, how many of its were not."""
    is_undefined = np.isnan(distances)
    kept = np.ones(len(distances), bool)
    left_out = {}
    while (counts := (is_undefined & kept & kept[:, None]).sum(1)).any():
        worst = len(counts) - 1 - int(counts[::-1].argmax())
        left_out[worst] = int(counts[worst])
        kept[worst] = False
    return np.flatnonzero(kept).tolist(), left_out


def _hdbscan(matrix: LossMatrix, parameters: dict[str, Any]) -> FoundClusters:
    """The steps of hdbscan.HDBSCAN(metric="precomputed"), of which it does not keep all."""
    from hdbscan._hdbscan_linkage import mst_linkage_core
    from hdbscan._hdbscan_reachability import mutual_reachability

    from nearsql.udfs.clustering.hdbscan_tree import cut
    from nearsql.udfs.clustering.spanning_tree import SpanningTree

    distances, min_samples = matrix.distances, parameters["min_samples"]
    # The item itself comes first, at 0.
    core = np.partition(distances, min_samples, axis=1)[:, min_samples]
    edges = mst_linkage_core(mutual_reachability(distances.copy(), min_samples))
    found = cut(
        SpanningTree(edges, core),
        min_cluster_size=parameters["min_cluster_size"],
        cluster_selection_method=parameters["selection"],
        cluster_selection_epsilon=parameters["epsilon"],
    )
    labels = [label if label >= 0 else None for label in found.labels.tolist()]
    rows = zip(
        matrix.item_ids,
        labels,
        found.probabilities.tolist(),
        found.outlier_scores.tolist(),
        core.tolist(),
        strict=True,
    )
    members = [MemberRow(1, *row) for row in rows]
    return FoundClusters(_clusters(members, found), members)


def _clusters(members: list[MemberRow], found: "Clustering") -> list[ClusterRow]:
    """Without centroids, which distances have not. The exemplar is the likeliest item."""
    by_label: dict[int, list[int]] = {}
    for place, row in enumerate(members):
        if row.label is not None:
            by_label.setdefault(row.label, []).append(place)
    clusters = []
    for label, places in sorted(by_label.items()):
        exemplar = max(places, key=lambda place: (members[place].probability, -place))
        item = members[exemplar].item_id
        birth, largest = float(found.birth_lambdas[exemplar]), float(found.max_lambdas[exemplar])
        clusters.append(
            ClusterRow(1, label, None, len(places), None, item, birth, max_lambda=largest)
        )
    return clusters


def _write_left_out(current: Run, matrix: LossMatrix) -> None:
    for item_id, reason in sorted(matrix.left_out.items()):
        current.item_error("cluster", reason, item_id=item_id)
