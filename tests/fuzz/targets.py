"""Reads files as the commands do, in the process that tries them, and looks at what comes of it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.check import check_file
from nearsql.pipeline.console import UserError, sentence
from nearsql.pipeline.importing import import_file
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.select import read_ids
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from tests.fuzz.outcomes import Outcome, refused
from tests.fuzz.samples import HEIGHT, IMAGES, WIDTH, Files

# What a file that somebody was sent is asked at once, by pages and commands.
_QUESTIONS = (
    "select * from knn('round', 1, 3)",
    "select * from knn('flat', '[1, 0, 0, 0]', 3)",
    "select * from search_plan('flat')",
    "select * from knn_graph('product', 2)",
    "select cluster_assign(1, vector_of('round', 1))",
    "select * from cluster_assignments(2)",
    "select * from project_places(3)",
    "select * from evaluation_neighbors(4)",
    "select * from evaluation_diff(4, 4, 1, 'uniform', 'round', 5)",
    "select * from detector_diff(7, 8)",
    "select * from knn_loss(9, 'cls', 1)",
    "select hex(embed_text('words/tfidf', 'cat'))",
    "select * from space_groups",
    "select * from embeddings",
    "select * from current_runs",
)


# What a function may say of a damaged file, in whatever words the damage came; elsewhere it is a fault.
_OF_DAMAGE = ("says whether the file is damaged", "cannot be loaded: ")


def try_files(folder: Path, target: str, files: Files) -> Outcome:
    """Reads the files as the target does. folder: what is written, goes there."""
    given = folder / "given"
    shutil.rmtree(given, ignore_errors=True)
    for name, data in files.items():
        path = given / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if target.startswith("ids "):
        return _try_ids(files["ids"])
    if target == "database":
        return _try_database(given / "n.db")
    try:
        with closing(connection.connect(_database(folder, given))) as db:
            return _try_import(db, target, given)
    except dbapi.Error as error:
        return Outcome("leaked", f"of the database itself: {error!r}")


def _try_import(db: dbapi.Connection, target: str, given: Path) -> Outcome:
    try:
        _READ[target.partition(" ")[0]](db, target, given)
    except UserError as error:
        outcome = refused(str(error))
    else:
        outcome = Outcome("taken")
    if outcome.is_fine and (fault := _fault(db)):
        return Outcome("wrong", fault)
    return outcome


def _import(db: dbapi.Connection, target: str, given: Path) -> None:
    names = [path for path in sorted(given.iterdir()) if path.is_file()]
    source = next(path for path in names if path.name[0] in "mrs")
    ids = next((path for path in names if path.name.startswith("ids")), None)
    images = given / "i.json" if target == "import results" else None
    # Detections are of images that are there; the items of a store come with it.
    matches = ("name",) if images else ("new",) if "store" in target else ("name", "new")
    for match in matches:
        import_file(
            db,
            source,
            format="coco-results" if images else None,
            match=match,
            space=f"by {match}",
            ids=ids,
            images=images,
        )


def _ingest(db: dbapi.Connection, target: str, given: Path) -> None:
    tables = [path for path in given.iterdir() if path.is_file()]
    if tables:
        ingest_texts(db, tables[0], text="text", label="stars", sequence="id")
    else:
        ingest_images(db, given, collection="pictures", label="class", store=True)


def _annotate(db: dbapi.Connection, target: str, given: Path) -> None:
    kind: Any = "yolo" if "yolo" in target else "coco"
    classes = given / "classes.txt" if "names" in target else None
    annotate(db, "given", kind, given, classes=classes)


_READ: dict[str, Callable[[dbapi.Connection, str, Path], None]] = {
    "import": _import,
    "ingest": _ingest,
    "annotate": _annotate,
}


def _try_ids(data: bytes) -> Outcome:
    # As standard input gives it: what is no UTF-8 is refused before.
    try:
        ids = read_ids(data.decode("utf-8", "replace"))
    except (UserError, SqlFunctionError) as error:
        return refused(str(error))
    if not all(type(item) is int for item in ids):
        return Outcome("wrong", f"these are no ids: {ids!r:.300}")
    return Outcome("taken")


def _try_database(path: Path) -> Outcome:
    """Opens a file that somebody made hostile, and asks it."""
    answered = 0
    try:
        db = connection.open_database(path, read_only=True)
    except sqlite3.Error as error:
        return _of_database(error)
    with closing(db):
        for ask in (lambda: check_file(db), *(_asked(db, sql) for sql in _QUESTIONS)):
            try:
                ask()
                answered += 1
            except (sqlite3.Error, SqlFunctionError) as error:
                outcome = _of_database(error)
                if not outcome.is_fine:
                    return outcome
    return Outcome("taken", f"{answered} answers")


def _asked(db: dbapi.Connection, sql: str) -> Callable[[], Any]:
    return lambda: db.execute(sql).fetchmany(1000)


def _of_database(error: BaseException) -> Outcome:
    root = error
    while root.__cause__ is not None and not isinstance(root, SqlFunctionError):
        root = root.__cause__
    if isinstance(root, sqlite3.Error | apsw.Error | SqlFunctionError | UnicodeDecodeError):
        # As commands say it. SQLite's own words, however few, are those of all programs that ask it.
        by_whom = "SQLite says " if isinstance(root, apsw.Error) else ""
        outcome = refused(by_whom + sentence(error))
        is_told = any(words in str(error) for words in _OF_DAMAGE)
        return Outcome("refused", str(error)[:500]) if is_told else outcome
    return Outcome("leaked", f"{type(root).__name__}: {root}"[:1500])


def _fault(db: dbapi.Connection) -> str | None:
    """What a file must never be left with, whatever was read."""
    if db.in_transaction:
        return "a transaction is open"
    if left := db.execute("select id, kind from runs where status = 'running'").fetchall():
        return f"runs are left running: {left}"
    if orphans := db.execute("pragma foreign_key_check").fetchmany(3):
        return f"rows without what they belong to: {orphans}"
    for item, vector in db.execute("select item_id, vector from vectors"):
        if not np.isfinite(np.frombuffer(vector, "<f4")).all():
            return f"the vector of item {item} is not finite"
    for run, message in db.execute("select run_id, message from item_errors"):
        outcome = refused(message)
        if not outcome.is_fine:
            return f"an error of run {run}: {outcome.message}"
    return None


def _database(folder: Path, given: Path) -> Path:
    """A new file with four images, which lie in the folder of what is given, if they lie anywhere."""
    template, path = folder / "template.db", folder / "new.db"
    if not template.exists():
        half_made = folder / "half_made.db"
        with closing(connection.create(half_made)) as db:
            for number, place in enumerate(IMAGES):
                db.execute(
                    "insert into items (kind, collection, sha256, uri, width, height,"
                    " sequence_number) values ('image', 'given', ?, ?, ?, ?, ?)",
                    (f"{number:064x}", str(given.resolve() / place), WIDTH, HEIGHT, number),
                )
            db.commit()
            db.execute("pragma wal_checkpoint(truncate)")
        half_made.rename(template)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(template, path)
    return path
