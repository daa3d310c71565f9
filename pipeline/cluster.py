"""Cluster: which groups each space has, who belongs to them, and how much is noise.

    cluster_spaces(db, ["digits/pixels"], min_cluster_size=20)

The SQL function `hdbscan` computes, with no transaction open; then one short transaction writes a
space's clusters and memberships. Each space is a run of its own, and no run touches another's rows.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.run_spaces import add_runs_read, refuse_if_changed, space_read_by
from nearsql.pipeline.runs import hash_rows, immediate, run, space_input
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.space_points import normalized
from nearsql.udfs.spaces import find_space

# What the result depends on, besides what every run's does.
PACKAGES = ("hdbscan", "numba", "faiss-cpu", "scikit-learn")

LEVEL = 1

# What a run of pipeline/cluster_losses.py calls its method.
METHOD_OF_LOSSES = "hdbscan of loss distances"

# All against all is multiplied about three times: for the neighbours, the searches beyond them, and
# (half of all pairs) the ties. Shorter work needs no forecast.
_PRODUCTS = 3
_SECONDS_WORTH_SAYING = 5.0
# An item's neighbour list and its place in the trees.
_LIST_BYTES = 1024

_HDBSCAN = """\
select id, cluster, probability, outlier_score, core_distance, birth_lambda
from hdbscan(:space, :min_cluster_size, :min_samples, :downsample, null, :selection, :epsilon)
order by id
"""

Row = tuple[int, int | None, float, float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class ClusterResult:
    """How a space's clustering went; run_id is None when it was skipped, for the reason given.

    counts: total and sampled items, clusters, noise, noise_share. graph_run: whose stored neighbours were
    read, None when they were computed.
    """

    space: str
    run_id: int | None
    counts: dict[str, int | float] = field(default_factory=dict)
    skipped: str | None = None
    graph_run: int | None = None


def cluster_spaces(
    db: dbapi.Connection,
    spaces: Sequence[str] | None = None,
    *,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    downsample: int = 1,
    selection: str = "eom",
    epsilon: float = 0.0,
    quiet: bool = True,
) -> list[ClusterResult]:
    """Clusters the named spaces, or all there are, each on its own; gives a result for each.

    The parameters are those of the SQL function `hdbscan`. Spaces that cannot be clustered (fewer than
    two sampled items, or a metric that is no distance) are skipped, and the reason is said. Raises
    LookupError for a space that is not there, and UserError when one changes while it is clustered.
    """
    groups = _groups(db, spaces, downsample)
    results = []
    with progress("spaces clustered", len(groups), quiet=quiet) as bar:
        for name, total, sampled, reason in groups:
            if reason is not None:
                say(f"skipped {name}: {reason}")
                counts: dict[str, int | float] = {"total": total, "sampled": sampled}
                results.append(ClusterResult(name, None, counts, reason))
            else:
                wanted = min_samples or min_cluster_size
                parameters = {
                    "method": "hdbscan",
                    "space": name,
                    "min_cluster_size": min_cluster_size,
                    "min_samples": max(1, min(wanted, sampled - 1)),
                    "downsample": downsample,
                    "selection": selection,
                    "epsilon": epsilon,
                }
                if not quiet:
                    _forecast(db, name, sampled)
                results.append(_cluster(db, name, total, parameters))
            bar.advance()
    return results


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> str:
    """The SHA-256 of a clustering run's result, computed anew."""
    if recorded.parameters.get("method") == METHOD_OF_LOSSES:
        from nearsql.pipeline import cluster_losses  # which imports this module

        return cluster_losses.recompute(db, recorded)
    if recorded.parameters.get("method") != "hdbscan":
        raise CannotReplay(
            f"run {recorded.id} clustered by {recorded.parameters.get('method')!r}, not 'hdbscan'"
        )
    return hash_rows(_compute(db, space_read_by(db, recorded), recorded.parameters))


def _groups(
    db: dbapi.Connection, spaces: Sequence[str] | None, downsample: int
) -> list[tuple[str, int, int, str | None]]:
    """(space, total, sampled, why it cannot be clustered) of the spaces asked for, in their order."""
    rows = db.execute(
        "select g.space, g.total, g.sampled, s.metric"
        " from space_groups(?) g join spaces s on s.name = g.space",
        (downsample,),
    ).fetchall()
    found = {name: (name, total, sampled, metric) for name, total, sampled, metric in rows}
    names = list(found) if spaces is None else list(dict.fromkeys(spaces))
    if not names:
        raise UserError("this file has no spaces to cluster: run `nearsql embed` first")
    groups = []
    for name in names:
        if name not in found:
            there_are = ", ".join(found) or "none; run `nearsql embed` first"
            raise LookupError(f"there is no space {name!r}: the spaces are {there_are}")
        _, total, sampled, metric = found[name]
        reason = None
        if sampled < 2:
            reason = (
                f"a downsample by {downsample} leaves {sampled} of {total} items, and 2 are needed"
            )
        elif metric == "ip":
            reason = "inner products are not distances; store the vectors with metric cosine or l2"
        groups.append((name, total, sampled, reason))
    return groups


