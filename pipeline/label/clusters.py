"""The clusters of a run that are to be named, and which of their members are read and which held out.

Some members of each cluster are kept out of whatever makes its name. Mixed with as many of the clusters
most like it, they then show whether the name tells its members from others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi

Ids = npt.NDArray[np.int64]

# A cluster keeps at least this many members to be named by, for each that is held out.
_READ_FOR_EACH_HELD_OUT = 3

# Others to judge a name by are drawn from so many for each held-out member.
_POOL_FOR_EACH_HELD_OUT = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """One row of `clusters`. Clusters of one level and parent are beside each other."""

    id: int
    level: int
    label: int
    parent_id: int | None
    size: int
    exemplar: int | None

    def __str__(self) -> str:
        return f"cluster {self.label} of level {self.level}"


@dataclass(frozen=True, slots=True)
class Members:
    """Which members of a cluster are read for its name, ascending, and which are held out, as drawn.

    surest: those read, the exemplar first, then by falling probability.
    """

    read: Ids
    surest: Ids
    held_out: Ids


@dataclass(frozen=True, slots=True)
class Mix:
    """Held-out members of a cluster and as many held-out members of others, in the order to be judged.

    Without any there is a reason.
    """

    items: tuple[int, ...]
    members: frozenset[int]
    reason: str | None = None


def clusters_of_run(
    db: dbapi.Connection, run_id: int, level: int | None, min_size: int
) -> list[list[Cluster]]:
    """The clusters, level by level from the coarsest, the largest first.

    level: only this one. Raises LookupError when there is no such run, UserError when it has no such
    level, or no cluster of min_size members.
    """
    row = db.execute("select kind, status from runs where id = ?", (run_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run_id} in this database: see `nearsql runs`")
    kind, status = row
    if status != "finished":
        raise UserError(f"run {run_id} is {status}: clusters of finished runs can be named")
    rows = db.execute(
        "select id, level, label, parent_id, size, exemplar_item_id from clusters where run_id = ?"
        " order by level, size desc, label",
        (run_id,),
    ).fetchall()
    if not rows:
        raise UserError(f"run {run_id} ({kind}) has no clusters: name a run of `nearsql cluster`")
    found = [Cluster(*row) for row in rows]
    there_are = sorted({cluster.level for cluster in found})
    if level is not None and level not in there_are:
        raise UserError(
            f"run {run_id} has no level {level}: its levels are {', '.join(map(str, there_are))}"
        )
    largest = max(cluster.size for cluster in found if level in (None, cluster.level))
    if largest < min_size:
        raise UserError(
            f"no cluster has {min_size:,} members: the largest has {largest:,}, so ask for less with"
            " --min-size"
        )
    return [
        [cluster for cluster in found if cluster.level == each]
        for each in there_are
        if level in (None, each)
    ]


def draw_members(
    db: dbapi.Connection, cluster: Cluster, seed: int, read: int, held_out: int
) -> Members:
    """Draws at most `read` members to be read and `held_out` others; the exemplar is always read.

    Members that were assigned afterwards (is_assigned) are left alone: the cluster was found without
    them. At most a quarter of the members are held out.
    """
    rows = db.execute(
        "select item_id, probability from memberships where cluster_id = ? and is_assigned = 0"
        " order by item_id",
        (cluster.id,),
    ).fetchall()
    if not rows:
        raise UserError(f"{cluster} has no members any more: cluster again")
    ids = np.array([item for item, _ in rows], np.int64)
    probabilities = np.array([-1.0 if p is None else p for _, p in rows], np.float64)
    order = np.random.default_rng([seed, cluster.level, cluster.label]).permutation(len(ids))
    exemplar = np.flatnonzero(ids == cluster.exemplar)
    order = np.concatenate([exemplar, order[ids[order] != cluster.exemplar]]).astype(np.int64)
    kept_back = min(held_out, len(ids) // (_READ_FOR_EACH_HELD_OUT + 1))
    chosen = order[: min(read, len(ids) - kept_back)]
    behind = np.lexsort((ids[chosen], -probabilities[chosen], ids[chosen] != cluster.exemplar))
    return Members(
        read=np.sort(ids[chosen]),
        surest=ids[chosen][behind],
        held_out=ids[order[len(ids) - kept_back :]],
    )


def beside(clusters: Sequence[Cluster], place: int) -> list[int]:
    """The places of the other clusters with the parent of this one; where it is alone, all others."""
    others = [i for i in range(len(clusters)) if i != place]
    siblings = [i for i in others if clusters[i].parent_id == clusters[place].parent_id]
    return siblings or others


def mix_held_out(cluster: Cluster, members: Members, others: Sequence[Members], seed: int) -> Mix:
    """The items to judge a cluster's name by: half of them are its own held-out members.

    others: of the clusters it has to be told from, those most like it first. The other half is drawn from
    what the first few of them hold out: members of clusters that nobody would take for this one would
    prove nothing.
    """
    own = members.held_out
    pool = np.empty(0, np.int64)
    for other in others:
        if len(pool) >= _POOL_FOR_EACH_HELD_OUT * len(own):
            break
        pool = np.concatenate([pool, other.held_out])
    each = min(len(own), len(pool))
    if each == 0:
        return Mix((), frozenset(), _why_none(members, others))
    rng = np.random.default_rng([seed, cluster.level, cluster.label, 1])
    items = np.concatenate([own[:each], rng.choice(np.sort(pool), each, replace=False)])
    return Mix(tuple(rng.permutation(items).tolist()), frozenset(own[:each].tolist()))


def _why_none(members: Members, others: Sequence[Members]) -> str:
    if not others:
        return "there is no other cluster to tell it from"
    if len(members.held_out) == 0:
        return f"none of its {len(members.read):,} members that were read could be held out"
    return "no member of the clusters beside it is held out"
