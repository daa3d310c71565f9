"""HDBSCAN beside the hdbscan library and at scale: `python -m benchmarks.clustering`

Prints each section's figures. With --write they are stored in docs/clustering-benchmarks.json, in place of
older ones of the same section and size, and docs/clustering-benchmarks.md and its drawings are made anew
from all that is stored there.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import faiss
from tabulate import tabulate

from benchmarks.clustering import library, page, scale
from benchmarks.search import results
from benchmarks.search.results import Result

DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE = "clustering-benchmarks.json", "clustering-benchmarks.md"
LIBRARY = "library"
SECTIONS = (LIBRARY, scale.EXACT, scale.GRAPH, scale.AGREEMENT)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clustering",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    parser.add_argument("--quick", action="store_true", help="few points: whether it works")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="this section; may be repeated"
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
    return parser.parse_args()


def measure(given: argparse.Namespace) -> Iterator[Result]:
    """The results of the sections asked for."""
    sections = given.only or SECTIONS
    assets = Path(given.assets) if given.assets else None
    if LIBRARY in sections:
        yield from library.measure(assets, given.quick)
    yield from scale.measure(sections, given.threads, assets, given.quick)


def command(given: argparse.Namespace) -> str:
    """The command, without what names a folder of this machine."""
    words = [f"--only {section}" for section in given.only or ()]
    words += ["--quick"] * given.quick + ["--assets FOLDER"] * bool(given.assets)
    return " ".join(["python -m benchmarks.clustering", *words, f"--threads {given.threads}"])


def write_page(docs: Path, found: Sequence[Result]) -> None:
    """Stores all figures, and makes the page and its drawings from them."""
    from benchmarks.clustering import plots

    results.write(docs / JSON, found)
    drawn = plots.draw(found, docs / "images")
    (docs / PAGE).write_text(page.render(found, drawn), encoding="utf-8")


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
    machine = results.machine()
    print("; ".join(f"{key} {value}" for key, value in machine.items()))
    found: list[Result] = []
    load, at = results.load(), results.now()
    for one in measure(given):
        one.measured_at, one.load, one.command, one.machine = at, load, command(given), machine
        found.append(one)
        headers, rows = page.table([one])
        print(f"\n{page.TEXTS[one.section][0]}, load before {load:g}")
        print(tabulate(rows, headers, disable_numparse=True))
        sys.stdout.flush()
        if given.write:  # at once: what was measured stays, whatever comes
            write_page(given.docs, results.merged(stored, found))
        load, at = results.load(), results.now()


if __name__ == "__main__":
    main()
