"""What runs in a worker process of Ray. Nothing here opens a database."""

import os
import pickle
import socket
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nearsql import __version__
from nearsql.pipeline.ahead import map_ahead
from nearsql.pipeline.console import UserError, is_for_the_user
from nearsql.pipeline.engines import Facts, Task, Work


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to: a value, or the exception that it ended with."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker that is ready: where it is, and the facts of what it has loaded."""

    host: str
    process: int
    facts: Facts


class Worker:
    """The actor. Two calls may be in it at once: one prepares its batch while the other's is computed."""

    def __init__(self, threads: int) -> None:
        """threads: to compute in."""
        # Before the libraries that read it are imported, which the task's arrival does.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._work: Work | None = None
        self._computing = threading.Lock()

    def load(self, task: Task, version: str) -> Answer:
        """Loads the task. version: the caller's nearsql.

        The value is a Loaded.
        """
        try:
            if version != __version__:
                raise UserError(
                    f"the workers have nearsql {__version__}, and this is {version}: install one of"
                    " them everywhere"
                )
            self._work = task.load()
            return Answer(Loaded(socket.gethostname(), os.getpid(), self._work.facts))
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            return Answer(error=sendable(error))

    def work(self, batch: Sequence[Any], besides: Any) -> Answer:
        """The result of a batch of inputs."""
        try:
            assert self._work is not None  # nothing is sent before it has been loaded
            prepared = list(map_ahead(self._work.prepare, batch, ahead=len(batch)))
            with self._computing:
                return Answer(self._work(prepared, besides))
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            return Answer(error=sendable(error))


def sendable(error: Exception) -> Exception:
    """The error as another process can have it; of a fault of ours, with the place where it happened."""
    if not is_for_the_user(error):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a class of errors makes of being copied
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
