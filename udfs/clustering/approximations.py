"""What a clustering took approximately, for who records it. Imports nothing heavy."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# What the parameter `neighbors` of a clustering may be.
NEIGHBORS = ("auto", "exact", "graph")
# 'auto' takes all pairs of so many points, and a neighbour graph of more.
EXACT_UP_TO = 30_000


@dataclass(frozen=True, slots=True)
class Approximation:
    """How a spanning tree was made from a neighbour graph, and how good it is.

    recall: of the k nearest neighbours of sampled points, the share that the graph has. agreement: the
    adjusted Rand index of a sample of the points clustered in both ways, noise counted as one more
    cluster. Samples are drawn from a seed, so that both are the same each time.
    """

    n: int
    k: int
    recall: float
    agreement: float


def is_graph(neighbors: str, n: int) -> bool:
    """Whether n points are clustered from a neighbour graph, and not exactly."""
    return neighbors == "graph" or (neighbors == "auto" and n > EXACT_UP_TO)


_noted: ContextVar[list[Approximation] | None] = ContextVar("approximations", default=None)


@contextmanager
def noting_approximations() -> Iterator[list[Approximation]]:
    """Fills the list with what is approximated within the block: empty means that all was exact.

    with noting_approximations() as approximations:
        rows = db.execute("select * from hdbscan('s')").fetchall()
    """
    noted: list[Approximation] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note(approximation: Approximation) -> None:
    """Tells the innermost `noting_approximations`, if there is one."""
    noted = _noted.get()
    if noted is not None:
        noted.append(approximation)
