"""Runs a command in a forked child, and kills that child at a chosen moment.

The moment is told by one of four clocks: seconds since the fork; SQL statements begun, those of triggers
included; commits begun; or writes to the database's files, of which the chosen one is then written by half.
So a kill lands in the middle of a computation, between two statements of a transaction, when all of it was
done but the commit, or in the middle of that.

The parent imports what commands need and nothing more. It opens no database and computes nothing, so that a
child begins as any process does, only without the seconds that imports take.
"""

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import apsw

Result = TypeVar("Result")

CLOCKS = ("seconds", "statements", "commits", "writes")
# A child that takes longer than this hangs.
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When to kill: at so many seconds, or at the statement, commit or write of this number, from 1."""

    clock: str
    at: float

    def __str__(self) -> str:
        if self.clock == "seconds":
            return f"{self.at:.3f} seconds"
        return f"{self.clock.removesuffix('s')} {self.at:.0f}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended. code: its exit code; None if it was killed. spent: by clock, if it lived."""

    code: int | None
    spent: Mapping[str, float]
    out: str
    err: str


class HangError(Exception):
    """A child did not end in time."""


class _Clocks:
    """Counts statements, commits and writes in a child, and kills it when one of them says so."""

    def __init__(self, moment: Moment | None) -> None:
        self._moment = moment
        self.spent = dict.fromkeys(CLOCKS[1:], 0)

    def start(self) -> None:
        """From here on; every connection and file that is opened later counts."""
        apsw.connection_hooks.append(self._watch)
        self._vfs = _Files(self)

    def _watch(self, connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._statement, id=self)

    def _statement(self, event: dict[str, Any]) -> None:
        if self._is_now("statements"):
            _die()
        if event["sql"].strip().lower() == "commit" and self._is_now("commits"):
            _die()

    def write(self, write: Callable[[bytes, int], None], data: bytes, offset: int) -> None:
        """A write of a file, the whole of it or, if it is the last, half of it."""
        if self._is_now("writes"):
            write(data[: len(data) // 2], offset)
            _die()
        write(data, offset)

    def _is_now(self, clock: str) -> bool:
        self.spent[clock] += 1
        return self._moment == Moment(clock, self.spent[clock])


class _Files(apsw.VFS):
    """The system's files, whose writes are counted."""

    def __init__(self, clocks: _Clocks) -> None:
        self._base = apsw.vfs_names()[0]
        self._clocks = clocks
        super().__init__("counted", self._base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self._base, name, flags, self._clocks)


class _File(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int], clocks: _Clocks) -> None:
        super().__init__(base, name, flags)
        self._clocks = clocks
        self._is_read_only = bool(flags[1] & apsw.SQLITE_OPEN_READONLY)

    def xLock(self, level: int) -> None:
        # SQLite asks for it when the last reader of a write-ahead log closes, and makes do without. The
        # system's own refusal would come out of APSW as an error of the reader's.
        if self._is_read_only and level == apsw.SQLITE_LOCK_EXCLUSIVE:
            raise apsw.BusyError("a file that was opened for reading")
        super().xLock(level)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._clocks.write(super().xWrite, data, offset)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody lives on after SIGKILL")


def run_command(
    words: Sequence[str],
    folder: Path,
    moment: Moment | None = None,
    *,
    before: Callable[[], None] | None = None,
    is_counted: bool = True,
) -> Outcome:
    """Runs `nearsql WORDS` in the folder, in a forked child, killed at the moment if it lives so long.

    before: what the child does first. is_counted: count its statements and writes, for which its files are
    opened by way of Python: what fails when SQLite closes one is then an error, and otherwise none. Raises HangError when it does not end within ten minutes.
    """
    # Beside the folder: nothing may be writable in it.
    out, err, spent = (
        folder.with_name(f"{folder.name}.{name}") for name in ("out", "err", "spent")
    )
    spent.unlink(missing_ok=True)
    started = time.monotonic()
    child, ended = _fork(
        lambda: _command(words, folder, out, err, spent, moment, before, is_counted)
    )
    delay = moment.at if moment is not None and moment.clock == "seconds" else None
    status = _end(child, ended, delay)
    seconds = time.monotonic() - started
    found: dict[str, float] = {}
    if not os.WIFSIGNALED(status):
        found = {"seconds": seconds, **pickle.loads(spent.read_bytes())}
    elif os.WTERMSIG(status) != signal.SIGKILL:
        raise AssertionError(
            f"`nearsql {' '.join(words)}` died of signal {os.WTERMSIG(status)}: {err.read_text()}"
        )
    return Outcome(
        None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status),
        found,
        out.read_text("utf-8", "replace") if out.exists() else "",
        err.read_text("utf-8", "replace") if err.exists() else "",
    )


