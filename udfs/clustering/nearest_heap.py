"""A list of the nearest so far: a heap, its farthest first."""

from typing import Any

from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def replace_farthest(heap: NDArray[Any], places: NDArray[Any], value: float, place: int) -> None:
    """Puts (value, place) into the heap instead of its farthest, which must be farther.

    heap, places: (k,), by value the largest first; both change.
    """
    k = len(heap)
    at = 0
    while True:
        child = 2 * at + 1
        if child >= k:
            break
        if child + 1 < k and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= value:
            break
        heap[at] = heap[child]
        places[at] = places[child]
        at = child
    heap[at] = value
    places[at] = place
