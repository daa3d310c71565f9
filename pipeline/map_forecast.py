"""How long a map will take and how much memory: told before it starts.

Products of vectors are timed on the spot. What a method itself takes was measured on Fashion-MNIST, 4,000 to
70,000 images, by one core: UMAP by points and epochs, t-SNE by points.
"""

from typing import Any

from nearsql.pipeline.cluster.forecast import (
    SECONDS_WORTH_SAYING,
    products_of_graph,
    seconds_a_product,
)
from nearsql.pipeline.console import say
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.udfs import dbapi
from nearsql.udfs.search.stored_graph import graph_run
from nearsql.udfs.search.workers import worker_count
from nearsql.udfs.spaces import find_space

_SECONDS_A_POINT_AND_EPOCH = 3e-6  # umap, 15 neighbours
# umap-learn's own: fewer epochs for many points.
_EPOCHS, _EPOCHS_OF_MANY, _MANY = 500, 200, 10_000
_SECONDS_A_POINT_OF_TSNE = 5e-3  # perplexity 30
# How much of each further thread counts.
_OF_ALL_THREADS = 0.7
# All against all is multiplied half a time for true neighbours.
_TRUE_NEIGHBORS = 0.5
_BYTES_A_NEIGHBOR = 64  # in lists, and in the method's own graphs
_BYTES_A_NUMBER = 4


def tell(db: dbapi.Connection, space: str, n: int, parameters: dict[str, Any], needed: int) -> None:
    """Says for long work how many items it will be, the time and the memory.

    parameters: those that the run will record. needed: neighbours of each item that the method starts from.
    """
    found = find_space(db.apsw, space)
    products = 0.0
    if parameters.get("neighbors") == "graph":
        products = products_of_graph(n)
    elif needed and (parameters["within"] is not None or not graph_run(db.apsw, found, needed)):
        products = _TRUE_NEIGHBORS * n**2
    seconds = layout_seconds(n, parameters)
    if products:
        seconds += products * seconds_a_product(found.dimensions)
    if seconds < SECONDS_WORTH_SAYING:
        return
    copies = 1 + (found.metric == "cosine")
    memory = n * (copies * _BYTES_A_NUMBER * found.dimensions + needed * _BYTES_A_NEIGHBOR)
    say(
        f"{space}: {n:,} items, about {duration_in_words(seconds)} and"
        f" {size_in_words(memory)} of memory"
    )


def layout_seconds(n: int, parameters: dict[str, Any]) -> float:
    """What the method takes, its neighbours found already."""
    method = parameters["method"]
    if method == "pca":
        return 0.0
    seconds = _SECONDS_A_POINT_OF_TSNE * n
    if method == "umap":
        epochs = _EPOCHS if n <= _MANY else _EPOCHS_OF_MANY
        seconds = _SECONDS_A_POINT_AND_EPOCH * n * epochs * parameters["n_neighbors"] / 15
    threads = worker_count() if parameters["random_state"] is None else 1
    return seconds / (1 if threads == 1 else _OF_ALL_THREADS * threads)