def _command(
    words: Sequence[str],
    folder: Path,
    out: Path,
    err: Path,
    spent: Path,
    moment: Moment | None,
    before: Callable[[], None] | None,
    is_counted: bool,
) -> int:
    os.chdir(folder)
    for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    clocks = _Clocks(moment)
    if is_counted:
        clocks.start()
    if before is not None:
        before()
    from nearsql.pipeline.cli import main

    try:
        main(list(words))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001 - as Python itself would show it
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    spent.write_bytes(pickle.dumps(clocks.spent))
    return code


def in_child(function: Callable[[], Result]) -> Result:
    """What the function gives, called in a forked child, so that the parent opens no database.

    Raises AssertionError with the child's words when it raises anything.
    """
    reader, writer = os.pipe()

    def work() -> int:
        try:
            answer: tuple[bool, Any] = (True, function())
        except BaseException:  # noqa: BLE001 - told to the parent, which raises it
            answer = (False, traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        return 0

    child, ended = _fork(work)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _end(child, ended)
    assert data, "the child that looks at a file ended without a word"
    is_well, result = pickle.loads(data)
    assert is_well, result
    found: Result = result
    return found


def _fork(work: Callable[[], int]) -> tuple[int, int]:
    """A child that does the work and exits with what it gives; and a pipe that closes with the child."""
    sys.stdout.flush()
    sys.stderr.flush()
    ended, held = os.pipe()
    os.set_inheritable(held, True)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(ended)
            code = work()
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - a child must not go on as if it were the parent
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(held)
    return child, ended


def _end(child: int, ended: int, delay: float | None = None) -> int:
    """The child's status, once it has ended. delay: when to kill it, if it lives so long.

    Raises HangError when it is not to be killed and does not end.
    """
    has_ended = bool(select.select([ended], [], [], PATIENCE if delay is None else delay)[0])
    if not has_ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ended)
    if not has_ended and delay is None:
        raise HangError(f"process {child} did not end within {PATIENCE:.0f} seconds")
    return status


def import_everything(*, with_maps: bool = True) -> None:
    """What any command may need, so that children need not import it. with_maps: also UMAP and t-SNE.

    But for evoc, which starts threads when it is imported: those do not live on in a child.
    """
    import importlib
    import pkgutil

    import faiss
    import hdbscan
    import pyarrow.parquet
    import sklearn.decomposition
    import sklearn.feature_extraction.text
    import sklearn.metrics

    from nearsql import pipeline

    del faiss, hdbscan, pyarrow, sklearn
    if with_maps:
        importlib.import_module("umap")
        importlib.import_module("openTSNE")
    for module in pkgutil.walk_packages(pipeline.__path__, "nearsql.pipeline."):
        if not _needs_torch(module.name):
            importlib.import_module(module.name)

    others = _other_threads()
    assert not others, f"{', '.join(others)} would not live on in a forked child"


def _other_threads() -> list[str]:
    """The names of the process's threads but the first, and that by which pyarrow frees memory: it knows forks."""
    tasks = [*Path("/proc/self/task").glob("*/comm")]
    names = [task.read_text().strip() for task in tasks if task.parent.name != str(os.getpid())]
    return [name for name in names if name != "jemalloc_bg_thd"]


def _needs_torch(name: str) -> bool:
    """Whether a module is of the detectors' and networks', which import what may not be there."""
    rooms = ("detect", "loss_distance", "encoders.")
    return name.startswith(tuple(f"nearsql.pipeline.{room}" for room in rooms))
