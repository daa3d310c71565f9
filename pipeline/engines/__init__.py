"""Engines: where the heavy part of a pipeline is computed. Here, or by the workers of a Ray cluster.

    with engine.workers(task) as workers:
        for result in workers.map(inputs, batch_size):
            write(result)               # in this process, which alone reads and writes the database

A `Task` says how to load what works, and its `Work` makes a result of each batch. Whatever the engine,
batches are the same, and results come in the order of their inputs: so do the rows that are made of them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from nearsql.pipeline.runs import Run

__all__ = ["Besides", "Engine", "Facts", "Task", "Work", "Workers"]

# What a batch needs from the database besides its inputs, read by the process that has it open.
Besides = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run has to know of the work that was loaded. Workers that differ in more than `device` are refused.

    device: what it computes on, in words. computation: what the result depends on besides the model, as
    JSON values.
    """

    device: str = "cpu"
    computation: Mapping[str, Any] = field(default_factory=dict)


class Work(Protocol):
    """Something loaded that makes results of batches. Holds no database."""

    timings: dict[str, float]  # milliseconds, by step

    @property
    def facts(self) -> Facts:
        """What its run has to know of it."""

    def prepare(self, value: Any) -> Any:
        """One input made ready for a batch; called in several threads at once."""

    def __call__(self, batch: Sequence[Any], besides: Any) -> Any:
        """The result of a batch of what `prepare` gave; in one thread at a time."""


class Task(Protocol):
    """How to load the work, in whichever process: plain values that can be sent there."""

    @property
    def device(self) -> str:
        """As it was asked for: auto, cpu, cuda, mps."""

    def load(self) -> Work:
        """Raises UserError where it cannot be loaded."""


class Workers(Protocol):
    """Loaded work, in one place or in many."""

    @property
    def facts(self) -> Facts:
        """Of all of them."""

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds that the caller spent, by step."""

    def map(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        *,
        besides: Besides | None = None,
        ahead: int | None = None,
    ) -> Iterator[Any]:
        """The result of each batch of `batch_size` inputs, in order.

        Inputs are taken, and besides(batch) is called, in the caller's thread, when there is room: at most
        so many batches are on their way. ahead: inputs prepared ahead, where that is this process's matter.
        Raises what the work raises.
        """

    def record(self, run: Run) -> None:
        """Puts on the run's record by whom it was computed: its end, when all is written."""


class Engine(Protocol):
    """Where work is done. is_here: in this process."""

    is_here: bool

    def workers(self, task: Task) -> AbstractContextManager[Workers]:
        """The task loaded, until the block ends. Raises UserError where that cannot be."""
