"""How far assigning can be trusted: items are held out, assigned, and compared with clustering them.

Of a run's members, or 10,000 of them, 15% are held out and the others clustered with the run's
parameters. Those held out are then assigned by the rule of `cluster_assign`, and clustered together with
the others. The agreement is the share that both put into the same place: the same cluster, or the noise.
Beside it stands the same share of the items that both clusterings saw: where they differ in these already,
assigning cannot do better.
The choice is seeded, so that a run's agreement is the same each time.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import dbapi
from nearsql.udfs.clustering.cluster_model import ClusterModel, find_model
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import euclidean, part
from nearsql.udfs.sql_files import read_sql

SHARE = 0.15
AT_MOST = 10_000
# Of fewer members, so few would be held out that their share says nothing.
AT_LEAST = 20
_SEED = 0

Ids = NDArray[np.int64]


def held_out_agreement(db: dbapi.Connection, run_id: int) -> dict[str, int | float]:
    """held_out and held_out_of, numbers of items; held_out_agreement and kept_agreement, shares.

    At level 1 of a clustering run. Nothing for a run of fewer than 20 members. Raises SqlFunctionError as `cluster_assign` does.
    """
    model, matrix = find_model(db.apsw, run_id)
    ids = model.members.ids
    if len(ids) < AT_LEAST:
        return {}
    (parameters,) = db.execute(
        "select parameters_json from runs where id = ?", (run_id,)
    ).fetchone()
    settings = {"selection": "eom", "epsilon": 0.0, **json.loads(parameters)}
    settings["space"] = matrix.space.name
    sample, is_held = chosen(ids)
    if len(sample) == len(ids):
        rows = db.execute(read_sql(__package__, "labels_of_members"), (run_id,)).fetchall()
    else:
        rows = _clustered(db, settings, sample)
    together = np.array([row[1] for row in rows], np.int64)
    held, kept = sample[is_held], sample[~is_held]
    smaller = _model(matrix, kept, settings, _clustered(db, settings, kept))
    assigned, _ = smaller.assign(part(matrix, held).vectors)
    names = names_of(smaller.labels, together[~is_held])
    same = names[assigned] == together[is_held]
    same_kept = names[smaller.labels] == together[~is_held]
    return {
        "held_out": len(held),
        "held_out_of": len(sample),
        "held_out_agreement": round(float(same.mean()), 4),
        "kept_agreement": round(float(same_kept.mean()), 4),
    }


def chosen(ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
    """Those of a run's members, at least 20, that are looked at, (n,) ascending, and which of them are held out."""
    rng = np.random.default_rng(_SEED)
    sample = np.sort(rng.choice(ids, min(len(ids), AT_MOST), replace=False))
    is_held = np.zeros(len(sample), bool)
    is_held[rng.choice(len(sample), round(SHARE * len(sample)), replace=False)] = True
    return sample, is_held


def names_of(labels: Ids, together: Ids) -> Ids:
    """What each label of one clustering is called in the other; the last, -1, is noise in both.

    labels, together: of the items in both. A cluster is called what most of its items are in the other; of
    several names the least.
    """
    names = np.full(labels.max() + 2, -1)
    for label in range(labels.max() + 1):
        found, counts = np.unique(together[labels == label], return_counts=True)
        names[label] = found[np.argmax(counts)]
    return names


def _clustered(db: dbapi.Connection, settings: dict[str, Any], ids: Ids) -> list[Any]:
    within = json.dumps(ids.tolist())
    return db.execute(
        read_sql(__package__, "hdbscan_of_items"), {**settings, "within": within}
    ).fetchall()


def _model(matrix: Matrix, ids: Ids, settings: dict[str, Any], rows: list[Any]) -> ClusterModel:
    _, labels, core_distances, births, max_lambdas = zip(*rows, strict=True)
    return ClusterModel(
        euclidean(part(matrix, ids)),
        np.array(core_distances, np.float64),
        np.array(labels, np.int64),
        np.array(births, np.float64),  # None becomes NaN
        np.array(max_lambdas, np.float64),
        min(settings["min_samples"], len(ids) - 1),
        matrix.space.metric == "cosine",
    )
