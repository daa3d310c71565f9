"""What must be measured in a process of its own, which prints seconds as JSON.

`python -m benchmarks.search.child read PATH`, `... answer PATH`, `... change PATH ROUNDS`
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

CHUNK = 1 << 30
ADDED = 1000


def read(path: Path) -> dict[str, float]:
    """Reads the file's bytes once, into memory that nothing has used yet."""
    started = time.perf_counter()
    out = np.empty(path.stat().st_size, np.uint8)
    view = out.data
    at = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(view[at : at + CHUNK]):
            at += count
    assert at == len(view)
    return {"read": time.perf_counter() - started}


def answer(path: Path) -> dict[str, float]:
    """Imports everything, then opens the file and asks one query, and the same once more."""
    started = time.perf_counter()
    import faiss  # noqa: F401 - so that the query need not import it

    from benchmarks.search.data import SPACE, clustered
    from nearsql.udfs import catalogue, connection

    catalogue.load()
    imported = time.perf_counter()
    db = connection.connect(path)
    ((d, n),) = db.execute(
        "select dimensions, (select max(id) from items) from spaces where name = ?", (SPACE,)
    ).fetchall()
    db.close()
    query = clustered(1, d, seed=1).tobytes()
    found = {"imports": imported - started, "n": float(n)}
    before = time.perf_counter()
    db = connection.connect(path)
    first = db.execute("select id, distance from knn(?, ?, 10)", (SPACE, query)).fetchall()
    found["first answer"] = time.perf_counter() - before
    before = time.perf_counter()
    assert db.execute("select id, distance from knn(?, ?, 10)", (SPACE, query)).fetchall() == first
    found["second answer"] = time.perf_counter() - before
    found["peak memory"] = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    db.close()
    return found


def change(path: Path, rounds: int) -> dict[str, list[float]]:
    """Loads a space, then adds rows and asks for the last of them, several times."""
    import faiss  # noqa: F401

    from benchmarks.search.data import SPACE, clustered, insert_blobs, insert_items
    from nearsql.udfs import connection

    db = connection.connect(path)
    ((d, n),) = db.execute(
        "select dimensions, (select max(id) from items) from spaces where name = ?", (SPACE,)
    ).fetchall()
    new = clustered(ADDED * rounds, d, seed=n)  # others than an earlier child added
    sql = "select id from knn(?, ?, 10)"

    def ask(query: bytes) -> tuple[float, int]:
        started = time.perf_counter()
        rows = db.execute(sql, (SPACE, query)).fetchall()
        return time.perf_counter() - started, rows[0][0]

    found: dict[str, list[float]] = {"load": [ask(new[0].tobytes())[0]], "warm": [], "changed": []}
    for i in range(rounds):
        found["warm"].append(ask(new[0].tobytes())[0])
        added = new[i * ADDED : (i + 1) * ADDED]
        first = n + 1 + i * ADDED
        with db:
            insert_items(db, first, ADDED)
            insert_blobs(db, first, added)
        took, nearest = ask(added[-1].tobytes())
        assert nearest == first + ADDED - 1, "a row that was just added is its own nearest"
        found["changed"].append(took)
    db.close()
    return found


def main() -> None:
    """Runs one of them."""
    mode, path, *rest = sys.argv[1:]
    if mode == "read":
        print(json.dumps(read(Path(path))))
    elif mode == "answer":
        print(json.dumps(answer(Path(path))))
    else:
        print(json.dumps(change(Path(path), int(rest[0]))))


if __name__ == "__main__":
    main()