def _forecast(db: dbapi.Connection, space: str, n: int) -> None:
    """Says how long it will take, by the time of one block of matrix products, and the memory."""
    vectors = load_matrix(db.apsw, find_space(db.apsw, space)).vectors[:n]
    block = vectors[:256]
    start = time.perf_counter()
    np.matmul(block, vectors.T)
    seconds = (time.perf_counter() - start) * _PRODUCTS * n / len(block)
    if seconds >= _SECONDS_WORTH_SAYING:
        memory = 2 * vectors.nbytes + n * _LIST_BYTES + 2**26
        say(f"{space}: {n:,} items, about {seconds:,.0f} s and {memory / 1e6:,.0f} MB of memory")


def _compute(db: dbapi.Connection, space: str, parameters: dict[str, Any]) -> list[Row]:
    return db.execute(_HDBSCAN, {**parameters, "space": space}).fetchall()


def _cluster(
    db: dbapi.Connection, space: str, total: int, parameters: dict[str, Any]
) -> ClusterResult:
    source = space_input(db, space)
    with run(db, "cluster", parameters=parameters, inputs=[source], packages=PACKAGES) as current:
        with current.timed("compute"):
            with noting_graph_runs() as graphs:
                rows = _compute(db, space, parameters)
            matrix = load_matrix(db.apsw, find_space(db.apsw, space))
            clusters = _clusters(matrix, rows)
        with current.timed("write"), immediate(db):
            refuse_if_changed(db, source)
            add_runs_read(current, graphs, "neighbors")
            write_clusters(db, current.id, clusters, rows)
        noise = sum(row[1] is None for row in rows)
        current.counts |= {
            "total": total,
            "sampled": len(rows),
            "clusters": len(clusters),
            "noise": noise,
            "noise_share": round(noise / len(rows), 4),
        }
        current.result_sha256 = hash_rows(rows)
    return ClusterResult(
        space, current.id, dict(current.counts), graph_run=max(graphs, default=None)
    )


def _clusters(matrix: Matrix, rows: list[Row]) -> list[tuple[int, int, bytes, int, float | None]]:
    """(label, size, centroid, exemplar, birth lambda) of each cluster.

    The centroid is the mean of the vectors; in a cosine space, of the vectors divided by their norms.
    The exemplar is the item of highest probability, of several the one of lowest id.
    """
    members: dict[int, list[Row]] = {}
    for row in rows:
        if row[1] is not None:
            members.setdefault(row[1], []).append(row)
    found = []
    for label, of_label in sorted(members.items()):
        places = matrix.positions(np.array([row[0] for row in of_label], np.int64))
        vectors = matrix.vectors[places]
        if matrix.space.metric == "cosine":
            vectors = normalized(vectors)
        centroid = vectors.mean(axis=0, dtype=np.float64).astype("<f4").tobytes()
        exemplar = min(of_label, key=lambda row: (-row[2], row[0]))
        found.append((label, len(of_label), centroid, exemplar[0], exemplar[5]))
    return found


def write_clusters(
    db: dbapi.Connection,
    run_id: int,
    clusters: Sequence[tuple[int, int, bytes | None, int, float | None]],
    rows: list[Row],
) -> None:
    """Writes a run's clusters and memberships in the caller's transaction.

    clusters: label, size, centroid, exemplar and birth lambda of each.
    """
    ids: dict[int | None, int | None] = {None: None}
    for label, size, centroid, exemplar, birth_lambda in clusters:
        ids[label] = db.execute(
            "insert into clusters (run_id, level, label, size, centroid, exemplar_item_id, birth_lambda)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (run_id, LEVEL, label, size, centroid, exemplar, birth_lambda),
        ).lastrowid
    db.executemany(
        "insert into memberships (run_id, level, item_id, cluster_id, probability, outlier_score,"
        " core_distance) values (?, ?, ?, ?, ?, ?, ?)",
        (
            (run_id, LEVEL, item, ids[label], probability, outlier_score, core_distance)
            for item, label, probability, outlier_score, core_distance, _ in rows
        ),
    )
