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
    """How a spanning tree of n points was made from a neighbour graph, and how good it is.

    k: neighbours of a point in the graph. probes: lists of points that each was compared with. recall: of
    the k nearest neighbours of 512 sampled points, the share that the graph has. agreement: the adjusted
    Rand index of a sample of at most 10,000 points clustered exactly and from a graph, noise counted as one
    more cluster. Samples are drawn from a seed, so that these are the same each time.

    components: parts that knew of no edge to another, and were joined by looking for one: 1 when there
    was nothing to join. are_joins_exact: whether those joins are the lightest edges there are; else they
    are the lightest in the pairs of lists nearest to each other.
    """

    n: int
    k: int
    probes: int
    recall: float
    agreement: float
    components: int
    are_joins_exact: bool


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
