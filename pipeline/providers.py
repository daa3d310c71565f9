"""What asking a provider of models has in common: which errors are worth another try, and how long to wait.

Providers are reached through plugins of the `llm` library, each with a client of its own: an error is told
by the HTTP status that it speaks of.
"""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

# Asking something else would be refused the same way: a wrong key, no credit, no such model.
REFUSES_ALL = (401, 402, 403, 404)
# What was asked is refused, and would be again: too long, say, or against the provider's rules.
REFUSES_THIS = (400, 413, 415, 422)

# No pause between two attempts is longer, whoever asks for it.
LONGEST_PAUSE_S = 120.0

_MOST_WORDS = 300

T = TypeVar("T")


def in_words(error: BaseException) -> str:
    """What the error says, in a line that is not too long."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _MOST_WORDS else words[: _MOST_WORDS - 3] + "..."


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error speaks of; clients keep it in one of two places."""
    status = getattr(error, "status_code", None)
    if status is None:
        status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def pause_before(attempt: int, backoff: float, asked_for: float) -> float:
    """Seconds to wait after the attempt (from 0): doubled each time, or what the provider asks for."""
    return min(max(backoff * 2**attempt, asked_for), LONGEST_PAUSE_S)


def retry_after(error: BaseException) -> float:
    """The seconds that the provider asks to be left alone, 0 if it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        seconds = float(headers["retry-after"]) if headers is not None else 0.0
    except (KeyError, TypeError, ValueError):
        return 0.0  # a date, perhaps: our own pauses will do
    return seconds if seconds > 0 else 0.0


def in_a_thread(function: Callable[[], T], timeout: float) -> T:
    """function() of something that cannot be interrupted; after the time-out nobody listens any more.

    Raises TimeoutError, or what the function raises.
    """
    box: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def answer() -> None:
        try:
            box.put((function(), None))
        except Exception as error:  # noqa: BLE001 - raised where the answer is waited for
            box.put((None, error))

    threading.Thread(target=answer, daemon=True).start()
    try:
        found, error = box.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return found  # type: ignore[return-value]
