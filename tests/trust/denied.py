"""`python -m tests.trust.denied`: a full disk, a read-only file or folder, a right that is lost on the way.

Each command then says in one sentence what is wrong and ends with exit code 1, or it can do without what it
was denied, and ends with 0. Either way the file is whole, `nearsql check` finds nothing wrong, and once the
reason is gone the command, run again, leaves what it always leaves.

A line of JSON is written for each case. With --mounted the disk is a real one, a small file system in memory,
which only root may mount; otherwise the process may write no file beyond a size (RLIMIT_FSIZE), or SQLite
may use no more pages (PRAGMA max_page_count). Root is held to the modes of files, as everybody else is.
"""

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from tests.trust.crashes import Killer, chosen
from tests.trust.inputs import build
from tests.trust.killing import import_everything, in_child
from tests.trust.pipelines import DATABASE, small_batches

# What any other command would not have: the right to pass over the modes of files (CAP_DAC_OVERRIDE and
# CAP_DAC_READ_SEARCH), as bits of the first word of capabilities.
_PAST_MODES = 0b110
_CAPABILITY_VERSION = 0x20080522
_MOST_BYTES = 600_000
_FEWEST_BYTES = 33_000  # a reader needs 32 KiB of shared memory
_MORE_DISK = 900_000


@dataclass(frozen=True, slots=True)
class Case:
    """What came of a command that was denied something. err: all that it said; faults: what is wrong now."""

    denial: str
    pipeline: str
    code: int | None
    err: str
    faults: list[str]


def obey_modes() -> None:
    """Holds this process to the modes of files, whoever it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(head, held) == 0:
        held[0] &= ~_PAST_MODES
        held[1] &= ~_PAST_MODES
        if libc.capset(head, held) != 0:
            raise OSError(ctypes.get_errno(), "capset")


def _few_pages() -> None:
    def limit(connection: apsw.Connection) -> None:
        if connection.filename.endswith(DATABASE):
            connection.pragma("max_page_count", connection.pragma("page_count"))

    apsw.connection_hooks.append(limit)


def _few_bytes(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _lose_rights(modes: dict[str, int], commits: int) -> None:
    """Changes the modes when the process has begun so many commits."""
    begun = 0

    def watch(event: dict[str, Any]) -> None:
        nonlocal begun
        begun += event["sql"].strip().lower() == "commit"
        if begun == commits:
            _change_modes(Path.cwd(), modes)

    apsw.connection_hooks.append(
        lambda connection: connection.trace_v2(apsw.SQLITE_TRACE_STMT, watch, id=watch)
    )
    obey_modes()


def _change_modes(folder: Path, modes: dict[str, int]) -> None:
    for name, mode in modes.items():
        if (folder / name).exists():
            (folder / name).chmod(mode)


_READ_ONLY_FILE = {DATABASE: 0o444}
_READ_ONLY_FOLDER = {".": 0o555}
_READ_ONLY_LOGS = {f"{DATABASE}-wal": 0o444, f"{DATABASE}-shm": 0o444}
_BOTH = {**_READ_ONLY_FILE, **_READ_ONLY_FOLDER}
_ALL = {**_BOTH, **_READ_ONLY_LOGS}
_WRITABLE = {".": 0o755, DATABASE: 0o644, f"{DATABASE}-wal": 0o644, f"{DATABASE}-shm": 0o644}


@contextmanager
def _modes(folder: Path, modes: dict[str, int]) -> Iterator[None]:
    _change_modes(folder, modes)
    try:
        yield
    finally:
        _change_modes(folder, _WRITABLE)


@contextmanager
def _small_disk(folder: Path, _: Any = None) -> Iterator[None]:
    """A file system with little room beside the database; afterwards there is room."""
    there = (folder / DATABASE).read_bytes()
    size = len(there) + _MORE_DISK
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    (folder / DATABASE).write_bytes(there)
    yield
    subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)


# By name: what the process does first, and the modes that files have meanwhile.
DENIALS: dict[str, tuple[Callable[[], None], dict[str, int]]] = {
    "no more pages": (_few_pages, {}),
    "no longer files": (partial(_few_bytes, _MOST_BYTES), {}),
    "only short files": (partial(_few_bytes, _FEWEST_BYTES), {}),
    "the file is read-only": (obey_modes, _READ_ONLY_FILE),
    "the folder is read-only": (obey_modes, _READ_ONLY_FOLDER),
    "the file and its folder are read-only": (obey_modes, _BOTH),
    "the file becomes read-only": (partial(_lose_rights, _READ_ONLY_FILE, 2), {}),
    "everything becomes read-only": (partial(_lose_rights, _ALL, 2), {}),
}
MOUNTED = "the disk is full"


def deny(killer: Killer, pipeline: str, denial: str) -> Case:
    """Runs the pipeline with that in its way, and then without."""
    before, modes = DENIALS.get(denial, (small_batches, {}))
    folder = killer.fresh("denied")

    def prepared() -> None:
        small_batches()
        before()

    meanwhile = _small_disk if denial == MOUNTED else _modes
    try:
        with meanwhile(folder, modes):
            done = killer.run(folder, before=prepared, is_counted=False)
            _change_modes(folder, _WRITABLE)
        left = killer.look(folder)
        faults = [f"is left with {fault}" for fault in left.faults]
        if done.code != 0:
            again = killer.run(folder)
            if again.code != 0:
                faults.append(f"cannot be run again, exit code {again.code}: {again.err.strip()}")
            left = killer.look(folder)
            faults += [f"run again, is left with {fault}" for fault in left.faults]
        faults += [f"differs: {fault}" for fault in killer.differences(left)]
    finally:
        if os.path.ismount(folder):
            subprocess.run(["umount", folder], check=True)
    return Case(denial, pipeline, done.code, done.err, faults)


def cases(asked: Sequence[tuple[str, str]], folder: Path) -> Iterator[Case]:
    """What comes of each (denial, name of a pipeline)."""
    base = folder / "base"
    in_child(lambda: build(base))
    for pipeline in chosen(list(dict.fromkeys(name for _, name in asked)), is_quick=False):
        work = folder / pipeline.name
        work.mkdir()
        killer = Killer(pipeline, base / "base.db", base / "inputs", work)
        for denial in [denial for denial, name in asked if name == pipeline.name]:
            yield deny(killer, pipeline.name, denial)


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mounted", action="store_true", help="a real file system, as root")
    parser.add_argument("cases", nargs="*", help='only these, as "no more pages: label"')
    given = parser.parse_args(words)
    import_everything(with_maps=False)
    denials = [MOUNTED] if given.mounted else [*DENIALS]
    every = [(denial, each.name) for each in chosen([], is_quick=True) for denial in denials]
    asked = [_case(text) for text in given.cases] or every
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="nearsql-denied-") as folder:
        for case in cases(asked, Path(folder)):
            print(json.dumps(asdict(case)), flush=True)
            wrong += bool(case.faults)
    return int(wrong > 0)


def _case(text: str) -> tuple[str, str]:
    denial, _, name = text.partition(": ")
    if denial not in (*DENIALS, MOUNTED):
        raise SystemExit(
            f"there is no denial {denial!r}: there are {', '.join(DENIALS)}, {MOUNTED}"
        )
    return denial, name


if __name__ == "__main__":
    sys.exit(main())
