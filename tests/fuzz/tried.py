"""The process in which inputs are tried: `python -m tests.fuzz.tried FOLDER`, asked by trying.py.

It reads requests from standard input and answers each on standard output, pickled: both ends are ours. It
dies by itself when one of them takes more than its seconds of processor time, which are not spent by
waiting for a busy machine.
"""

import math
import os
import pickle
import resource
import signal
import site
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import apsw

from nearsql.udfs import catalogue, connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from tests.fuzz.outcomes import Outcome, judged, refused
from tests.fuzz.values import NotUtf8, Zeros

# Of processor time. What is started for the first time in a process has the longer one: numba loads then.
SECONDS = 5.0
SECONDS_FIRST = 120.0
# Arguments that have other code do the work.
_WAYS = frozenset({"graph", "umap", "tsne"})
# A call that asks for more has believed a number that it was given.
_MEMORY = 6 * 2**30
_ROWS = 3000
_LARGEST_FILE = 2**30


def call_of(name: str, arguments: Sequence[Any], names: Sequence[str] | None) -> tuple[str, tuple]:
    """The SQL of one call of a function, and its parameters. names: of a table function's arguments."""
    function = catalogue.load()[name]
    sql, values = [], []
    for argument in arguments:
        if isinstance(argument, NotUtf8):
            sql.append("cast(? as text)")
            values.append(argument.data)
        elif isinstance(argument, Zeros):
            sql.append("zeroblob(?)")
            values.append(argument.length)
        else:
            sql.append("?")
            values.append(argument)
    if function.kind == "aggregate":
        # Two rows and one; `names` says nothing here.
        columns = ", ".join(f"column{n + 1}" for n in range(len(sql)))
        row = f"({', '.join(sql)})" if sql else "(1)"
        return f"select {name}({columns}) from (values {row}, {row})", tuple(values) * 2
    if function.kind == "table" and names is not None:
        where = " and ".join(f'"{n}" = {s}' for n, s in zip(names, sql, strict=True))
        return f"select * from {name}" + (f" where {where}" if where else ""), tuple(values)
    source = "select * from " if function.kind == "table" else "select "
    return f"{source}{name}({', '.join(sql)})", tuple(values)


def try_call(db: dbapi.Connection, name: str, arguments: Any, names: Any) -> Outcome:
    """Calls an SQL function and looks at what comes."""
    sql, values = call_of(name, arguments, names)
    try:
        rows = db.execute(sql, values).fetchmany(_ROWS)
    except sqlite3.Error as error:
        root: BaseException = error
        while root.__cause__ is not None and not isinstance(root, SqlFunctionError):
            root = root.__cause__
        if isinstance(root, sqlite3.Error | apsw.Error | SqlFunctionError):
            return refused(str(error), names=name)
        if isinstance(root, UnicodeDecodeError):
            # APSW stumbles over it before a table function is called, and does not say which.
            is_table = catalogue.load()[name].kind == "table"
            return refused(str(error), names="a table-valued function" if is_table else name)
        return Outcome("leaked", "".join(traceback.format_exception(root))[-1500:])
    for row in rows:
        for value in row:
            # A label may be anything that was given.
            if isinstance(value, float) and not math.isfinite(value) and value not in arguments:
                return Outcome("wrong", f"{value} is among the results: {row!r:.300}")
    return Outcome("taken", f"{len(rows)} rows")


def _spin() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0.2)
    while True:
        pass


# For the test that looks at whether this process notices: no functions of SQL.
_DEATHS = {"spin": _spin, "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV)}


# What nothing that is tried may do: ask a network, run a program, or have pickle name what to import.
_FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")
_FORBIDDEN_OF_FILES = (*_FORBIDDEN, "pickle.find_class")
# Where Python itself, what numba keeps of compiled code, and time zones, are read from.
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/share/")
_OWN = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *_SYSTEM)


class _Watch:
    """Sees, by Python's audit hooks, whether anything reaches beyond what it was given."""

    def __init__(self, folder: Path) -> None:
        self._allowed = (*map(os.path.realpath, _OWN), str(folder.resolve()), tempfile.gettempdir())
        self._allowed += tuple(
            os.path.realpath(place) for place in site.getsitepackages() + sys.path
        )
        self._forbidden: tuple[str, ...] = ()
        self.seen = ""
        sys.addaudithook(self._hear)

    def begin(self, *, of_files: bool) -> None:
        """From here on it is looked at."""
        self._forbidden, self.seen = (_FORBIDDEN_OF_FILES if of_files else _FORBIDDEN), ""

    def end(self) -> None:
        """No more."""
        self._forbidden = ()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._forbidden or self.seen:
            return
        if event in self._forbidden:
            self.seen = f"{event}{arguments!r:.200}"
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self._allowed):
                self.seen = f"open({path!r})"


class _Tries:
    """What this process knows to try."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[str] = set()
        self._db: dbapi.Connection | None = None
        self._watch = _Watch(folder)

    def answer(self, request: tuple[Any, ...]) -> Outcome:
        """The outcome of one request: ("call", function, arguments, names) or ("read", target, files)."""
        what = " ".join([*request[:2], *(word for word in request[2] if word in _WAYS)])
        self._limit(SECONDS if what in self._known else SECONDS_FIRST)
        try:
            if request[1] in _DEATHS:
                _DEATHS[request[1]]()
            given = request[2].values() if request[0] == "read" else request[2]
            outcome = judged(self._tried(request), given)
            if outcome.kind == "taken":
                self._known.add(what)  # what it needs is compiled
            return Outcome("wrong", f"it did {self._watch.seen}") if self._watch.seen else outcome
        except MemoryError:
            return Outcome("leaked", "it asked for more memory than a small file needs")
        except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
            return Outcome("leaked", traceback.format_exc()[-1500:])
        finally:
            self._watch.end()
            self._limit(0)

    def _tried(self, request: tuple[Any, ...]) -> Outcome:
        if request[0] == "call":
            db = self._filled()
            self._watch.begin(of_files=False)
            if request[1] == "reach":
                open("/etc/hostname").close()
                return Outcome("taken")
            return try_call(db, *request[1:])
        from tests.fuzz.targets import try_files

        self._watch.begin(of_files=True)
        return try_files(self._folder, *request[1:])

    def _filled(self) -> dbapi.Connection:
        if self._db is None:
            from tests.fuzz.samples import filled_file

            self._db = connection.connect(filled_file(self._folder), read_only=True)
        return self._db

    def _limit(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # the signal ends the process


def main() -> None:
    folder = Path(sys.argv[1])
    # Whatever a library prints must not come between the answers.
    answers: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tries = _Tries(folder)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(tries.answer(request), answers)
        answers.flush()


if __name__ == "__main__":
    main()
