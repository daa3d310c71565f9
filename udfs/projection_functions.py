"""Maps in SQL: project."""

from collections.abc import Iterator
from functools import partial

import apsw

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import number, one_of, random_seed, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.projection import METHODS, Method, Settings
from nearsql.udfs.projection import project as project_points
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.stored_graph import known_graph
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import find_space


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
    random_state: int = 42,
    within: str | None = None,
) -> Iterator[tuple[int, float, float, bytes]]:
    """A map of a space: two coordinates for each item, and all n_components of them as a vector.

    method: 'umap' (n_neighbors, min_dist), 'tsne' (perplexity; 2 components only) or 'pca'. UMAP and
    t-SNE start from the exact neighbours in the space's metric; they are read where `nearsql neighbors`
    has stored as many (n_neighbors - 1; 3 * perplexity), and the map is the same. The same random_state,
    on the same machine, gives the same bytes. within limits the map to the items of a SELECT, or of a
    JSON array of ids.

    On few items, n_neighbors is lowered to their number less 1, and perplexity to a third of that.
    A time limit acts while neighbours are searched and during t-SNE, not within UMAP's own steps.
    """
    settings = checked_settings(
        method, n_components, n_neighbors, min_dist, perplexity, random_state
    )
    matrix = load_matrix(db, find_space(db, space))
    ids = within_argument.item_ids(db, within)
    if ids is not None:
        matrix = part(matrix, ids)
    coordinates = project_points(matrix, settings, Poll(db), partial(known_graph, db))
    for item, point in zip(matrix.ids.tolist(), coordinates, strict=True):
        yield item, float(point[0]), float(point[1]), point.tobytes()


def checked_settings(
    method: str,
    n_components: int,
    n_neighbors: int,
    min_dist: float,
    perplexity: float,
    random_state: int,
) -> Settings:
    """The arguments as settings; raises SqlFunctionError for the first that cannot be."""
    seed = random_seed("random_state", random_state)
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
