"""Work done ahead in threads, results in order, with a bound on how much waits."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


def map_ahead(
    function: Callable[[Input], Output], inputs: Iterable[Input], *, ahead: int | None = None
) -> Iterator[Output]:
    """function(x) for each x, in the order of the inputs, computed in threads while the caller works.

    At most `ahead` inputs are taken before their results are asked for (default: four a thread), so
    memory stays bounded however long the inputs are. An exception of the function is raised where its
    result would have come. Worth it for functions that release the GIL: hashing, decoding images.
    """
    workers = min(8, os.cpu_count() or 1)
    limit = ahead or 4 * workers
    waiting: deque[Future[Output]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="nearsql-ahead")
    try:
        for value in inputs:
            if len(waiting) >= limit:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, value))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
