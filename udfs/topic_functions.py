"""Topics in SQL: topics."""

from collections.abc import Iterator
from functools import partial

import apsw

from nearsql.udfs.arguments import number, random_seed, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.clustering.topics import TopicSettings
from nearsql.udfs.clustering.topics import topics as find_topics
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.stored_graph import known_graph
from nearsql.udfs.space_sample import sample_of
from nearsql.udfs.spaces import find_space

Row = tuple[int, int, int | None, int | None, int | None, float, float | None]


@sql_function(
    columns=("id", "level", "cluster", "parent_level", "parent", "probability", "persistence"),
    # What every CPU shows alike: EVoC's numbers of clusters differ a little from one to the next.
    example="select level, count(*) as items, count(parent) > 0 as has_parents\n"
    "from topics('digits/pixels') where level <= 2 group by level",
)
def topics(
    db: apsw.Connection,
    space: str,
    min_cluster_size: int = 5,
    min_samples: int = 5,
    downsample: int = 1,
    within: str | None = None,
    n_neighbors: int = 15,
    noise_level: float = 0.5,
    random_state: int = 42,
) -> Iterator[Row]:
    """The topics of a space at several levels, 1 the coarsest: EVoC's layers. Noise has cluster NULL.

    A row is an item at a level; cluster is unique within the level. Its parent is the cluster around it
    one level above or, where its items are noise there, at the nearest level where they are not; both
    columns are NULL when there is none. probability is EVoC's membership strength, 0 for noise.
    persistence, one for each level, says over how many minimum sizes its clusters last: among the levels
    of a run, the largest is EVoC's own choice. It is NULL for the finest level, which is always there.

    The parameters are EVoC's: min_cluster_size, the fewest items of a cluster of the finest level;
    min_samples; n_neighbors, the item itself counted; noise_level, from 0 (cluster more) to 1 (call more
    noise). The same random_state, on the same machine, gives the same rows. downsample and within are
    those of `hdbscan`.

    Topics start from the exact neighbours in the space's metric, which are read where `nearsql neighbors`
    has stored as many (n_neighbors - 1). Items of the same vector are taken as one, and get the same
    cluster. Where no two clusters are found, one level says that all is noise. A time limit acts between
    EVoC's steps.
    """
    share = number("noise_level", noise_level, at_least=0.0)
    if share > 1.0:
        raise SqlFunctionError(f"noise_level must be at most 1, not {share}")
    settings = TopicSettings(
        whole_number("min_cluster_size", min_cluster_size, at_least=2),
        whole_number("min_samples", min_samples, at_least=1),
        whole_number("n_neighbors", n_neighbors, at_least=2),
        share,
        random_seed("random_state", random_state),
    )
    matrix = sample_of(db, find_space(db, space), downsample, within)
    ids = matrix.ids.tolist()
    poll = Poll(db)
    levels = find_topics(matrix, settings, poll, partial(known_graph, db))
    for level, found in enumerate(levels, start=1):
        poll()
        parents = [
            (above, label) if above else (None, None) for above, label in found.parents.tolist()
        ]
        for item, label, probability in zip(
            ids, found.labels.tolist(), found.probabilities.tolist(), strict=True
        ):
            if label < 0:
                yield item, level, None, None, None, probability, found.persistence
            else:
                yield item, level, label, *parents[label], probability, found.persistence
