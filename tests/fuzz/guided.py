"""Tries files that a fuzzer makes by what they set off: `python -m tests.fuzz.guided TARGET --minutes 10`.

atheris follows which lines of the readers each input reaches, and keeps what reaches new ones. It is not among
the test tools: `pip install atheris`. A target is one of TARGETS whose reader is Python; the first of its files
is made by atheris, the others stay as they are. Only the readers are tried, without a database, since it takes
thousands of inputs to get anywhere; it ends at the first thing found.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nearsql.pipeline", "nearsql.udfs.rle", "yaml", "csv"]):
    from nearsql.pipeline.annotations.annotate import open_labels
    from nearsql.pipeline.console import UserError
    from nearsql.pipeline.importing.parts import Options
    from nearsql.pipeline.importing.sources import opened_source
    from nearsql.pipeline.ingest import tables
    from nearsql.pipeline.select import read_ids

from nearsql.udfs.errors import SqlFunctionError
from tests.fuzz.outcomes import refused
from tests.fuzz.samples import HEIGHT, IMAGES, TARGETS, WIDTH, files_of


def _import(folder: Path) -> None:
    ids = next(folder.glob("ids.*"), None)
    images = next(folder.glob("i.json"), None)
    options = Options(ids=ids and str(ids), images=images and str(images))
    source = next(path for path in sorted(folder.iterdir()) if path.name[0] in "mrs")
    kind = "coco-results" if images else None
    with opened_source(source, kind, options) as opened:
        for part in opened.parts:
            for row in part.rows():
                assert row.problem is None or refused(row.problem).is_fine, row.problem


def _annotate(folder: Path) -> None:
    labels = open_labels("yolo" if (folder / "labels").exists() else "coco", folder)
    try:
        source = labels.source
        source.match(list(IMAGES))
        for place in IMAGES:
            truth = source.truth(place, WIDTH, HEIGHT)
            for problem in truth.problems if truth is not None else ():
                assert refused(str(problem)).is_fine, problem
    finally:
        labels.close()


def _ingest(folder: Path) -> None:
    path = next(folder.iterdir())
    with path.open("rb") as file:
        source = tables.Source(path.name, file)
        _, records = tables.read_records(source, tables.format_of(path.name))
        for _ in records:
            pass


def _ids(folder: Path) -> None:
    read_ids((folder / "ids").read_bytes().decode("utf-8", "replace"))


READERS: dict[str, Callable[[Path], None]] = {
    "import": _import,
    "annotate": _annotate,
    "ingest": _ingest,
    "ids": _ids,
}
GUIDED = tuple(
    target
    for target in TARGETS
    if target.split()[-1] in ("csv", "tsv", "jsonl", "json", "npy", "results", "coco", "yolo")
    or target.startswith("ids ")
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=GUIDED)
    parser.add_argument("--file", help="which of its files is made; default, the first")
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    sys.setrecursionlimit(5000)
    with tempfile.TemporaryDirectory() as made:
        folder, corpus = Path(made) / "given", Path(made) / "corpus"
        files = files_of(asked.target, Path(made))
        name = asked.file or next(iter(files))
        for each, data in files.items():
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_bytes(data)
        corpus.mkdir()
        (corpus / "as-it-is").write_bytes(files[name])
        read = READERS[asked.target.split()[0]]

        def attempt(data: bytes) -> None:
            (folder / name).write_bytes(data)
            said = ""
            try:
                read(folder)
            except (UserError, SqlFunctionError) as error:
                said = str(error)
            assert not said or refused(said).is_fine, said

        options = [f"-max_total_time={60 * asked.minutes:.0f}", "-max_len=2048"]
        options.append(f"-artifact_prefix={corpus}/")
        atheris.Setup([sys.argv[0], *options, str(corpus)], attempt)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
