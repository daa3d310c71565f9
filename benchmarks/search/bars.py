"""What search must reach, as ratios of figures of one run, and whether it does."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks.search import exact, floors, indexed, opening, others
from benchmarks.search.child import ADDED
from benchmarks.search.results import Result


@dataclass(frozen=True)
class Judged:
    """One bar and what was measured."""

    what: str
    case: str
    bar: str
    figure: str
    is_met: bool


def judged(results: Iterable[Result]) -> list[Judged]:
    """Every bar for which there are figures, in the order of the sections."""
    found = list(results)
    return [
        row
        for section, judge in JUDGES.items()
        for one in found
        if one.section == section and one.figures
        for row in judge(one)
    ]


def at_most(what: str, case: str, value: float, bar: float, unit: str = "x") -> Judged:
    """A bar from above."""
    return Judged(what, case, f"<= {bar:g}{unit}", f"{value:.2f}{unit}", value <= bar)


def at_least(what: str, case: str, value: float, bar: float, unit: str = "x") -> Judged:
    """A bar from below."""
    shown = f"{value:.2f}" if value < 10 else f"{value:,.0f}"
    return Judged(what, case, f">= {bar:,.10g}{unit}", f"{shown}{unit}", value >= bar)


def _share(what: str, case: str, value: float, bar: float) -> Judged:
    return Judged(what, case, f">= {bar:.0%}", f"{value:.1%}", value >= bar)


def _threads(one: Result) -> str:
    return f"{one.case}, {one.threads} thread{'s' if one.threads > 1 else ''}"


def _one_query(one: Result) -> Iterator[Judged]:
    knn = one.value(exact.KNN)
    yield at_most(
        "one exact query through SQL, to reading the matrix once",
        _threads(one),
        knn / one.value(floors.READ),
        1.2,
    )
    yield at_least(
        "the same, faster than vec0 (its quicker metric)",
        _threads(one),
        one.value(exact.VEC0_L2) / knn,
        6,
    )


def _batches(one: Result) -> Iterator[Judged]:
    if one.case.startswith("100 "):
        share = one.value(floors.PEAK) / one.value(exact.BATCH)
        yield _share("knn_batch, share of GEMM peak", _threads(one), share, 0.80)


def _graph(one: Result) -> Iterator[Judged]:
    ours = one.value(exact.GRAPH)
    yield _share(
        f"knn_graph, k = {exact.GRAPH_K}, share of GEMM peak",
        _threads(one),
        one.value(floors.PEAK) / ours,
        0.95 if one.threads == 1 else 0.90,
    )
    yield at_least(
        "knn_graph, faster than a loop over vec0",
        _threads(one),
        one.value(exact.VEC0_L2) / ours,
        80,
    )


def _indexed(one: Result) -> Iterator[Judged]:
    if "Fashion" not in one.case:
        return
    name = indexed.as_built(indexed.nearsql_name("hnsw"))
    ours = one.get(name)
    if ours is None:
        return
    recall = ours.also["recall"]
    yield Judged(
        "indexed query (hnsw, as built), recall@10",
        _threads(one),
        f">= {indexed.RECALL}",
        f"{recall:.4f}",
        recall >= indexed.RECALL,
    )
    yield at_least(
        "the same, faster than exact",
        _threads(one),
        one.value(indexed.EXACT) / ours.value,
        20,
    )
    bare = one.value(indexed.as_built(indexed.faiss_name("hnsw")))
    yield at_most(
        "the same, to bare faiss with the same index", _threads(one), ours.value / bare, 1.25
    )


def _opening(one: Result) -> Iterator[Judged]:
    yield at_most(
        "opening a file and the first exact answer, to reading its bytes once",
        _threads(one),
        one.value(opening.EXACT) / one.value(opening.READ_FILE),
        2.5,
    )
    yield at_most(
        "opening a file and the first answer by an ivf index",
        _threads(one),
        one.value(opening.INDEXED),
        1,
        " s",
    )


def _rows_added(one: Result) -> Iterator[Judged]:
    warm = one.value(opening.WARM)
    more = one.value(opening.CHANGED) - warm
    share = max(0.0, more) / (one.value(opening.FULL_LOAD) - warm)
    yield Judged(
        f"{ADDED:,} rows added: what the next knn takes more, of a full load",
        _threads(one),
        "<= 5%",
        f"{share:.1%}",
        share <= 0.05,
    )


def _inserting(one: Result) -> Iterator[Judged]:
    ours = one.value(others.INSERT)
    yield at_least("inserting, change log included", one.case, 1 / ours, 50_000, " rows/s")
    for what, name in (
        ("the same, faster than vec0 in a file as SQLite makes it", others.INSERT_VEC0),
        ("the same, faster than vec0 in a file with nearsql's settings", others.INSERT_VEC0_HERE),
    ):
        yield at_least(what, one.case, one.value(name) / ours, 2)


def _datasette(one: Result) -> Iterator[Judged]:
    alone, together = (one.value(others.clients_name(clients)) for clients in others.CLIENTS)
    yield at_least(
        f"{others.CLIENTS[1]} clients at once through Datasette, queries a second, to one client's",
        _threads(one),
        alone / together,
        1,
    )


def _any_k(one: Result) -> Iterator[Judged]:
    for figure in one.figures:
        k, rows = figure.also["k"], figure.also["rows"]
        if k > exact.K:
            yield Judged(
                "any k: different rows given",
                _threads(one),
                f"{min(k, one.n):,.0f}",
                f"{rows:,.0f}",
                rows == min(k, one.n),
            )


JUDGES: dict[str, Callable[[Result], Iterator[Judged]]] = {
    "one query": _one_query,
    "batches": _batches,
    "graph": _graph,
    "indexed": _indexed,
    "opening": _opening,
    "rows added": _rows_added,
    "inserting": _inserting,
    "datasette": _datasette,
    "any k": _any_k,
}
