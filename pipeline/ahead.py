"""Work done ahead in threads, results in order, with a bound on how much waits."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


class _Task:
    """One input, and the queue on which its result, or its exception, will come."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.answer: SimpleQueue[tuple[object, BaseException | None]] = SimpleQueue()


def map_ahead(
    function: Callable[[Input], Output], inputs: Iterable[Input], *, ahead: int | None = None
) -> Iterator[Output]:
    """function(x) for each x, in the order of the inputs, computed in threads while the caller works.

    At most `ahead` inputs are taken before their results are asked for (default: four a thread), so
    memory stays bounded however long the inputs are. An exception of the function is raised where its
    result would have come. Worth it for functions that release the GIL: hashing, decoding images.

    Not concurrent.futures: a Ctrl-C that arrives while Future.result() takes its lock leaves it locked
    (bpo-29988), and the pool then waits for ever. SimpleQueue is C, and has no such moment.
    """
    workers = min(8, os.cpu_count() or 1)
    limit = ahead or 4 * workers
    tasks: SimpleQueue[_Task | None] = SimpleQueue()
    is_over = False

    def work() -> None:
        while (task := tasks.get()) is not None:
            if is_over:
                continue
            try:
                task.answer.put((function(task.value), None))  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                task.answer.put((None, error))

    def result(task: _Task) -> Output:
        value, error = task.answer.get()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    threads = [
        threading.Thread(target=work, name=f"nearsql-ahead-{number}", daemon=True)
        for number in range(workers)
    ]
    waiting: deque[_Task] = deque()
    try:
        for thread in threads:
            thread.start()
        for value in inputs:
            if len(waiting) >= limit:
                yield result(waiting.popleft())
            waiting.append(task := _Task(value))
            tasks.put(task)
        while waiting:
            yield result(waiting.popleft())
    finally:
        # Not joined: each ends after the item it is at, and holds nothing that anybody waits for.
        is_over = True
        for _ in threads:
            tasks.put(None)
