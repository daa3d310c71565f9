"""`--group-by`: which items belong together, so that none of them may vote for another."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi
from nearsql.udfs.findings.duplicates import NEIGHBORS
from nearsql.udfs.findings.duplicates import duplicate_groups as near_groups
from nearsql.udfs.findings.thresholds import near_threshold
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.stored_graph import known_graph
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import find_space

Ids = NDArray[np.int64]

DUPLICATES = "duplicates"
# Columns of items that say what belongs together.
COLUMNS = ("collection", "kind", "sha256", "uri", "width", "height", "run_id")


def groups_by(db: dbapi.Connection, group_by: str, items: Ids) -> list[str | None]:
    """The group of each item, (n,); None for an item without one, which is one by itself.

    group_by: a column of items, `label:NAME` or `metadata:KEY`. Raises UserError for another, and where
    no item has a group.
    """
    kind, _, name = group_by.partition(":")
    arguments: tuple[Any, ...] = ()
    if kind == "label" and name:
        sql = "select item_id, value from item_labels where name = ?"
        arguments = (name,)
    elif kind == "metadata" and name:
        sql = "select i.id, m.value from items i, json_each(i.metadata_json) m where m.key = ?"
        arguments = (name,)
    elif group_by in COLUMNS:
        sql = f"select id, {group_by} from items"
    else:
        raise UserError(
            f"--group-by must be {DUPLICATES}, {', '.join(COLUMNS)}, label:NAME or metadata:KEY,"
            f" not {group_by!r}"
        )
    found = dict(db.execute(sql, arguments).fetchall())
    groups = [found.get(item) for item in items.tolist()]
    if all(group is None for group in groups):
        raise UserError(f"--group-by {group_by}: no item that can be judged has one")
    return [None if group is None else str(group) for group in groups]


def duplicate_groups(
    db: dbapi.Connection,
    spaces: Sequence[str],
    items: Ids,
    thresholds: dict[str, float] | None = None,
    poll: Callable[[], None] | None = None,
) -> tuple[list[str | None], dict[str, float]]:
    """(the group of each item, (n,), the threshold of each space).

    Items are together when they are near-duplicates in any of the spaces, or linked by others that are.
    A group is named by its first item; an item without duplicates has none. thresholds: chosen from each
    space's distances (see `near_threshold`) unless given.
    """
    n = len(items)
    own = np.arange(n)
    links, chosen = [own], {}
    for name in spaces:
        matrix = part(load_matrix(db.apsw, find_space(db.apsw, name)), items)
        graph = known_graph(db.apsw, matrix, NEIGHBORS, poll=poll)
        nearest = graph[1][:, 0] if graph[1].shape[1] else np.empty(0)
        chosen[name] = near_threshold(nearest) if thresholds is None else thresholds[name]
        links.append(near_groups(matrix, chosen[name], poll, graph=graph))
    ends = np.concatenate(links)
    pairs = coo_array((np.ones(len(ends)), (ends, np.tile(own, len(links)))), shape=(n, n))
    _, component = connected_components(pairs, directed=False)
    _, first, which, counts = np.unique(
        component, return_index=True, return_inverse=True, return_counts=True
    )
    names = [str(item) for item in items[first[which]].tolist()]
    is_alone = (counts[which] == 1).tolist()
    return [None if alone else name for name, alone in zip(names, is_alone, strict=True)], chosen
