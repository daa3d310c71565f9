"""Import: vectors, maps, losses, metrics and predictions that other programs made, each part as a run.

    import_file(db, "vectors.parquet", match="name")
    import_file(db, "issues.db")                     # all tables or collections of a store

A run names the file and its SHA-256, and has among its parameters those that the source records itself.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.importing import rows as db_rows
from nearsql.pipeline.importing.items import Items
from nearsql.pipeline.importing.parts import METRICS, Options, Part, Row, Source
from nearsql.pipeline.importing.sources import opened_source
from nearsql.pipeline.importing.targets import Target, family_of, find_space, make_space, model_of
from nearsql.pipeline.row_hash import RowHash
from nearsql.pipeline.runs import Run, RunInput, immediate, run, spelled_out
from nearsql.udfs import dbapi

# Rows of one transaction: a killed process loses no more.
BATCH_ROWS = 2000

# Rows that cannot be taken are told one by one up to here, and then by their number.
MOST_TOLD = 1000


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How the import of one part went. is_old: an earlier run had brought all of it, and no run was made.

    counts: rows read; items made; vectors, points, losses, ... written; already (vectors that were there),
    different (that were there and are others), duplicates, unmatched, errors, rounded.
    """

    part: str
    run_id: int
    space: str | None
    is_old: bool = False
    counts: dict[str, int | float] = field(default_factory=dict)


def import_file(
    db: dbapi.Connection,
    source: str | os.PathLike[str],
    *,
    format: str | None = None,
    parts: Sequence[str] = (),
    space: str | None = None,
    metric: str | None = None,
    collection: str | None = None,
    match: str | None = None,
    model: str | None = None,
    ids: str | os.PathLike[str] | None = None,
    id: str | None = None,
    text: str | None = None,
    vector: str | None = None,
    images: str | os.PathLike[str] | None = None,
    dtype: str = "float32",
    quiet: bool = True,
) -> list[ImportResult]:
    """Brings what a file holds into the database, a run for each part.

    format: one of sources.KINDS; default, what the file's bytes say. parts: their names; default, all.
    space: what the vectors fill; with several parts, its name goes before theirs. metric: cosine (the
    default), l2 or ip; of maps and metrics it is l2. collection: of the items. match: how the ids name
    items, one of parts.MATCHES; default, `new` where the source brings texts, else `name`. model: which made
    it. ids, id, text, vector, images, dtype: see parts.Options.

    What cannot be taken becomes an `item_errors` row. Raises UserError when nothing can.
    """
    options = Options(_absolute(ids), id, text, vector, _absolute(images), dtype)
    if metric is not None and metric not in METRICS:
        raise UserError(f"--metric must be one of {', '.join(METRICS)}, not {metric!r}")
    with opened_source(source, format, options) as opened:
        chosen = _chosen(opened, parts)
        several = sum("vectors" in part.holds for part in opened.parts) > 1
        plans = []
        for part in chosen:
            brings_items = part.has_texts or opened.kind == "llm"
            how = match or ("new" if brings_items else "name")
            of_part = collection or part.collection or _collection(opened)
            if of_part is None and how == "new":
                of_part = Path(opened.path).stem
            name = _space_name(opened, part, space, several)
            plan: dict[str, Any] = {
                "source": opened.path,
                "sha256": opened.sha256,
                "format": opened.kind,
                "part": part.name,
                "space": name,
                "metric": (part.metric or metric or "cosine") if name else None,
                "collection": of_part,
                "match": how,
                "model": model or part.model,
                "options": options.as_parameters(),
                "others": dict(opened.others),
                "batch_rows": BATCH_ROWS,
                "of_source": dict(part.parameters),
            }
            # Before anything is written: what no database of ours takes is better refused at once.
            family_of(part, plan["model"], Path(opened.path).stem)
            plans.append((part, plan))
        return [_import_part(db, opened, part, plan, quiet) for part, plan in plans]


def _absolute(path: str | os.PathLike[str] | None) -> str | None:
    """So that a replay finds the file from another folder."""
    return None if path is None else os.path.abspath(path)


def _chosen(source: Source, names: Sequence[str]) -> list[Part]:
    there = {part.name: part for part in source.parts}
    for name in names:
        if name not in there:
            raise UserError(f"{source.path} has no part {name!r}: it has {', '.join(there)}")
    return [part for part in source.parts if not names or part.name in names]


def _collection(source: Source) -> str | None:
    """Of a store with texts, or tables of them, the file's name: its maps are of the same items."""
    return Path(source.path).stem if any(part.has_texts for part in source.parts) else None


