"""Sections that other benchmarks measure: this run asks them, so that their figures are on the page."""

from collections.abc import Iterator

import numpy as np

from benchmarks import datasette_threads
from benchmarks import inserting as inserting_
from benchmarks.search.data import clustered
from benchmarks.search.measure import of_rounds
from benchmarks.search.results import Result, case
from benchmarks.search.setup import Setup

INSERT = inserting_.NEARSQL
INSERT_PLAIN = inserting_.NO_TRIGGERS
INSERT_VEC0 = inserting_.VEC0
INSERT_VEC0_HERE = inserting_.VEC0_HERE

SQL_THREADS = 8  # of Datasette
CLIENTS = (1, 8)
# Answers that are compared with brute force in float64, which takes longer than they did.
CHECKED = 40


def clients_name(clients: int) -> str:
    """The figure of so many clients at the same time."""
    return "1 client, which waits for each answer" if clients == 1 else f"{clients} clients at once"


def inserting(setup: Setup) -> Iterator[Result]:
    """Inserting vectors, by `benchmarks.inserting`: seconds a row."""
    n, d = (min(setup.n, 50_000), setup.d)
    rates = inserting_.measure(n, d, 2 if setup.quick else 4)
    figures = [
        of_rounds(name, [1 / rate for rate in found], note=f"{max(found):,.0f} rows/s")
        for name, found in rates.items()
    ]
    yield Result("inserting", case(n, d), n, d, 1, figures)


def datasette(setup: Setup) -> Iterator[Result]:
    """Exact queries over HTTP, by `benchmarks.datasette_threads`: seconds a query."""
    n, d = setup.n, setup.d
    path = setup.file(n, d)
    rng = np.random.default_rng(1)
    queries, rounds = (16, 2) if setup.quick else (120, 5)
    times: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    answers: list[datasette_threads.Answer] = []
    with datasette_threads.served(path, SQL_THREADS, setup.threads) as port:
        page = datasette_threads.page_of(port, path.stem)
        datasette_threads.ask(port, page, [1], [])  # loads the matrix
        for _ in range(rounds):
            for clients, found in times.items():
                items = rng.integers(1, n + 1, queries).tolist()
                rate, given = datasette_threads.measure(port, page, items, clients)
                found.append(1 / rate)
                answers += given
    chosen = rng.choice(len(answers), min(CHECKED, len(answers)), replace=False)
    datasette_threads.check(clustered(n, d), [answers[i] for i in chosen])
    figures = [
        of_rounds(clients_name(clients), found, note=f"{1 / min(found):,.0f} queries/s")
        for clients, found in times.items()
    ]
    yield Result("datasette", case(n, d), n, d, setup.threads, figures)
