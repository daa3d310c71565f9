"""Another program that writes to the file all the time, with Python's own sqlite3, and how long it waits.

`python -m benchmarks.per_model.second_writer FILE` writes until its standard input is closed, and then
prints {"writes": ..., "longest_s": ...}: the longest time that one small transaction took, waiting
included.
"""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAUSE_S = 0.005


def write_until_told(path: str) -> dict[str, float]:
    """Small transactions one after the other; numbers of them, and the seconds of the longest."""
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    db = sqlite3.connect(path, timeout=600, isolation_level=None)
    writes, longest = 0, 0.0
    while not stop.is_set():
        start = time.perf_counter()
        db.execute("begin immediate")
        db.execute(
            "insert into metadata (key, value) values ('second writer', ?)"
            " on conflict (key) do update set value = excluded.value",
            (str(writes),),
        )
        db.execute("commit")
        longest = max(longest, time.perf_counter() - start)
        writes += 1
        time.sleep(PAUSE_S)
    db.close()
    return {"writes": writes, "longest_s": round(longest, 3)}


@contextmanager
def second_writer(path: Path) -> Iterator[dict[str, float]]:
    """Lets one write during the block; what it prints is in the dictionary afterwards."""
    told: dict[str, float] = {}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.per_model.second_writer", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield told
    finally:
        output, _ = process.communicate("")
        told |= json.loads(output)


if __name__ == "__main__":
    print(json.dumps(write_until_told(sys.argv[1])))
