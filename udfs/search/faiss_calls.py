"""Calls of faiss: imported late, with the settings that suit each batch, in as many threads as it uses."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

# Work on so many numbers is worth several threads.
MANY_NUMBERS = 1 << 22


def faiss_module() -> Any:
    """The faiss module, imported when first needed: it takes longer than opening a database."""
    import faiss

    return faiss


_settings = threading.Lock()


@contextmanager
def matrix_multiplication() -> Iterator[None]:
    """Makes faiss use matrix multiplication for a batch of any size.

    By itself it does so only from queries x dimensions >= 128,000 on, and for 4 to 166 queries of 768
    dimensions that costs up to a factor of 6. The setting is the whole process's, so it is put back; a
    search of another thread meanwhile would be slower or faster, not wrong.
    """
    faiss = faiss_module()
    names = ("distance_compute_blas_threshold", "distance_compute_blas_database_bs")
    with _settings:
        before = [getattr(faiss.cvar, name) for name in names]
        try:
            for name, value in zip(names, (1, 4096), strict=True):
                setattr(faiss.cvar, name, value)
            yield
        finally:
            for name, value in zip(names, before, strict=True):
                setattr(faiss.cvar, name, value)


def in_threads(call: Callable[[Any], None], arguments: Sequence[Any], numbers: int) -> None:
    """Calls for each argument, in as many threads as faiss uses if there are many numbers to look at.

    The calls spend their time in numpy and faiss, which let other threads run meanwhile.
    """
    threads = faiss_module().omp_get_max_threads()
    if threads == 1 or len(arguments) == 1 or numbers < MANY_NUMBERS:
        for argument in arguments:
            call(argument)
    else:
        for _ in _pool(threads).map(call, arguments):
            pass


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nearsql-search")
