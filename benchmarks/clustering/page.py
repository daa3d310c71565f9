"""docs/clustering-benchmarks.md, made from the stored figures."""

from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.clustering import library, scale
from benchmarks.search.measure import Figure
from benchmarks.search.results import Result
from nearsql.pipeline.estimate import size_in_words

HEAD = """\
<!-- Made by `python -m benchmarks.clustering --write` from clustering-benchmarks.json: do not edit. -->

# Benchmarks of clustering

Every figure here comes from `python -m benchmarks.clustering`: HDBSCAN by nearsql and by the hdbscan
library, and at sizes that the library does not reach. Trust the ratios, which hold from machine to machine
better than times do. min_cluster_size is 20 and min_samples 10. Points are float32; synthetic ones are
clusters on a curved surface with background noise, of length 1.

    pip install -e ".[benchmarks]"
    python -m benchmarks.clustering --assets FOLDER --write

`--assets` names a folder with `fashion-mnist/`, the data set's four gzipped idx files; `--only SECTION`
measures one section, `--quick` everything on few points.
"""

TEXTS = {
    library.FIRST_CALL: (
        "The first call of a process",
        ("Imports included. numba compiles once, and keeps what it compiled on disk."),
    ),
    library.SECTION: (
        "Against the hdbscan library",
        (
            "On one thread, compilation excluded, in one run. The library's exact algorithm is `prims_kdtree`, "
            "which it takes by default above 60 dimensions. Equal is the share of points with the same label. "
            "Of edges that are equally long the library's sort puts now one, now the other first, depending on "
            "the CPU (`python -m benchmarks.equal_lengths`); here it is made stable, as nearsql's is."
        ),
    ),
    scale.EXACT: (
        "Exact clusters against the number of points",
        (
            "Neighbours, spanning tree and cut, in a process of its own. Memory is the most that the process "
            "had, vectors and libraries included."
        ),
    ),
    scale.GRAPH: (
        "Clusters from a graph against the number of points",
        (
            "What `neighbors = 'graph'` does, and 'auto' above 30,000 points. The time includes measuring "
            "recall and agreement: recall of the k nearest neighbours of 512 sampled points, agreement (the "
            "adjusted Rand index) of a sample of 10,000 points clustered in both ways. Synthetic points are "
            "normalised in place, as those of a space that memory has room for only once."
        ),
    ),
    scale.AGREEMENT: (
        "From a graph against exactly",
        (
            "All points clustered in both ways: the adjusted Rand index, and the share of points with the "
            "same label."
        ),
    ),
}
ORDER = tuple(TEXTS)

# The drawing at the head of a section, and what it shows.
LIBRARY, SIZES = "benchmark_hdbscan.svg", "benchmark_clustering_sizes.svg"
DRAWINGS = {
    library.SECTION: (LIBRARY, "Seconds of hdbscan and of nearsql, for each data set"),
    scale.GRAPH: (SIZES, "Seconds against the number of points, exactly and from a graph"),
}

_COLUMNS = {
    library.SECTION: (
        "hdbscan", "nearsql", "nearsql, slowest", "times as fast", "tree weight differs by", "ARI", "labels equal",
        "clusters", "noise",
    ),
    scale.EXACT: ("total", "a point", "peak memory", "clusters", "noise"),
    scale.GRAPH: (
        "total", "a point", "peak memory", "k", "probes", "recall", "agreement", "components",
        "clusters", "noise",
    ),
    scale.AGREEMENT: (
        "exact total", "total", "recall", "measured agreement", "equal labels", "clusters", "noise",
    ),
}  # fmt: skip


def table(found: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the results of one section."""
    section = found[0].section
    if section == library.FIRST_CALL:
        return ["", "s"], [[one.name, shown(one)] for one in found[0].figures]
    columns = _COLUMNS[section]
    rows = []
    for one in sorted(found, key=lambda one: (one.case.split(",")[0], one.n)):
        per_point = Figure("a point", one.value("total") / one.n * 1e6, "µs") if (
            "a point" in columns
        ) else None  # fmt: skip
        figures = [per_point if name == "a point" else one.get(name) for name in columns]
        rows.append([one.case, *("" if figure is None else shown(figure) for figure in figures)])
    return ["", *columns], rows


def shown(figure: Figure) -> str:
    """The value in words that fit it."""
    value, name = figure.value, figure.name
    if figure.unit == "bytes":
        return size_in_words(round(value))
    if figure.unit == "s":
        return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
    if figure.unit == "µs":
        return f"{value:.0f} µs"
    if figure.unit == "x":
        return f"{value:.1f}x"
    if name == "noise":
        return f"{100 * value:.1f}%"
    if name == "tree weight differs by":
        return f"{value:.0e}"
    return f"{value:g}" if value == int(value) else f"{value:.4f}"


def render(results: Sequence[Result], drawn: Sequence[str]) -> str:
    """The page. drawn: the names of the drawings that there are in images/."""
    lines = [HEAD]
    for section in ORDER:
        found = [one for one in results if one.section == section]
        if not found:
            continue
        title, text = TEXTS[section]
        headers, rows = table(found)
        align = ["left"] + ["right"] * (len(headers) - 1)
        lines += [f"## {title}", "", text, ""]
        name, shows = DRAWINGS.get(section, ("", ""))
        if name in drawn:
            lines += [f"![{shows}](images/{name})", ""]
        lines += [tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)]
        lines += ["", *sorted({_how(one) for one in found}), ""]
    plans = scale.planned(results)
    if plans:
        lines += [
            "## A plan for 3.3 million points",
            "",
            (
                f"Of {scale.DIMENSIONS} dimensions, extrapolated from the two largest graphs above: seconds a "
                "point by the power of n that they show, memory by their bytes a point."
            ),
            "",
            tabulate(
                [
                    [what, f"{n:,}", f"{seconds / 60:.0f} min", size_in_words(round(memory))]
                    for what, n, seconds, memory in plans
                ],
                ["", "points at once", "time", "memory"],
                tablefmt="pipe",
                disable_numparse=True,
                colalign=["left", "right", "right", "right"],
            ),
            "",
        ]
    lines += ["## Machines", ""]
    machines = list(
        dict.fromkeys("; ".join(f"{k} {v}" for k, v in one.machine.items()) for one in results)
    )
    lines += [f"{number}. {machine}" for number, machine in enumerate(machines, start=1)]
    return "\n".join(lines) + "\n"


def _how(one: Result) -> str:
    count = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    return f"*{one.case}: {count}; {one.measured_at}, load before {one.load:g}; `{one.command}`*  "
