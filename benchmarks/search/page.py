"""docs/benchmarks.md, made from the stored figures."""

from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.search.bars import judged
from benchmarks.search.plots import ONE_QUERY, RECALL
from benchmarks.search.results import Result
from benchmarks.search.tables import SECTIONS, table

HEAD = """\
<!-- Made by `python -m benchmarks.search --write` from benchmarks.json: do not edit. -->

# Benchmarks of search

Every figure here comes from `python -m benchmarks.search`, which measures nearsql, its peers and the
machine's own limits in one run. Trust the ratios, which hold from machine to machine better than times
do. A time is the best of several rounds in which all that is compared takes turns; beside it stands how
far the median and the worst round lay above it. Vectors are float32.

    pip install -e ".[benchmarks]"
    python -m benchmarks.search --n 100000 --d 768 --assets FOLDER --large --write

`--assets` names a folder with `fashion-mnist/`, the data set's four gzipped idx files; `--only SECTION`
measures one section, `--quick` everything on few vectors, and `--write` brings this page up to date. The
synthetic vectors are clusters on a curved surface of 24 dimensions, with noise, of length 1, compared by
cosine.
"""

ALT = {
    ONE_QUERY: "Times of one exact query, as multiples of the time to read the matrix",
    RECALL: "Queries a second against recall, for each index",
}
DRAWINGS = {"one query": ONE_QUERY, "indexed": RECALL}


def render(results: Sequence[Result], drawn: Sequence[str]) -> str:
    """The page. drawn: the names of the drawings that there are in images/."""
    found = in_order(results)
    lines = [HEAD, "## What search must reach", ""]
    rows = [
        (one.what, one.case, one.bar, one.figure, "yes" if one.is_met else "**no**")
        for one in judged(found)
    ]
    lines += [_markdown(["", "on", "bar", "measured", "met"], rows), ""]
    for name, section in SECTIONS.items():
        ours = [one for one in found if one.section == name]
        if not ours:
            continue
        lines += [f"## {section.title}", "", section.text, ""]
        if (drawing := DRAWINGS.get(name)) in drawn and drawing:
            lines += [f"![{ALT[drawing]}](images/{drawing})", ""]
        for one in ours:
            lines += [_markdown(*table(one)), "", _how(one), ""]
    lines += ["## Machines", ""]
    for number, machine in enumerate(_machines(found), start=1):
        lines += [f"{number}. " + "; ".join(f"{key} {value}" for key, value in machine.items())]
    return "\n".join(lines) + "\n"


def in_order(results: Sequence[Result]) -> list[Result]:
    """By section, then size, then threads."""
    order = {name: i for i, name in enumerate(SECTIONS)}
    return sorted(
        results, key=lambda one: (order.get(one.section, len(order)), one.n * one.d, one.threads)
    )


def _machines(results: Sequence[Result]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for one in results:
        if one.machine not in found:
            found.append(one.machine)
    return found


def _how(one: Result) -> str:
    """When and how it was measured."""
    count = f"{one.threads} thread{'s' if one.threads > 1 else ''}"
    return f"*{count}; {one.measured_at}, load before {one.load:g}; `{one.command}`*"


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True, colalign=align)