def _space_name(source: Source, part: Part, asked: str | None, several: bool) -> str | None:
    if "vectors" not in part.holds:
        return None
    if asked is not None:
        return f"{asked}/{part.name}" if several else asked
    if source.kind == "llm":
        return f"llm/{part.name}"
    stem = Path(source.path).stem
    return stem if source.kind != "store" else f"{stem}/{part.name}"


def _import_part(
    db: dbapi.Connection, source: Source, part: Part, plan: dict[str, Any], quiet: bool
) -> ImportResult:
    items = Items(db, plan["match"], plan["collection"])
    if items.how == "new" and "predictions" in part.holds:
        raise UserError("predictions are of images that are here: ingest them first")
    target = find_space(db, plan["space"], part, plan["metric"], plan["model"])
    model_id, model = model_of(db, part, plan["model"], Path(source.path).stem, target)
    done = _finished_before(db, part, plan, items)
    if done is not None:
        return ImportResult(part.name, done[0], plan["space"], True, done[1])
    inputs = [RunInput("file", source.path, rows=part.n_rows, sha256=source.sha256)]
    inputs += [RunInput("file", path, sha256=sha256) for path, sha256 in source.others.items()]
    with run(
        db,
        "import",
        parameters=plan,
        model_id=model_id,
        inputs=inputs,
        packages=source.packages,
        resume=True,
    ) as current:
        if current.is_resumed:
            _start_again(current)
        _Filling(current, part, plan, items, target, model_id, model).fill(quiet)
    return ImportResult(part.name, current.id, plan["space"], False, dict(current.counts))


def _finished_before(
    db: dbapi.Connection, part: Part, plan: Mapping[str, Any], items: Items
) -> tuple[int, dict[str, int | float]] | None:
    """The last finished run that was the same, if all that it brought is there, and no more would be now."""
    found = db.execute(
        "select id, counts_json from runs where kind = 'import' and status = 'finished'"
        " and parameters_json = ? order by id desc limit 1",
        (json.dumps(plan, sort_keys=True),),
    ).fetchone()
    if found is None:
        return None
    run_id, counts = found[0], json.loads(found[1])
    for name in db_rows.TABLES:
        own, value = (
            ("source", db_rows.label_source(run_id))
            if name == "item_labels"
            else ("run_id", run_id)
        )
        (n,) = db.execute(f"select count(*) from {name} where {own} = ?", (value,)).fetchone()
        if n != counts.get(name, 0):
            return None
    if counts.get("already") or counts.get("different"):
        return None
    if counts.get("unmatched"):
        again = Items(db, items.how, items.collection)
        matched = sum(item is not None for item in again.find(list(part.rows())))
        if matched != counts["matched"]:
            return None
    return run_id, counts


def _start_again(current: Run) -> None:
    """What an interrupted run wrote by keys is found again; what has none, it writes anew."""
    current.counts.clear()
    with immediate(current.db):
        for table in ("predictions", "item_errors"):
            current.db.execute(f"delete from {table} where run_id = ?", (current.id,))


