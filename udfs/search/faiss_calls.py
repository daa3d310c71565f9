"""Calls of faiss: imported late, with the settings that suit a batch."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def faiss_module() -> Any:
    """The faiss module, imported when first needed: it takes longer than opening a database."""
    import faiss

    return faiss


# What makes faiss multiply matrices whatever the size of a batch, in blocks that keep BLAS at its peak.
_BATCH = {"distance_compute_blas_threshold": 1, "distance_compute_blas_database_bs": 4096}
_lock = threading.Lock()
_users = 0
_before: dict[str, int] = {}


@contextmanager
def matrix_multiplication() -> Iterator[None]:
    """Makes faiss use matrix multiplication for a batch of any size, in the calling thread alone.

    By itself it does so only from queries x dimensions >= 128,000 on, and for 4 to 166 queries of 768
    dimensions that costs up to a factor of 6. The settings are the whole process's, so the last of the
    threads that need them puts them back; another use of faiss meanwhile is slower or faster, not wrong.

    One thread, because the threads of a search work on parts of their own, and because faiss's BLAS
    lets one product with several threads run at a time: threads of other searches would spin.
    """
    global _users
    faiss = faiss_module()
    threads = faiss.omp_get_max_threads()  # this thread's own setting
    with _lock:
        if not _users:
            for name, value in _BATCH.items():
                _before[name] = getattr(faiss.cvar, name)
                setattr(faiss.cvar, name, value)
        _users += 1
    try:
        if threads != 1:
            faiss.omp_set_num_threads(1)
        yield
    finally:
        if threads != 1:
            faiss.omp_set_num_threads(threads)
        with _lock:
            _users -= 1
            if not _users:
                for name, value in _before.items():
                    setattr(faiss.cvar, name, value)
