"""How long does an import take, beside the bare inserts? `python -m benchmarks.importing [--n 100000 --d 768]`

Into new files on the same disk, in turns, the items being there before: `import_file` of a Parquet file with a
column of lists; and the same vectors, already in memory as BLOBs, by `insert_vectors` in transactions of
as many rows, with nothing read, matched or hashed. Prints the seconds of each's fastest
round, since what else runs on a machine only adds, with the steps of that import as its run records them; and
the median, over the rounds, of how often the import takes the time of the inserts just before it: a disk's
speed changes from one to the next. With --write the table goes into docs/import.md.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet
from tabulate import tabulate

from benchmarks.marked import write_between_marks
from nearsql.pipeline.importing import import_file
from nearsql.pipeline.importing.run import BATCH_ROWS
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

PAGE = Path(__file__).parents[1] / "docs" / "import.md"


def new_file(path: Path, n: int) -> dbapi.Connection:
    """A file with n text items, 1 to n."""
    db = connection.create(path)
    with immediate(db):
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', ?, ?, ?)",
            ((i, f"{i:064x}", f"text number {i}", i - 1) for i in range(1, n + 1)),
        )
    return db


def bare(path: Path, vectors: list[tuple[int, bytes]], d: int) -> float:
    """Seconds of the inserts alone, commits included."""
    db = new_file(path, len(vectors))
    started = time.perf_counter()
    with immediate(db):
        space_id = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', ?, 'cosine')",
            (d,),
        ).lastrowid
    assert space_id is not None
    for start in range(0, len(vectors), BATCH_ROWS):
        with immediate(db):
            insert_vectors(db, space_id, None, vectors[start : start + BATCH_ROWS])
    taken = time.perf_counter() - started
    db.close()
    return taken


def imported(path: Path, source: Path, n: int) -> tuple[float, dict[str, float]]:
    """Seconds of the import, and of its steps."""
    db = new_file(path, n)
    started = time.perf_counter()
    (result,) = import_file(db, str(source), match="id", space="s")
    taken = time.perf_counter() - started
    assert result.counts["vectors"] == n, result.counts
    (timings,) = db.execute(
        "select timings_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    db.close()
    steps = {name: ms / 1000 for name, ms in json.loads(timings).items()}
    # The SHA-256 of the file, the ids of the items, the run itself.
    return taken, {**steps, "all else": taken - sum(steps.values())}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    matrix = np.random.default_rng(0).normal(size=(asked.n, asked.d)).astype(np.float32)
    times: dict[str, list[float]] = {"bare": [], "import": []}
    steps: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "vectors.parquet")
        lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(matrix.ravel()), asked.d)
        parquet.write_table(
            pyarrow.table({"id": np.arange(1, asked.n + 1), "vector": lists}), source
        )
        vectors = [(i + 1, row.tobytes()) for i, row in enumerate(matrix)]
        del matrix, lists
        for number in range(asked.rounds):
            path = Path(folder, f"bare{number}.db")
            times["bare"].append(bare(path, vectors, asked.d))
            path.unlink()
            path = Path(folder, f"import{number}.db")
            taken, of_steps = imported(path, source, asked.n)
            path.unlink()
            times["import"].append(taken)
            steps.append(of_steps)
    fastest = {name: min(found) for name, found in times.items()}
    rows = [["the bare inserts", f"{fastest['bare']:.2f}", "1.00"]]
    rows.append(
        [
            "`nearsql import`",
            f"{fastest['import']:.2f}",
            f"{fastest['import'] / fastest['bare']:.2f}",
        ]
    )
    for name, of_step in steps[times["import"].index(fastest["import"])].items():
        rows.append([f"... of it: {name}", f"{of_step:.2f}", f"{of_step / fastest['bare']:.2f}"])
    ratios = [own / others for own, others in zip(times["import"], times["bare"], strict=True)]
    rows.append(["median of the rounds", "", f"{np.median(ratios):.2f}"])
    headers = [f"{asked.n:,} x {asked.d:,} from Parquet", "seconds", "x bare inserts"]
    text = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
    print(text)
    print("all rounds, seconds:", {k: [round(x, 2) for x in v] for k, v in times.items()})
    if asked.write:
        write_between_marks(PAGE, "python -m benchmarks.importing", text)


if __name__ == "__main__":
    main()