class _Filling:
    """One part on its way into the database."""

    def __init__(
        self,
        current: Run,
        part: Part,
        plan: Mapping[str, Any],
        items: Items,
        target: Target | None,
        model_id: int | None,
        model: str | None,
    ) -> None:
        self._run, self._part, self._plan, self._items = current, part, plan, items
        self._target, self._model_id, self._model = target, model_id, model
        self._classes = class_names(current.db, part, plan["collection"])
        self._digest = RowHash()
        self._n_told = 0

    def fill(self, quiet: bool) -> None:
        """Reads, finds, writes, batch by batch. Raises UserError when not one row has an item."""
        counts = self._run.counts
        counts |= {"rows": 0, "matched": 0}
        first_problem: str | None = None
        with progress(f"importing {self._part.name}", self._part.n_rows, quiet=quiet) as bar:
            source = iter(self._part.rows())
            while batch := self._read(source):
                matched = self._take(batch)
                counts["rows"] += len(batch)
                counts["matched"] += matched
                first_problem = first_problem or next((r.problem for r in batch if r.problem), None)
                bar.advance(len(batch))
        if not counts["matched"]:
            raise UserError(_nothing(self._plan, self._part, first_problem))
        self._run.result_sha256 = self._digest.hexdigest()

    def _read(self, source: Iterator[Row]) -> list[Row]:
        with self._run.timed("read"):
            return list(islice(source, BATCH_ROWS))

    def _take(self, batch: list[Row]) -> int:
        run, db = self._run, self._run.db
        broken = [row.problem is not None for row in batch]
        with run.timed("match"):
            found = self._items.find(batch)
        with run.timed("write"), immediate(db):
            if self._items.how == "new":
                self._items.add(run, batch, found, self._plan["source"])
            if self._target is None and self._plan["space"] is not None and _any(found):
                self._target = make_space(run, self._plan, self._part, self._model_id)
            space_id = self._target.space_id if self._target is not None else None
            tables, problems = rows_for(db, self._part, batch, found, self._model, self._classes)
            inserted = db_rows.write(db, run.id, space_id, tables)
            own = tables
            if inserted < len(tables["vectors"]) or tables["item_labels"]:
                vectors, labels = db_rows.of_others(db, run.id, space_id, tables)
                own = db_rows.without(tables, vectors, labels)
                self._compare(tables, vectors)
            for row, was_broken in zip(batch, broken, strict=True):
                if row.problem is not None:
                    self._tell(row, was_broken)
            for item, stage, message in problems:
                run.item_error(stage, message, item_id=item)
        with run.timed("hash"):
            for name in db_rows.TABLES:
                if own[name]:
                    run.counts[name] = run.counts.get(name, 0) + len(own[name])
                for values in own[name]:
                    self._digest.add(values)
        rounded = sum(row.is_rounded for row in batch if row.problem is None)
        if rounded:
            run.counts["rounded"] = run.counts.get("rounded", 0) + rounded
        return sum(item is not None for item in found)

    def _compare(self, tables: db_rows.Tables, there: Mapping[int, bytes]) -> None:
        """Vectors that the space has already: the same, or others, which stay."""
        for item, vector in tables["vectors"]:
            if item not in there:
                continue
            name = "already" if there[item] == vector else "different"
            self._run.counts[name] = self._run.counts.get(name, 0) + 1
            if name == "different" and self._told():
                message = "the space has another vector of this item, which stays"
                self._run.item_error("import", message, item_id=item)

    def _tell(self, row: Row, was_broken: bool) -> None:
        counts = self._run.counts
        is_twice = "the first counts" in (row.problem or "")
        name = "errors" if was_broken else "duplicates" if is_twice else "unmatched"
        stage = "read" if was_broken else "duplicate" if is_twice else "match"
        counts[name] = counts.get(name, 0) + 1
        if self._told():
            self._run.db.execute(
                "insert into item_errors (run_id, uri, stage, message) values (?, ?, ?, ?)",
                (
                    self._run.id,
                    spelled_out(f"{self._plan['source']}#{row.id}"[:1000]),
                    stage,
                    spelled_out(f"{row.place}: {row.problem}"),
                ),
            )

    def _told(self) -> bool:
        self._n_told += 1
        return self._n_told <= MOST_TOLD


def rows_for(
    db: dbapi.Connection,
    part: Part,
    batch: Sequence[Row],
    found: Sequence[int | None],
    model: str | None,
    classes: Mapping[int, str],
) -> tuple[db_rows.Tables, list[tuple[int, str, str]]]:
    """As rows.tables_of, with the sizes of the images that detections are on."""
    sizes: dict[int, tuple[int | None, int | None]] = {}
    if "predictions" in part.holds:
        sizes = {
            item: (width, height)
            for item, width, height in db.execute(
                "select id, width, height from items where id in (select value from json_each(?))",
                ("[" + ",".join(str(item) for item in found if item is not None) + "]",),
            )
        }
    return db_rows.tables_of(part, batch, found, sizes, model, classes)


def class_names(db: dbapi.Connection, part: Part, collection: str | None) -> dict[int, str]:
    """What class numbers mean: as the source says, or the collection, or all collections as one."""
    if "predictions" not in part.holds or part.class_names:
        return dict(part.class_names)
    found: dict[int, set[str]] = {}
    for class_id, name in db.execute(
        "select class_id, name from classes where ? is null or collection = ?",
        (collection, collection),
    ):
        found.setdefault(class_id, set()).add(name)
    return {class_id: next(iter(names)) for class_id, names in found.items() if len(names) == 1}


def _any(found: Sequence[int | None]) -> bool:
    return any(item is not None for item in found)


def _nothing(plan: Mapping[str, Any], part: Part, problem: str | None) -> str:
    where = f"the collection {plan['collection']!r}" if plan["collection"] else "the file"
    said = f": {problem}" if problem else ""
    advice = ""
    if plan["match"] != "new":
        advice = (
            f"; the ids were looked for in {where} by {plan['match']}: ingest the items first, or give"
            " --match sequence, id, uri, metadata:KEY or label:NAME, or --match new to make a text item"
            " of each id"
        )
    return f"not one of the {part.n_rows:,} rows of {part.name} could be taken{said}{advice}"
