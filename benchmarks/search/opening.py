"""Cold processes: opening a file and answering, and what rows added to a loaded space cost.

Every measurement runs in a process of its own. The file is in the system's page cache throughout: what
is measured is not the disk.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.search import indexes
from benchmarks.search.child import ADDED
from benchmarks.search.measure import Figure, of_rounds
from benchmarks.search.results import Result, case
from benchmarks.search.setup import Setup

READ_FILE = "reading the file's bytes into fresh memory"
EXACT = "nearsql: opening, first exact answer"
EXACT_SECOND = "nearsql: second exact answer"
INDEXED = "nearsql: opening, first answer by ivf index"
INDEXED_SECOND = "nearsql: second answer by ivf index"
IMPORTS = "imports (not in the answers' times)"
FULL_LOAD = "nearsql: full load"
WARM = "nearsql: knn, nothing changed"
CHANGED = f"nearsql: knn after {ADDED:,} rows were added"


def child(threads: int, *arguments: str) -> Any:
    """What a child process measured, with so many threads."""
    settings = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search.child", *arguments],
        env=os.environ | settings,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def opening(setup: Setup) -> Iterator[Result]:
    """Opening a file and answering the first query, without an index and with one."""
    for n, d in setup.sizes:
        path = setup.file(n, d)
        size = path.stat().st_size
        rounds = 2 if setup.quick else 4
        reads, exact = _answers(path, setup.threads, rounds)
        indexes.build(path, "ivf", setup.threads)
        try:
            _, indexed = _answers(path, setup.threads, rounds)
        finally:
            indexes.drop(path, "ivf")
        figures = [
            of_rounds(READ_FILE, reads, note=f"{size / 1e6:,.0f} MB"),
            _figure(EXACT, exact, "first answer"),
            _figure(EXACT_SECOND, exact, "second answer"),
            _figure(INDEXED, indexed, "first answer"),
            _figure(INDEXED_SECOND, indexed, "second answer"),
            of_rounds(IMPORTS, [one["imports"] for one in exact + indexed]),
        ]
        yield Result("opening", case(n, d), n, d, setup.threads, figures)


def _answers(path: Path, threads: int, rounds: int) -> tuple[list[float], list[dict[str, float]]]:
    """Seconds to read the file, and what children that answered measured, in turns."""
    child(threads, "read", str(path))  # into the page cache
    reads, answers = [], []
    for _ in range(rounds):
        reads.append(child(threads, "read", str(path))["read"])
        answers.append(child(threads, "answer", str(path)))
    return reads, answers


def _figure(name: str, answers: list[dict[str, float]], key: str) -> Figure:
    figure = of_rounds(name, [one[key] for one in answers])
    figure.also["peak memory"] = max(one["peak memory"] for one in answers)
    return figure


def changes(setup: Setup) -> Iterator[Result]:
    """1,000 rows added to a space in memory: the next search."""
    for n, d in setup.sizes:
        path = setup.folder / "changes.db"
        shutil.copyfile(setup.file(n, d), path)
        child(setup.threads, "read", str(path))
        found: dict[str, list[float]] = {}
        for _ in range(2 if setup.quick else 3):
            for key, times in child(setup.threads, "change", str(path), "3").items():
                found.setdefault(key, []).extend(times)
        path.unlink()
        names = {"load": FULL_LOAD, "warm": WARM, "changed": CHANGED}
        figures = [of_rounds(name, found[key]) for key, name in names.items()]
        yield Result("rows added", case(n, d), n, d, setup.threads, figures)
