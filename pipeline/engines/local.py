"""The engine that is always there: this process, which reads ahead in threads."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.engines import Besides, Facts, Task, Work
from nearsql.pipeline.runs import Run


class LocalEngine:
    """Work in this process."""

    is_here = True

    @contextmanager
    def workers(self, task: Task) -> Iterator["LocalWorkers"]:
        """The task, loaded here."""
        yield LocalWorkers(task.load())


class LocalWorkers:
    """One worker: this process. The time it waits for inputs is added to the work's own `timings`."""

    def __init__(self, work: Work) -> None:
        self.work = work

    @property
    def facts(self) -> Facts:
        return self.work.facts

    @property
    def timings(self) -> dict[str, float]:
        return self.work.timings

    def map(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        *,
        besides: Besides | None = None,
        ahead: int | None = None,
    ) -> Iterator[Any]:
        """As `Workers.map`; inputs are prepared ahead in threads."""
        work = self.work
        prepared = map_ahead(lambda value: (value, work.prepare(value)), inputs, ahead=ahead)
        while True:
            started = time.perf_counter()
            batch = list(islice(prepared, batch_size))
            waited = (time.perf_counter() - started) * 1000
            work.timings["wait"] = work.timings.get("wait", 0.0) + waited
            if not batch:
                return
            more = besides([value for value, _ in batch]) if besides else None
            yield work([ready for _, ready in batch], more)

    def record(self, run: Run) -> None:
        """Nothing: who ran it is recorded by itself."""
