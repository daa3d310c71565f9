"""Maps in SQL: project, project_place, project_places."""

from collections.abc import Iterator
from functools import partial

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import number, one_of, random_seed, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.map_model import find_map
from nearsql.udfs.projection import METHODS, Coordinates, Method, Projection, Settings
from nearsql.udfs.projection import project as project_points
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.stored_graph import known_graph
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import find_space
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
) -> Iterator[Row]:
    """A map of a space: two coordinates for each item, and all n_components of them as a vector.

    method: 'umap' (n_neighbors, min_dist), 'tsne' (perplexity; 2 components only) or 'pca'. UMAP and
    t-SNE start from the exact neighbours in the space's metric; they are read where `nearsql neighbors`
    has stored as many (n_neighbors - 1; 3 * perplexity), and the map is the same. The same random_state,
    on the same machine, gives the same bytes; NULL takes all threads, and gives another map each time.
    within limits the map to the items of a SELECT, of a
    JSON array of ids, or of a selection, by its name.

    On few items, n_neighbors is lowered to their number less 1, and perplexity to a third of that.
    A time limit acts while neighbours are searched and during t-SNE, not within UMAP's own steps.
    """
    settings = checked_settings(
        method, n_components, n_neighbors, min_dist, perplexity, random_state
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
    return matrix.ids, project_points(matrix, settings, Poll(db), partial(known_graph, db))


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
    )
