"""Asks a process of its own to try inputs, and makes a new one when it dies.

with Trying(folder) as trying:
    outcome = trying.call("knn", ("round", 1, 3))
"""

import os
import pickle
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fuzz.outcomes import Outcome

# Of a wait, whatever the processor does meanwhile: for what sleeps and never wakes.
PATIENCE = 300.0


class Trying:
    """A process that tries inputs; see tried.py. folder: of the file that calls are tried on, made when it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.tried = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._end()

    def call(
        self, name: str, arguments: tuple[Any, ...], names: tuple[str, ...] | None = None
    ) -> Outcome:
        """What an SQL function does with these arguments; names: of a table function's, in their order."""
        return self._ask(("call", name, arguments, names))

    def read(self, target: str, files: dict[str, bytes]) -> Outcome:
        """What an importer does with these files."""
        return self._ask(("read", target, files))

    def _ask(self, request: tuple[Any, ...]) -> Outcome:
        self.tried += 1
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(request, process.stdin)
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
            if ready:
                return pickle.load(process.stdout)
            why = f"nothing came for {PATIENCE:.0f} s, and it was ended"
        except (EOFError, OSError):
            why = ""
        if why:
            process.kill()
        code = self._end()
        if not why:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            why = "it computed for too long" if name == "SIGPROF" else f"it ended by {name}"
        return Outcome("died", why)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.tried", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
        return self._process

    def _end(self) -> int:
        """Ends the process, by closing what it reads from; gives how it ended."""
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.close()
        except OSError:
            pass
        process.stdout.close()
        return process.wait(timeout=PATIENCE)
