"""Does Datasette answer eight at once as fast as one? `python -m benchmarks.datasette_threads`

Serves one file by a real Datasette in a process of its own, and asks it for the exact nearest neighbours
of random items: from one client that waits for each answer, then from several at the same time. Clients
keep their connection open. Every answer is compared with brute force in float64.

Prints queries a second and how they compare with one client's, for each number of Datasette's threads
(its setting num_sql_threads, 3 by default: as many queries as that run at the same time, the others
wait). Rounds take turns, the best of each counts.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from benchmarks.search.data import SPACE, clustered, fill

K = 10
SQL = f"select id, distance from knn(:space, cast(:item as integer), {K}, null, 1)"
CLIENTS = (1, 2, 8)
CHECKED = 100  # answers checked at a time


@contextmanager
def served(path: Path, sql_threads: int, search_threads: int) -> Iterator[int]:
    """Datasette with that file in a process of its own; gives the port it listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "datasette", "serve", str(path), "--port", str(port)]
    for setting, value in (("num_sql_threads", sql_threads), ("sql_time_limit_ms", 60_000)):
        command += ["--setting", setting, str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(search_threads)}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("Datasette did not start: " + " ".join(command)) from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def page_of(port: int, name: str) -> str:
    """Where Datasette answers SQL: `/db.json` in 0.65, `/db/-/query.json` in 1.0."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/-/versions.json")
    versions = json.loads(connection.getresponse().read())
    connection.close()
    is_first_line = versions["datasette"]["version"].startswith("0.")
    return f"/{name}.json" if is_first_line else f"/{name}/-/query.json"


Answer = tuple[int, list[tuple[int, float]]]


def ask(port: int, page: str, items: list[int], answers: list[Answer]) -> None:
    """One client: the neighbours of each item, one after the other, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for item in items:
        query = urlencode({"sql": SQL, "space": SPACE, "item": item, "_shape": "arrays"})
        connection.request("GET", f"{page}?{query}")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"Datasette answered {response.status}: {body.decode()[:500]}")
        answers.append((item, [(i, d) for i, d in json.loads(body)["rows"]]))
    connection.close()


def measure(port: int, page: str, items: list[int], clients: int) -> tuple[float, list[Answer]]:
    """(queries a second, answers): the items shared out among so many clients."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=ask, args=(port, page, items[i::clients], answers))
        for i in range(clients)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if len(answers) != len(items):
        raise SystemExit(f"only {len(answers)} of {len(items)} queries were answered")
    return len(items) / elapsed, answers


def check(vectors: NDArray[np.float32], answers: list[Answer]) -> None:
    """Every answer against float64 brute force: its distances, and that each is its item's."""
    exact = vectors.astype(np.float64)
    exact /= np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    for start in range(0, len(answers), CHECKED):
        block = answers[start : start + CHECKED]
        own = [item - 1 for item, _ in block]
        all_distances = 1 - exact[own] @ exact.T
        all_distances[np.arange(len(own)), own] = np.inf  # an item is not its own neighbour
        for (item, neighbours), distances in zip(block, all_distances, strict=True):
            wanted = np.sort(np.partition(distances, K)[:K])
            found = [distance for _, distance in neighbours]
            of_items = distances[[i - 1 for i, _ in neighbours]]
            if len(found) != K or not (
                np.allclose(found, wanted, atol=1e-12) and np.allclose(found, of_items, atol=1e-12)
            ):
                raise SystemExit(f"wrong neighbours of item {item}: {neighbours}")


def main() -> None:
    """Builds the file, asks, checks, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="vectors")
    parser.add_argument("--d", type=int, default=768, help="dimensions")
    parser.add_argument("--queries", type=int, default=96, help="in each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a search")
    parser.add_argument("--sql-threads", type=int, nargs="*", default=[3, 8])
    arguments = parser.parse_args()
    vectors = clustered(arguments.n, arguments.d)
    rng = np.random.default_rng(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "search.db"
        fill(path, iter([vectors]), arguments.d, "cosine")
        for sql_threads in arguments.sql_threads:
            with served(path, sql_threads, arguments.threads) as port:
                page = page_of(port, path.stem)
                ask(port, page, [1], [])  # loads the matrix
                best = dict.fromkeys(CLIENTS, 0.0)
                answers: list[Answer] = []
                for _ in range(arguments.rounds):
                    for clients in CLIENTS:
                        items = rng.integers(1, arguments.n + 1, arguments.queries).tolist()
                        rate, found = measure(port, page, items, clients)
                        best[clients] = max(best[clients], rate)
                        answers += found
            check(vectors, answers)
            rows += [(sql_threads, clients, rate, rate / best[1]) for clients, rate in best.items()]
            print(f"{len(answers)} answers with num_sql_threads {sql_threads}: all right")
    print(f"\n{arguments.n:,} x {arguments.d}, k = {K}, {arguments.threads} threads of a search")
    headers = ["num_sql_threads", "clients", "queries/s", "x one client"]
    print(tabulate(rows, headers, floatfmt=("", "", ".1f", ".2f")))


if __name__ == "__main__":
    main()
