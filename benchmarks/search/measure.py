"""Times: of calls that take turns, so that a busy moment of the machine hits all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import faiss
import threadpoolctl

Call = Callable[[], object]

# A call that took so long in all takes no further turns, once it had two.
PATIENCE_S = 15.0
# Waited before each call: the helper threads of a BLAS, where it has any, spin for a while after its last
# product, on a core that the next call would be measured without.
REST_S = 0.15


@dataclass(frozen=True)
class Figure:
    """One number that was measured. Of times, the least of some rounds, with how they spread."""

    name: str
    value: float
    unit: str = "s"
    median: float | None = None
    worst: float | None = None
    rounds: int = 1
    note: str = ""
    # What belongs to it: recall, effort, bytes, ...
    also: dict[str, float] = field(default_factory=dict)


def seconds(call: Call) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def of_rounds(name: str, times: list[float], note: str = "") -> Figure:
    """A figure from the seconds of several rounds."""
    return Figure(
        name,
        min(times),
        median=statistics.median(times),
        worst=max(times),
        rounds=len(times),
        note=note,
    )


def times_as_much(figure: Figure, factor: float, note: str = "") -> Figure:
    """The figure, its spread included, times a factor: of a part for the whole, or the reverse."""
    median = None if figure.median is None else figure.median * factor
    worst = None if figure.worst is None else figure.worst * factor
    return replace(
        figure, value=figure.value * factor, median=median, worst=worst, note=note or figure.note
    )


def in_turns(calls: Mapping[str, Call], rounds: int, *, warm: bool = True) -> dict[str, Figure]:
    """The figure of each call, by name, from so many rounds in which the calls take turns.

    warm: once before, not counted, so that what is computed once is there.
    """
    if warm:
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    rest = REST_S if has_helpers() else 0.0
    for _ in range(rounds):
        for name, call in calls.items():
            if len(times[name]) < 2 or sum(times[name]) < PATIENCE_S:
                time.sleep(rest)
                times[name].append(seconds(call))
    return {name: of_rounds(name, found) for name, found in times.items()}


def has_helpers() -> bool:
    """Whether numpy's or faiss's computations take further threads than the one that asks for them."""
    return any(pool["num_threads"] > 1 for pool in threadpoolctl.threadpool_info())


def least(name: str, figures: list[Figure]) -> Figure:
    """The smallest of some figures under another name, with the name that it had as its note."""
    found = min(figures, key=lambda one: one.value)
    return replace(found, name=name, note=found.name)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets numpy's and faiss's computations take so many threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        with threadpoolctl.threadpool_limits(count):
            yield
    finally:
        faiss.omp_set_num_threads(before)
