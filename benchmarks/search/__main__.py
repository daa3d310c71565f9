"""Search beside its peers and the machine's limits, in one run: `python -m benchmarks.search`

Prints each section's figures as ratios to a floor or a peer, and which bars they reach. With --write they
are stored in docs/benchmarks.json, in place of older ones of the same section and size, and
docs/benchmarks.md and its drawings are made anew from all that is stored there.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import faiss
from tabulate import tabulate

from benchmarks.search import exact, floors, indexed, opening, others, results
from benchmarks.search.bars import judged
from benchmarks.search.results import Result
from benchmarks.search.setup import Refused, Setup
from benchmarks.search.tables import SECTIONS, table, text_bars

MEASURES: dict[str, Callable[[Setup], Iterator[Result]]] = {
    "floors": floors.measure,
    "one query": exact.one_query,
    "small spaces": exact.small_spaces,
    "batches": exact.batches,
    "graph": exact.graph,
    "any k": exact.any_k,
    "indexed": indexed.measure,
    "opening": opening.opening,
    "rows added": opening.changes,
    "inserting": others.inserting,
    "datasette": others.datasette,
}
FULL, QUICK = (100_000, 768), (3_000, 64)
DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE = "benchmarks.json", "benchmarks.md"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--n", type=int, help=f"synthetic vectors (default {FULL[0]})")
    parser.add_argument("--d", type=int, help=f"their dimensions (default {FULL[1]})")
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    parser.add_argument("--rounds", type=int, help="in which calls take turns (default 10)")
    parser.add_argument("--quick", action="store_true", help="few vectors, few rounds")
    parser.add_argument(
        "--large", action="store_true", help="also 1,000,000 x 768: 12 GB of memory, 10 of disk"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[name.replace(" ", "-") for name in MEASURES],
        help="this section; may be repeated",
    )
    parser.add_argument(
        "--assets",
        type=Path,
        default=os.environ.get("NEARSQL_ASSETS"),
        help="the folder with fashion-mnist/ (default: what NEARSQL_ASSETS names)",
    )
    parser.add_argument("--write", action="store_true", help="store the figures, write the page")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write the page from stored figures"
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="the page's folder")
    parser.add_argument("--json", type=Path, help="store this run's figures alone in that file")
    return parser.parse_args()


def command(arguments: Sequence[str]) -> str:
    """The command as it was given, without what names a folder of this machine."""
    words, left_out = ["python", "-m", "benchmarks.search"], False
    for word in arguments:
        name, given, _ = word.partition("=")
        is_path = name in ("--assets", "--docs", "--json")
        if not (is_path or left_out):
            words.append(word)
        left_out = is_path and not given
    return shlex.join(words)


def show(result: Result) -> None:
    """Prints a result: a table, and its ratios as bars."""
    count = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    print(f"\n{SECTIONS[result.section].title}, {count}, load before {result.load:g}")
    headers, rows = table(result)
    print(tabulate(rows, headers, disable_numparse=True))
    for line in text_bars(result):
        print(f"  {line}")
    sys.stdout.flush()


def show_bars(found: Sequence[Result]) -> None:
    """Prints each bar, the figure and whether it is met."""
    rows = [
        (one.what, one.case, one.bar, one.figure, "met" if one.is_met else "NOT MET")
        for one in judged(found)
    ]
    print()
    print(tabulate(rows, ["", "on", "bar", "measured", ""], disable_numparse=True))


def store(docs: Path, found: Sequence[Result]) -> None:
    """Stores all figures."""
    from benchmarks.search import page

    results.write(docs / JSON, page.in_order(found))


def write_page(docs: Path, found: Sequence[Result]) -> None:
    """Stores all figures, and makes the page and its drawings from them."""
    from benchmarks.search import page, plots

    store(docs, found)
    drawn = plots.draw(page.in_order(found), docs / "images")
    (docs / PAGE).write_text(page.render(found, drawn), encoding="utf-8")


def measure(setup: Setup, names: Sequence[str], given: str) -> Iterator[Result]:
    """The results of these sections, each with when and how it was measured."""
    machine = results.machine()
    for name in names:
        load, at = results.load(), results.now()
        for one in MEASURES[name](setup):
            one.measured_at, one.load, one.command, one.machine = at, load, given, machine
            yield one
            load, at = results.load(), results.now()


def main() -> None:
    """Measures, prints, stores."""
    given = options()
    if given.write or given.render:
        try:
            import matplotlib  # noqa: F401 - asked for before an hour of measuring, not after
        except ImportError:
            sys.exit("The page's drawings need matplotlib: pip install -e '.[benchmarks]'")
    stored = results.read(given.docs / JSON)
    if given.render:
        write_page(given.docs, stored)
        return
    n, d = QUICK if given.quick else FULL
    names = [name.replace("-", " ") for name in given.only or MEASURES]
    print("; ".join(f"{key} {value}" for key, value in results.machine().items()))
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(
            Path(folder),
            given.n or n,
            given.d or d,
            given.threads,
            given.rounds or (3 if given.quick else 10),
            given.quick,
            given.large,
            Path(given.assets) if given.assets else None,
        )
        try:
            for one in measure(setup, names, command(sys.argv[1:])):
                found.append(one)
                show(one)
                if given.write:  # at once: what was measured stays, whatever comes
                    store(given.docs, results.merged(stored, found))
        except Refused as refusal:
            sys.exit(str(refusal))
        finally:
            if given.write:
                write_page(given.docs, results.merged(stored, found))
    show_bars(found)
    if given.json:
        results.write(given.json, found)


if __name__ == "__main__":
    main()
