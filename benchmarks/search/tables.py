"""Figures in rows and columns, for the terminal and for the page."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.search import exact, floors, indexed, opening, others
from benchmarks.search.child import ADDED
from benchmarks.search.measure import Figure
from benchmarks.search.results import Result
from nearsql.pipeline.estimate import size_in_words


@dataclass(frozen=True)
class Section:
    """How the figures of a section are shown."""

    title: str
    text: str
    # The figure that the others are compared with, and how that column is called.
    reference: str | None = None
    ratio: str = ""
    is_share: bool = False  # the reference's part of a time, rather than how often it fits in


SECTIONS = {
    "floors": Section(
        "The machine's limits",
        "Nothing that reads every vector can be faster than reading them; nothing that computes all "
        "distances of many queries, faster than the matrix product of the same size (GEMM, by numpy's "
        "OpenBLAS).",
    ),
    "one query": Section(
        "One exact query",
        "Ten neighbours, everything warm, through SQL where it is nearsql or sqlite-vec. The floor is "
        "the quickest of several ways to read each number of the matrix once. vec0's table is in a file "
        "with nearsql's page and cache sizes, in which it is faster than with SQLite's own.",
        floors.READ,
        "x floor",
    ),
    "small spaces": Section(
        "One exact query in a small space",
        "What a call costs by itself counts here: parsing SQL, checking that nothing changed, computing "
        "distances in float64, giving rows.",
        floors.READ,
        "x floor",
    ),
    "batches": Section(
        "Batches",
        "Ten neighbours of many queries. GEMM peak is the time that the operations of this many "
        "distances take at the rate of large matrix products, measured in the same rounds.",
        floors.PEAK,
        "of GEMM peak",
        is_share=True,
    ),
    "graph": Section(
        "All against all",
        f"The {exact.GRAPH_K} nearest other vectors of every vector, from end to end. The peak is the "
        "products of every vector with every vector; the graph needs half of them, since a product "
        "of two vectors counts for both, and may thus take less time than the peak. Some of the "
        "products and some vec0 queries are measured, and extrapolated to all rows.",
        floors.PEAK,
        "of GEMM peak",
        is_share=True,
    ),
    "any k": Section(
        "Any k",
        "From ten neighbours to all vectors in the order of their distance.",
        f"nearsql: knn, k = {exact.K}",
        "x k = 10",
    ),
    "indexed": Section(
        "With an index",
        "Ten neighbours of queries that are not among the vectors, one after the other; recall@10 is of "
        "1,000 queries, against brute force. `as built` is with the effort that `nearsql index` chose for "
        "a recall of 0.99 on a sample of its own. Bare faiss is the same index's bytes, searched with "
        "the same effort, and exact distances of as many candidates computed with numpy from vectors in "
        "memory. An effort is efSearch (hnsw, hnswlib, usearch) or nprobe (ivf).",
    ),
    "opening": Section(
        "Opening a file",
        "Each time is of a new process; the file is in the system's page cache. Imports are not in the "
        "answers' times, and stand beside them.",
        opening.READ_FILE,
        "x reading",
    ),
    "rows added": Section(
        "Rows added to a space in memory",
        f"{ADDED:,} rows are inserted and committed, then the next search finds the last of them.",
        opening.FULL_LOAD,
        "x full load",
    ),
    "inserting": Section(
        "Inserting",
        "The time of one row, into new files on the same disk, commits and write-ahead log included, one "
        "thread (`python -m benchmarks.inserting`).",
        others.INSERT_VEC0,
        "x vec0",
    ),
    "datasette": Section(
        "Many at once, through Datasette",
        f"The time of one exact query over HTTP, of a Datasette with {others.SQL_THREADS} threads for "
        "SQL, from one client and from several (`python -m benchmarks.datasette_threads`). A sample of "
        "the answers was compared with brute force in float64.",
        others.clients_name(1),
        "x one client",
    ),
}


def shown(value: float, unit: str) -> str:
    """`12.3 ms`, `0.85 s`, `64 MB`, ..."""
    if unit == "s":
        for scale, name in ((1.0, "s"), (1e-3, "ms")):
            if value >= scale:
                return f"{value / scale:.3g} {name}" if value < 1000 else f"{value:,.0f} s"
        return f"{value * 1e6:.3g} us"
    if unit == "bytes":
        return size_in_words(value)
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def spread(figure: Figure) -> str:
    """How far the rounds lay from the best: `median +2%, worst +9%`."""
    if figure.median is None or figure.worst is None or figure.rounds < 2:
        return "1 round" if figure.unit == "s" else ""
    over = [t / figure.value - 1 for t in (figure.median, figure.worst)]
    return f"+{over[0]:.0%} / +{over[1]:.0%} of {figure.rounds}"


Table = tuple[list[str], list[list[str]]]


def table(result: Result) -> Table:
    """(headers, rows) of a result."""
    if result.section == "indexed":
        return _indexed(result)
    section = SECTIONS[result.section]
    reference = result.get(section.reference) if section.reference else None
    has_notes = any(one.note for one in result.figures) or bool(result.missing)
    headers = [result.case, "best", "median / worst"]
    headers += [section.ratio] if reference else []
    headers += [""] if has_notes else []
    rows = []
    for one in result.figures:
        row = [one.name, shown(one.value, one.unit), spread(one)]
        if reference:
            row.append(ratio(one, reference, section.is_share))
        rows.append([*row, one.note] if has_notes else row)
    for name, why in result.missing.items():
        rows.append([name, *[""] * (len(headers) - 2), why])
    return headers, rows


def ratio(one: Figure, reference: Figure, is_share: bool) -> str:
    """A figure's ratio to the reference, or the reference's share of it."""
    if one.unit != reference.unit:
        return ""
    if is_share:
        return f"{reference.value / one.value:.1%}"
    return f"{one.value / reference.value:.2f}"


def _indexed(result: Result) -> Table:
    headers = [result.case, "recall@10", "a query", "median / worst", "x exact", "size", "build"]
    slow = result.get(indexed.EXACT)
    rows = []
    for one in result.figures:
        row = [one.name, f"{one.also['recall']:.4f}", shown(one.value, "s"), spread(one)]
        row.append(f"1/{slow.value / one.value:.1f}" if slow and one is not slow else "1")
        for key, unit in (("bytes", "bytes"), ("build", "s")):
            row.append(shown(one.also[key], unit) if key in one.also else "")
        rows.append(row)
    for name, why in result.missing.items():
        rows.append([name, why, *[""] * (len(headers) - 2)])
    return headers, rows


def text_bars(result: Result, width: int = 50) -> list[str]:
    """The ratios as bars of text, for a terminal."""
    section = SECTIONS[result.section]
    reference = result.get(section.reference) if section.reference else None
    if reference is None:
        return []
    values: list[tuple[str, float, str]] = []
    for one in result.figures:
        if one.unit == reference.unit and one is not reference and one.value > 0:
            value = reference.value / one.value if section.is_share else one.value / reference.value
            values.append((one.name, value, ratio(one, reference, section.is_share)))
    if not values:
        return []
    largest = max(1.0, *(value for _, value, _ in values))
    name_width = max(len(name) for name, _, _ in values)
    length: Callable[[float], int] = lambda value: max(1, round(width * value / largest))
    return [f"{name:{name_width}} {'#' * length(value)} {label}" for name, value, label in values]
