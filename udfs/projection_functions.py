"""Maps in SQL: project, project_place, project_places."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import number, one_of, random_seed, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.clustering.approximations import NEIGHBORS, is_graph
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.map_model import find_map
from nearsql.udfs.projection import METHODS, Coordinates, Method, Projection, Settings
from nearsql.udfs.projection import project as project_points
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.search.stored_graph import graph_run, known_graph
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import Space, find_space
from nearsql.udfs.sql_files import read_sql
from nearsql.udfs.vector_functions import parse_vector

Row = tuple[int, float, float, bytes]


@sql_function(
    columns=("id", "x", "y", "vector"),
    example="select id, round(x, 2) as x, round(y, 2) as y from project('digits/pixels', 'pca') limit 3",
)
def project(
    db: apsw.Connection,
    space: str,
    method: str = "umap",
    n_components: int = 2,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    perplexity: float = 30.0,
    random_state: int | None = 42,
    within: str | None = None,
    neighbors: str = "auto",
) -> Iterator[Row]:
    """A map of a space: two coordinates for each item, and all n_components of them as a vector.

    method: 'umap' (n_neighbors, min_dist), 'tsne' (perplexity; 2 components only) or 'pca'. UMAP and
    t-SNE start from the nearest neighbours in the space's metric; those that `nearsql neighbors` has
    stored are read, where there are enough (n_neighbors - 1; 3 * perplexity). The same random_state, on the
    same machine, gives the same bytes; NULL takes all threads, and gives another map each time. within
    limits the map to the items of a SELECT, of a JSON array of ids, or of a selection, by its name.

    neighbors: 'exact' are the true ones. 'graph' compares each item only with those in the lists nearest
    to it, enough to find about 95% of them, which takes far less time for many items; the map is as
    good. 'auto' is 'exact' for up to 30,000 items or where enough are stored, and 'graph' otherwise.

    On few items, n_neighbors is lowered to their number less 1, and perplexity to a third of that.
    A time limit acts while neighbours are searched and during t-SNE, not within UMAP's own steps.
    """
    settings = checked_settings(
        method, n_components, n_neighbors, min_dist, perplexity, random_state, neighbors
    )
    ids, found = projected(db, space, settings, within_argument.item_ids(db, within))
    yield from point_rows(ids, found.coordinates)


def projected(
    db: apsw.Connection, space: str, settings: Settings, items: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], Projection]:
    """The ids of a space's items, ascending, and where they lie; of some of its items, if given."""
    matrix = load_matrix(db, find_space(db, space))
    if items is not None:
        matrix = part(matrix, items)
    n = len(matrix.ids)
    poll = Poll(db)
    if decided_neighbors(db, matrix.space, settings, n, is_whole=items is None) != "graph":
        return matrix.ids, project_points(matrix, settings, poll, partial(known_graph, db))
    from nearsql.udfs.clustering.approximate_graph import approximate_neighbors  # imports numba

    recalls = []

    def graph(matrix: Matrix, k: int, *, poll: Callable[[], None]) -> tuple[Ids, Distances]:
        places, distances, recall = approximate_neighbors(matrix, k, poll)
        recalls.append(recall)
        return places, distances

    found = project_points(matrix, settings, poll, graph)
    return matrix.ids, replace(found, recall=recalls[0])


def decided_neighbors(
    db: apsw.Connection, space: Space, settings: Settings, n: int, *, is_whole: bool
) -> str | None:
    """'exact' or 'graph', as 'auto' is decided for n items; None for a method that needs none.

    is_whole: whether these are all of the space's items, of which a graph may be stored.
    """
    k = settings.neighbors_needed
    if k == 0:
        return None
    if not is_graph(settings.neighbors, n):
        return "exact"
    is_stored = is_whole and graph_run(db, space, k) is not None
    return "exact" if settings.neighbors == "auto" and is_stored else "graph"


def point_rows(ids: NDArray[np.int64], coordinates: Coordinates) -> Iterator[Row]:
    """Each item's id, first two coordinates, and all of them as a vector."""
    for item, point in zip(ids.tolist(), coordinates, strict=True):
        yield item, float(point[0]), float(point[1]), point.tobytes()


@sql_function(
    example="select vector_dimensions(project_place((select max(id) from runs where kind = 'project'),\n"
    "    vector_of('digits/pixels', 1))) as components",
)
def project_place(db: apsw.Connection, run: int, vector: bytes | str | None) -> bytes | None:
    """Where a new vector belongs on the map of a run: its coordinates, a vector. NULL for NULL.

    The vector is a BLOB or a JSON array. On a map by PCA its place is computed from the run's axes,
    exactly as those of the run's items. On one by UMAP or t-SNE it is the geometric median of its
    nearest items' places, weighted as the method weighs neighbours; a vector that equals an item's takes
    its place. For these, the run's items must still have the vectors that were mapped; others may have
    come since.
    """
    if vector is None:
        return None
    found = find_map(db, whole_number("run", run, at_least=1))
    query = parse_vector("vector", vector, found.run.space.dimensions)
    return found.place(query[None, :], Poll(db)).tobytes()


@sql_function(
    columns=("id", "x", "y", "vector"),
    example="select count(*) from project_places((select max(id) from runs where kind = 'project'))",
)
def project_places(db: apsw.Connection, run: int, within: str | None = None) -> Iterator[Row]:
    """`project_place` for all items of the run's space that the run did not see, in one call.

    Those that came later; with `within`, those of them that it names, as in `project`.
    x and y are the first two coordinates, vector all of them. `nearsql project FILE SPACE --into RUN`
    stores them with the run's own.
    """
    found = find_map(db, whole_number("run", run, at_least=1))
    matrix = load_matrix(db, found.run.space)
    subset = within_argument.item_ids(db, within)
    seen = [item for item, *_ in db.execute(read_sql(__package__, "map_members"), {"run": run})]
    others = np.setdiff1d(matrix.ids if subset is None else subset, np.array(seen, np.int64))
    rows = matrix.positions(others)
    poll = Poll(db)
    for start in range(0, len(rows), QUERY_BLOCK):
        block = rows[start : start + QUERY_BLOCK]
        yield from point_rows(matrix.ids[block], found.place(matrix.vectors[block], poll))


def checked_settings(
    method: str,
    n_components: int,
    n_neighbors: int,
    min_dist: float,
    perplexity: float,
    random_state: int | None,
    neighbors: str,
) -> Settings:
    """The arguments as settings; raises SqlFunctionError for the first that cannot be."""
    seed = None if random_state is None else random_seed("random_state", random_state)
    near = number("min_dist", min_dist, at_least=0.0)
    if near > 1.0:  # UMAP's spread, which it must not exceed
        raise SqlFunctionError(f"min_dist must be at most 1, not {near}")
    known: Method = METHODS[METHODS.index(one_of("method", method, METHODS))]
    return Settings(
        known,
        whole_number("n_components", n_components, at_least=2),
        whole_number("n_neighbors", n_neighbors, at_least=2),
        near,
        number("perplexity", perplexity, at_least=1.0),
        seed,
        one_of("neighbors", neighbors, NEIGHBORS),
    )
