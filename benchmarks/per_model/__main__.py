"""Four models, each clustered from samples of four sizes, while another program writes, and killed.

    python -m benchmarks.per_model [--write]

Of four spaces of 220,000, 80,000, 10,000 and 25 vectors, `nearsql cluster --downsample` takes each
10000th, 1000th, 100th and 10th item. Says of each call which spaces were clustered and which skipped,
seconds, the peak of memory, and how long a second writer had to wait for the lock at most. Then it kills
such calls with signal 9 at random moments, and proves that what earlier models have is whole and that
nothing else is there. With --write the figures are put into docs/clustering.md.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from benchmarks.options import command_line
from benchmarks.per_model.models_file import build, complete_runs, sampled
from benchmarks.per_model.second_writer import second_writer
from nearsql.udfs.connection import open_database

SIZES = {"large": 220_000, "medium": 80_000, "small": 10_000, "tiny": 25}
DOWNSAMPLES = (10_000, 1000, 100, 10)
# No write lock may be held longer.
LONGEST_S = 5.0
SCRIPT = "python -m benchmarks.per_model"
PAGE = Path(__file__).parents[2] / "docs" / "clustering.md"
_CLUSTER = (sys.executable, "-c", "from nearsql.pipeline.cli import main; main()", "cluster")
_SETTINGS = ("--min-cluster-size", "5")


def main() -> None:
    """Measures everything, prints it, and stops at the first thing that is not as it must be."""
    parser = command_line(SCRIPT, __doc__, writes="put the figures into the page")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--kills", type=int, default=20, help="calls that are killed (default 20)")
    parser.add_argument("--all-items", action="store_true", help="also --downsample 1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "models.db"
        start = time.perf_counter()
        build(path, SIZES, arguments.dimensions)
        seconds, size = time.perf_counter() - start, path.stat().st_size
        print(f"{sum(SIZES.values()):,} vectors in {seconds:.0f} s, {size / 1e6:,.0f} MB")
        rows = [
            clustered(path, downsample) for downsample in DOWNSAMPLES + (1,) * arguments.all_items
        ]
        rows.append(assigned(path))
        headers = ["", *SIZES, "seconds", "memory (MB)", "longest wait of a second writer (s)"]
        print(tabulate(rows, headers, disable_numparse=True))
        killed = kill(path, arguments.kills)
        print(killed)
    if arguments.write:
        sizes = ", ".join(f"{name} {size:,}" for name, size in SIZES.items())
        table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        text = f"Vectors of {arguments.dimensions} dimensions: {sizes}.\n\n{table}\n\n{killed}"
        write_between_marks(PAGE, SCRIPT, text)


def clustered(path: Path, downsample: int) -> list[str]:
    """One call of `nearsql cluster`, and its row of the table."""
    before = _last_run(path)
    with second_writer(path) as writer:
        seconds, memory = _timed(
            [*_CLUSTER, str(path), *_SETTINGS, "--downsample", str(downsample)]
        )
    with closing(open_database(path, read_only=True)) as db:
        made = {space for run, space, _ in complete_runs(db) if run > before}
        cells = []
        for name, size in SIZES.items():
            n, space = sampled(size, downsample), f"{name}/features"
            assert (space in made) == (n >= 2), f"{space} at {downsample}: {n} items"
            if n < 2:
                cells.append(f"{n}: skipped")
                continue
            (found,) = db.execute(
                "select counts_json ->> 'clusters' from runs where kind = 'cluster' and id > ?"
                " and parameters_json ->> 'space' = ?",
                (before, space),
            ).fetchone()
            cells.append(f"{n:,}: {found} clusters")
    _refuse_long_wait(writer)
    return [f"--downsample {downsample}", *cells, *_figures(seconds, memory, writer)]


def assigned(path: Path) -> list[str]:
    """`nearsql assign` of what the last sample of the largest model left out."""
    with closing(open_database(path, read_only=True)) as db:
        (run,) = db.execute(
            "select max(id) from runs where kind = 'cluster'"
            " and parameters_json ->> 'space' = 'large/features'"
        ).fetchone()
    with second_writer(path) as writer:
        seconds, memory = _timed([*_CLUSTER[:-1], "assign", str(path), str(run)])
    with closing(open_database(path, read_only=True)) as db:
        complete_runs(db)
        n, agreement = db.execute(
            "select counts_json ->> 'assigned', counts_json ->> 'held_out_agreement' from runs"
            " where kind = 'assign' order by id desc limit 1"
        ).fetchone()
    _refuse_long_wait(writer)
    first = f"{n:,} assigned, agreement {agreement}"
    blank = [""] * (len(SIZES) - 1)
    return [f"assign {run}", first, *blank, *_figures(seconds, memory, writer)]


def kill(path: Path, times: int) -> str:
    """Kills calls at moments drawn from the later half of a call's duration; in words, when that was.

    The earlier half is Python's start.
    """
    command = [*_CLUSTER, str(path), *_SETTINGS, "--downsample", "100"]
    whole, _ = _timed(command)
    rng = np.random.default_rng(0)
    finished = []
    for delay in rng.uniform(0.5 * whole, whole, times).tolist():
        before = _last_run(path)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with closing(open_database(path, read_only=True)) as db:
            finished.append(sum(run > before for run, _, _ in complete_runs(db)))
    by_number = ", ".join(
        f"{finished.count(n)} after {n} of 3 models" for n in range(4) if n in finished
    )
    return (
        f"{times} calls with --downsample 100 were killed by signal 9 at random moments: {by_number}."
        " Each time the finished models' results were whole, and nothing else was there."
    )


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command. Raises CalledProcessError when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def _last_run(path: Path) -> int:
    with closing(open_database(path, read_only=True)) as db:
        return int(db.execute("select coalesce(max(id), 0) from runs").fetchone()[0])


def _refuse_long_wait(writer: dict[str, float]) -> None:
    assert writer["longest_s"] <= LONGEST_S, f"another writer waited {writer['longest_s']} s"


def _figures(seconds: float, memory: float, writer: dict[str, float]) -> list[str]:
    return [f"{seconds:.1f}", f"{memory:,.0f}", f"{writer['longest_s']:.2f}"]


if __name__ == "__main__":
    main()
