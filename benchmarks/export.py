"""What an export and a diff cost, by the number of items: `python -m benchmarks.export [--write]`

Makes files of random texts with a label, a map and two clusterings (a cluster for each thousand items, a
fifth noise; a tenth of the items elsewhere in the second), and runs `nearsql export` in each format and
`nearsql diff` on them, each in a process of its own. Prints seconds, the size of what was written, and the
most memory that the process had. With --write the table goes into docs/export.md.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from nearsql.pipeline.estimate import size_in_words
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

SIZES = (1_000, 100_000, 1_000_000)
FORMATS = ("json", "csv", "parquet", "datamapplot")
WORDS_IN_A_TEXT = 12
ITEMS_IN_A_CLUSTER = 1_000
PAGE = Path(__file__).parents[1] / "docs" / "export.md"
COMMAND = [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command: wall time, peak resident memory in bytes, bytes written."""

    seconds: float
    memory: int
    written: int


def fill(path: Path, n: int) -> None:
    """Makes the file: runs 1 and 2 are clusterings, run 3 a map."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(5_000)])
    db = connection.create(path)
    with immediate(db):
        for start in range(0, n, 10_000):
            ids = range(start + 1, min(start + 10_000, n) + 1)
            texts = words[random.integers(0, len(words), (len(ids), WORDS_IN_A_TEXT))]
            db.executemany(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'random', ?, ?, ?)",
                [(i, f"{i:064x}", " ".join(t), i - 1) for i, t in zip(ids, texts, strict=True)],
            )
            db.executemany(
                "insert into item_labels values (?, 'group', ?, 'random')",
                [(i, f"group {i % 7}") for i in ids],
            )
    clusters = max(2, n // ITEMS_IN_A_CLUSTER)
    first = np.where(random.random(n) < 0.2, -1, random.integers(0, clusters, n))
    second = np.where(random.random(n) < 0.1, random.integers(-1, clusters, n), first)
    for labels in (first, second):
        _cluster(db, labels)
    with run(db, "project", parameters={"method": "random"}) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            (
                (current.id, item, x, y)
                for item, (x, y) in enumerate(random.normal(size=(n, 2)).tolist(), 1)
            ),
        )
    db.close()


def _cluster(db: dbapi.Connection, labels: np.ndarray) -> None:
    found, sizes = np.unique(labels[labels >= 0], return_counts=True)
    with run(db, "cluster", parameters={"method": "random"}) as current, immediate(db):
        ids: dict[int, int | None] = {-1: None}
        for label, size in zip(found.tolist(), sizes.tolist(), strict=True):
            ids[label] = db.execute(
                "insert into clusters (run_id, label, size) values (?, ?, ?)",
                (current.id, label, size),
            ).lastrowid
        db.executemany(
            "insert into memberships (run_id, item_id, cluster_id, probability) values (?, ?, ?, 0.5)",
            ((current.id, i, ids[label]) for i, label in enumerate(labels.tolist(), 1)),
        )


def measured(words: list[str], folder: Path | None = None) -> Cost:
    """Runs a nearsql command, and says what it took. Raises RuntimeError when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"nearsql {' '.join(words)}: {said}")
    sizes = [file.stat().st_size for file in folder.iterdir()] if folder else []
    # In kilobytes, but on macOS in bytes.
    return Cost(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), sum(sizes))


def costs(n: int, folder: Path) -> list[tuple[str, ...]]:
    """The rows of the table for n items."""
    path = folder / f"{n}.db"
    # In a process of its own: one that is forked from a large one counts as no smaller.
    filler = multiprocessing.get_context("spawn").Process(target=fill, args=(path, n))
    filler.start()
    filler.join()
    rows = []
    for format_ in FORMATS:
        out = folder / f"{n}-{format_}"
        words = ["export", str(path), "--to", str(out), "--format", format_]
        words += ["--run", "2", "--run", "3"]
        rows.append((f"{n:,}", f"`export --format {format_}`", *_words(measured(words, out))))
    rows.append((f"{n:,}", "`diff`", *_words(measured(["diff", str(path), "1", "2", "--csv"]))))
    return rows


def _words(cost: Cost) -> tuple[str, str, str]:
    written = size_in_words(cost.written) if cost.written else ""
    return f"{cost.seconds:.1f} s", size_in_words(cost.memory), written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--write", action="store_true", help="put the table into docs/export.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for n in options.items for row in costs(n, Path(folder))]
    headers = ("items", "`nearsql ...`", "time", "memory", "written")
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    print(table)
    if options.write:
        write_between_marks(PAGE, "python -m benchmarks.export", table)


if __name__ == "__main__":
    main()
