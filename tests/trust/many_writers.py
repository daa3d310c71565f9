"""`python -m tests.trust.many_writers --rows 80000`: eight processes write to one file, and another reads it.

Each writer is a process of its own. It ingests its share of the texts in parts, each a run, and gives every
text of its own a vector in a space that all share. A tenth of its texts the next writer has, too, so that
two race for the same item. The reader asks all the while, in one transaction each time: no text is there
twice, no place in the collection either, vectors belong to items, the space's log ends at its generation,
and nothing that was there is gone.

At the end every text must be there once, every writer's every run be finished, `PRAGMA integrity_check` ok,
and `nearsql check` find nothing wrong.

With --minutes 10 the writers take as long, and with --datasette a server shows the file meanwhile, whose
pages and SQL are asked without a pause: each answer must be 200.
"""

import argparse
import csv
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from nearsql.udfs import connection, dbapi

WRITERS = 8
COLLECTION, SPACE, DIMENSIONS = "texts", "shared", 8
PART = 500  # texts of one run
PATIENCE = 600.0
# Each writes to the same rows as the next: one in so many.
SHARED = 10


@dataclass
class Report:
    """What was seen. errors: in words. reads, answers: how many."""

    errors: list[str] = field(default_factory=list)
    reads: int = 0
    items: int = 0  # at the last read
    answers: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds, of an answer

    def check(self, is_right: object, what: str) -> None:
        """Notes what is not right."""
        if not is_right:
            self.errors.append(what)


def texts_of(writer: int, rows: int) -> list[str]:
    """The texts of a writer: its own, of which the next one has a tenth, and a tenth of the one before."""
    each = rows // WRITERS
    own = [f"text {number} of writer {writer}" for number in range(each)]
    before = (writer - 1) % WRITERS
    theirs = [f"text {number} of writer {before}" for number in range(0, each, SHARED)]
    return [text for pair in zip(own, [*theirs, *own], strict=False) for text in pair][
        : 2 * len(theirs)
    ] + own


def write(path: Path, writer: int, rows: int, seconds: float) -> None:
    """What one writer does, in parts, spread over the seconds."""
    from nearsql.pipeline.ingest import ingest_texts
    from nearsql.pipeline.runs import immediate
    from nearsql.pipeline.vectors import insert_vectors

    texts = list(dict.fromkeys(texts_of(writer, rows)))
    parts = [texts[start : start + PART] for start in range(0, len(texts), PART)]
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(connection.open_database(path)) as db,
    ):
        (space,) = db.execute("select id from spaces where name = ?", (SPACE,)).fetchone()
        for number, part in enumerate(parts):
            table = Path(folder) / f"{number}.csv"
            with table.open("w", newline="") as file:
                csv.writer(file).writerows([["text"], *([text] for text in part)])
            ingest_texts(db, table, text="text", collection=COLLECTION)
            found = db.execute(
                "select id, content from items where collection = ? and content in"
                " (select value from json_each(?))",
                (COLLECTION, _json(part)),
            ).fetchall()
            vectors = [(item, _vector(text)) for item, text in found]
            with immediate(db):
                insert_vectors(db, space, None, vectors)
            time.sleep(max(0.0, started + seconds * (number + 1) / len(parts) - time.monotonic()))


def _json(texts: Sequence[str]) -> str:
    import json

    return json.dumps(texts)


def _vector(text: str) -> bytes:
    _, number, *_, writer = text.split()
    draw = np.random.default_rng([int(number), int(writer)])
    return bytes(draw.normal(size=DIMENSIONS).astype("<f4").tobytes())


class Reader:
    """Asks the file, in one transaction each time."""

    def __init__(self, path: Path, report: Report) -> None:
        self._db = connection.open_database(path, read_only=True)
        self._report = report
        self._before = (0, 0, 0)

    def read(self) -> None:
        """One look at all of it."""
        db, report = self._db, self._report
        try:
            db.execute("begin")
            items, texts, places, highest = db.execute(
                "select count(*), count(distinct sha256), count(distinct sequence_number),"
                " ifnull(max(sequence_number), -1) from items where collection = ?",
                (COLLECTION,),
            ).fetchone()
            vectors, of_items = db.execute(
                "select count(*), count(distinct i.id) from vectors v join spaces s on s.id = v.space_id"
                " left join items i on i.id = v.item_id where s.name = ?",
                (SPACE,),
            ).fetchone()
            generation, logged = db.execute(
                "select generation, (select max(generation) from vector_changes c where c.space_id ="
                " s.id and c.generation_token = s.generation_token) from spaces s where name = ?",
                (SPACE,),
            ).fetchone()
            near = db.execute(
                "select count(*), count(distinct id) from knn(?, ?, 5)",
                (SPACE, _vector("text 1 of writer 1")),
            ).fetchone()
            db.rollback()
        except dbapi.Error as error:
            report.errors.append(f"the reader: {error}")
            return
        report.reads += 1
        report.check(items == texts, f"{items - texts} texts are there twice")
        report.check(
            items == places == highest + 1, f"{items} items have {places} places to {highest}"
        )
        report.check(vectors == of_items, f"{vectors} vectors of {of_items} items")
        report.check(not vectors or generation == logged, f"generation {generation}, log {logged}")
        report.check(near == (min(5, vectors),) * 2, f"knn gives {near} of {vectors}")
        now = (items, vectors, generation)
        report.check(
            all(a <= b for a, b in zip(self._before, now, strict=True)),
            f"{self._before} became {now}",
        )
        self._before = now
        report.items = items

    def close(self) -> None:
        """Gives the file back."""
        self._db.close()


