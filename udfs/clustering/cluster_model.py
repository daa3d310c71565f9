"""Which cluster of a finished run a new vector belongs to.

The rule is HDBSCAN's own, asked of one point more: the vector hangs on the member to which its mutual
reachability distance is least, and belongs to that member's cluster if they would have met before the
cluster split off from its parent. Members are never moved, and no cluster is invented.
"""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.member_bounds import MemberBounds
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.run_members import finished_run, members_of_run
from nearsql.udfs.search.exact_distances import exact_distances
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.space_points import euclidean, normalized
from nearsql.udfs.spaces import Space, find_space

# Runs have one flat clustering at this level; those with more are joined at the coarsest.
LEVEL = 1
# Members looked at first, beyond those that the core distance needs.
_SPARE = 16
# Members whose distances are decided at a time, the likeliest first.
_DECIDED = 64


@dataclass(eq=False)
class ClusterModel:
    """The members of a run, in Euclidean geometry, with what the rule needs of each."""

    members: Matrix  # metric l2, ids ascending
    core_distances: NDArray[np.float64]  # (n,)
    labels: NDArray[np.int64]  # (n,), -1 is noise
    birth_lambdas: NDArray[np.float64]  # (n,), of the member's cluster, NaN for noise
    max_lambdas: NDArray[np.float64]  # (n,), likewise; all NaN for a run that did not record them
    min_samples: int
    is_cosine: bool

    @cached_property
    def bounds(self) -> MemberBounds:
        """How near each member may be to a vector."""
        return MemberBounds(self.members)

    def assign(
        self, vectors: NDArray[np.float32], poll: Callable[[], None] = lambda: None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The labels, (m,), -1 for noise, of vectors (m, d), and the distances they were joined at."""
        rows, distances = self.hang(vectors, poll)
        return self.labels_of(rows, distances), distances

    def hang(
        self, vectors: NDArray[np.float32], poll: Callable[[], None] = lambda: None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The rows, (m,), of the members that vectors (m, d) hang on, and their distances to those.

        Of members at the same mutual reachability distance the nearest is taken, then the lowest id.
        """
        queries = normalized(vectors) if self.is_cosine else vectors
        if len(queries) == 1:
            row, distance = self.hang_one(queries[0], poll)
            return np.array([row]), np.array([distance])
        return self.hang_by_search(queries, poll)

    def hang_by_search(
        self, queries: NDArray[np.float32], poll: Callable[[], None] = lambda: None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """As `hang`, of vectors in the members' geometry: by their nearest members, and ever more of them."""
        hanging_on = np.empty(len(queries), np.int64)
        distances = np.empty(len(queries))
        n = len(self.members.ids)
        unsure = np.arange(len(queries))
        k = min(n, self.min_samples + _SPARE)
        while len(unsure):
            ids, apart = nearest(self.members, queries[unsure], k, poll=poll)
            rows = np.searchsorted(self.members.ids, ids)
            core = apart[:, min(self.min_samples, n) - 1]
            reach = np.maximum(np.maximum(apart, core[:, None]), self.core_distances[rows])
            # They come by (distance, id), so that the first of the least is the one wanted.
            best = np.argmin(reach, axis=1)
            at = np.arange(len(unsure))
            row, distance = rows[at, best], reach[at, best]
            # A member that is not listed is at least as far as the last one that is.
            is_sure = (distance <= apart[:, -1]) | (k == n)
            hanging_on[unsure[is_sure]] = row[is_sure]
            distances[unsure[is_sure]] = distance[is_sure]
            unsure = unsure[~is_sure]
            k = min(n, 4 * k)
        return hanging_on, distances

    def hang_one(
        self, query: NDArray[np.float32], poll: Callable[[], None] = lambda: None
    ) -> tuple[int, float]:
        """As `hang`, of one vector (d,) in the members' geometry: by bounds of all distances."""
        lower, upper = self.bounds.of(query, poll)
        nth = min(self.min_samples, len(upper)) - 1
        near = np.flatnonzero(lower <= np.partition(upper, nth)[nth])
        apart = self._distances(query, near)
        core = np.partition(apart, nth)[nth]
        reach = np.maximum(np.maximum(apart, core), self.core_distances[near])
        best = self._least(near, apart, reach)
        # The others that may be reached as soon, by the least that this can take.
        np.maximum(lower, self.core_distances, out=lower)
        lower[near] = np.inf
        left = np.flatnonzero(lower <= best[0])
        left = left[np.argsort(lower[left], kind="stable")]
        while len(left) and lower[left[0]] <= best[0]:
            some, left = left[:_DECIDED], left[_DECIDED:]
            apart = self._distances(query, some)
            reach = np.maximum(np.maximum(apart, core), self.core_distances[some])
            best = min(best, self._least(some, apart, reach))
            poll()
        return best[2], best[0]

    def _distances(
        self, query: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        # In blocks: of a vector far away all members may be asked for.
        unused = np.zeros(1)  # squared norms, which are for cosine
        return exact_distances(
            self.members.vectors, rows[None, :], query[None, :], "l2", unused, unused
        )[0]

    @staticmethod
    def _least(
        rows: NDArray[np.int64], apart: NDArray[np.float64], reach: NDArray[np.float64]
    ) -> tuple[float, float, int]:
        """The least (reach, distance, row) of some rows."""
        first = np.lexsort((rows, apart, reach))[0]
        return float(reach[first]), float(apart[first]), int(rows[first])

    def labels_of(
        self, rows: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """The labels, (m,), of what hangs on these rows at these distances; -1 for noise."""
        with np.errstate(divide="ignore"):
            is_in = (self.labels[rows] >= 0) & ~(1.0 / distances < self.birth_lambdas[rows])
        return np.where(is_in, self.labels[rows], -1)

    def probabilities_of(
        self, rows: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """How surely what hangs on these rows at these distances belongs to their clusters, (m,).

        As the library's `approximate_predict` has it: lambda / the cluster's largest, at most 1; 0 for
        noise. NaN for a run that did not record the largest ones.
        """
        if (self.labels >= 0).any() and np.isnan(self.max_lambdas).all():
            return np.full(len(rows), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            lambdas, largest = 1.0 / distances, self.max_lambdas[rows]
            # Of duplicates, inf / inf, a member's is 1.
            shares = np.where(np.isinf(lambdas), 1.0, np.minimum(lambdas, largest) / largest)
        return np.where(self.labels_of(rows, distances) >= 0, shares, 0.0)


def find_model(db: apsw.Connection, run: int) -> tuple[ClusterModel, Matrix]:
    """The model of a clustering run, and the matrix of the space that it read.

    Raises SqlFunctionError when there is no such run, when it clustered nothing, or when its members'
    vectors are no longer those it clustered.
    """
    name, parameters, fingerprint = _clustering_run(db, run)
    space = find_space(db, name)
    matrix = load_matrix(db, space)
    with _lock:
        models = _models.setdefault(matrix, {})
        model = models.get(run)
        if model is not None and model[0] == fingerprint:
            return model[1], matrix
    made = _load(db, run, space, matrix, int(parameters["min_samples"]))
    with _lock:
        models[run] = (fingerprint, made)
    return made, matrix


# Models by the matrix they stand on: when the cache of matrices lets go of one, they go with it.
_models: weakref.WeakKeyDictionary[Matrix, dict[int, tuple[Any, ClusterModel]]] = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


def _clustering_run(db: apsw.Connection, run: int) -> tuple[str, dict[str, Any], Any]:
    """The name of the space a run read, its parameters, and what tells it from a later run of its id."""
    parameters, space, fingerprint = finished_run(
        db, run, "cluster", called="clustering runs", lacks="no clusters to belong to"
    )
    if space is None:
        if "space" not in parameters:
            raise SqlFunctionError(
                f"run {run} clustered stored distances, among which a vector has no place"
            )
        raise SqlFunctionError(f"the space that run {run} clustered is deleted")
    return space, parameters, fingerprint


_MEMBERS = """\
select m.item_id, m.core_distance, coalesce(c.label, -1), c.birth_lambda, c.max_lambda
from memberships m left join clusters c on c.id = m.cluster_id
where m.run_id = ? and m.level = ? and m.is_assigned = 0
order by m.item_id
"""


def _load(
    db: apsw.Connection, run: int, space: Space, matrix: Matrix, min_samples: int
) -> ClusterModel:
    rows = cast(Any, db.execute(_MEMBERS, (run, LEVEL)).fetchall())
    if len(rows) < 2:
        raise SqlFunctionError(f"run {run} has no members at level {LEVEL}: nothing to belong to")
    ids, core_distances, labels, birth_lambdas, max_lambdas = (
        list(column) for column in zip(*rows, strict=True)
    )
    if None in core_distances:
        raise SqlFunctionError(
            f"run {run} recorded no core distances: cluster again, with method hdbscan"
        )
    members = np.array(ids, np.int64)
    there = members_of_run(db, run, matrix, members, "cluster")
    # A copy that shares the arrays: `_models` must not hold on to its own keys.
    points = replace(euclidean(there))
    return ClusterModel(
        points,
        np.array(core_distances, np.float64),
        np.array(labels, np.int64),
        np.array(birth_lambdas, np.float64),  # None becomes NaN
        np.array(max_lambdas, np.float64),
        min(min_samples, len(members) - 1),
        space.metric == "cosine",
    )