class Browser:
    """Asks a Datasette for one page after the other."""

    def __init__(self, port: int, name: str, report: Report) -> None:
        self._port, self._report, self._number = port, report, 0
        sql = "select i.id, k.distance from knn('shared', :v, 10) k join items i on i.id = k.id"
        query = urlencode({"sql": sql, "v": "[0, 0, 0, 0, 0, 0, 0, 1]", "_shape": "array"})
        pages = f"/-/nearsql/{name}"
        self._paths = [
            f"/{name}.json?{query}",
            f"/{name}/items.json?_size=5&_sort_desc=id",
            f"/{name}/runs.json?_size=5&_sort_desc=id",
            pages,
            f"{pages}/runs",
            f"{pages}/items/1",
            f"{pages}/search?q=text",
            f"{pages}/selections",
        ]

    def ask(self) -> None:
        """The next of its pages."""
        path = self._paths[self._number % len(self._paths)]
        self._number += 1
        started = time.monotonic()
        try:
            http_connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            http_connection.request("GET", path)
            response = http_connection.getresponse()
            body = response.read()
            http_connection.close()
        except OSError as error:
            self._report.errors.append(f"{path}: {error}")
            return
        self._report.slowest = max(self._report.slowest, time.monotonic() - started)
        self._report.answers[path.partition("?")[0]] += 1
        self._report.check(response.status == 200, f"{path}: {response.status} {body[:300]!r}")


@contextmanager
def served(path: Path) -> Iterator[int]:
    """A Datasette with the file in a process of its own; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "datasette", "serve", str(path), "--port", str(port)]
    command += ["--setting", "sql_time_limit_ms", "60000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("Datasette did not start") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def write_all(path: Path, rows: int, minutes: float = 0, *, with_datasette: bool = False) -> Report:
    """Eight writers, a reader and, if asked for, a Datasette; what was seen."""
    from nearsql.pipeline.index.text import text_index

    report = Report()
    with closing(connection.create(path)) as db:
        text_index(db)  # which the triggers of every writer keep
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, 'l2')",
            (SPACE, DIMENSIONS),
        )
        db.commit()
    command = [sys.executable, "-m", "tests.trust.many_writers", "--file", str(path)]
    command += ["--rows", str(rows), "--minutes", str(minutes)]
    with served(path) if with_datasette else nullcontext(0) as port:
        writers = [
            subprocess.Popen([*command, "--writer", str(number)], stderr=subprocess.PIPE, text=True)
            for number in range(WRITERS)
        ]
        with closing(Reader(path, report)) as reader:
            looks: list[Callable[[], None]] = [reader.read]
            if with_datasette:
                looks += [Browser(port, path.stem, report).ask] * 8
            deadline = time.monotonic() + minutes * 60 + PATIENCE
            while any(writer.poll() is None for writer in writers) or report.reads < 2:
                for look in looks if report.items else looks[:1]:
                    look()
                if time.monotonic() > deadline:
                    report.errors.append("the writers do not end")
                    break
                if not with_datasette:
                    time.sleep(0.05)
    for number, writer in enumerate(writers):
        writer.kill()
        _, said = writer.communicate()
        report.check(
            writer.returncode == 0, f"writer {number}: exit code {writer.returncode}: {said}"
        )
        report.check(not said, f"writer {number} said: {said}")
    _look_back(path, rows, report)
    return report


def _look_back(path: Path, rows: int, report: Report) -> None:
    """What the file must hold when all is done."""
    from nearsql.pipeline.check import check_file

    wanted = {text for writer in range(WRITERS) for text in texts_of(writer, rows)}
    with closing(connection.open_database(path, read_only=True)) as db:
        found = [
            text
            for (text,) in db.execute(
                "select content from items where collection = ?", (COLLECTION,)
            )
        ]
        report.check(len(found) == rows, f"{len(found)} texts of {rows}")
        report.check(set(found) == wanted, "the texts are not those that were written")
        wrong = [
            item
            for item, text, vector in db.execute(
                "select i.id, i.content, v.vector from items i left join vectors v on v.item_id = i.id"
            )
            if vector != _vector(text)
        ]
        report.check(not wrong, f"{len(wrong)} texts have no vector, or another's: {wrong[:5]}")
        statuses = Counter(status for (status,) in db.execute("select status from runs"))
        report.check(set(statuses) == {"finished"}, f"runs: {dict(statuses)}")
        pages = db.execute("pragma integrity_check").fetchall()
        report.check(pages == [("ok",)], f"PRAGMA integrity_check: {pages[:3]}")
        for finding in check_file(db):
            report.check(not finding.wrong, f"nearsql check: {finding.check}: {finding.detail}")


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=80_000, help="texts, of all writers together")
    parser.add_argument("--minutes", type=float, default=0.0, help="to spread them over")
    parser.add_argument(
        "--datasette", action="store_true", help="serve the file meanwhile, and ask"
    )
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--writer", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.writer is not None:
        write(given.file, given.writer, given.rows, given.minutes * 60)
        return 0
    started, cpu = time.monotonic(), os.times()
    with tempfile.TemporaryDirectory(prefix="nearsql-writers-") as folder:
        report = write_all(
            Path(folder) / "busy.db", given.rows, given.minutes, with_datasette=given.datasette
        )
    now = os.times()
    spent = sum(now[:4]) - sum(cpu[:4])
    print(
        f"{WRITERS} writers, {given.rows:,} texts and as many vectors in {time.monotonic() - started:.0f} s"
        f" ({spent:.0f} s of CPU), {report.reads:,} reads: {len(report.errors)} errors"
    )
    if given.datasette:
        print(
            f"{report.answers.total():,} answers of Datasette, the slowest in {report.slowest:.1f} s"
        )
    for error in report.errors[:20]:
        print(f"    {error}")
    return int(bool(report.errors))


if __name__ == "__main__":
    sys.exit(main())
