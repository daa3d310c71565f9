"""An import done again from its source, beside what it stored; for `nearsql replay`."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing import rows as db_rows
from nearsql.pipeline.importing.items import Items
from nearsql.pipeline.importing.parts import Options, Part, Source
from nearsql.pipeline.importing.run import class_names, rows_for
from nearsql.pipeline.importing.sources import opened_source
from nearsql.pipeline.importing.targets import family_of, find_space
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.udfs import dbapi


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """The rows that an import would bring now, read from its source again, in batches as it wrote them.

    Raises CannotReplay when the source is gone or has changed.
    """
    plan = recorded.parameters
    known = {name: plan["options"].get(name) for name in Options.__dataclass_fields__}
    known["dtype"] = known["dtype"] or "float32"

    def tables() -> Iterator[ResultTable]:
        kind = "sqlite" if plan["format"] in ("llm", "store") else plan["format"]
        try:
            with opened_source(plan["source"], kind, Options(**known)) as source:
                part = _same_part(recorded, source)
                yield from _tables_again(db, recorded, part)
        except UserError as error:
            raise CannotReplay(
                f"the source of run {recorded.id} cannot be read as it was: {error}"
            ) from error

    return Again(tables())


def _same_part(recorded: RecordedRun, source: Source) -> Part:
    plan = recorded.parameters
    if (source.sha256, dict(source.others)) != (plan["sha256"], plan["others"]):
        raise CannotReplay(f"{source.path} has changed since run {recorded.id} read it")
    part = next((part for part in source.parts if part.name == plan["part"]), None)
    if part is None or (source.kind, dict(part.parameters)) != (plan["format"], plan["of_source"]):
        raise CannotReplay(f"{source.path} has no such part {plan['part']!r} as is recorded")
    return part


def _tables_again(db: dbapi.Connection, recorded: RecordedRun, part: Part) -> Iterator[ResultTable]:
    plan = recorded.parameters
    items = Items(db, plan["match"], plan["collection"])
    name = plan["space"]
    space = find_space(db, name, part, plan["metric"], plan["model"])
    space_id = space.space_id if space is not None else None
    if name is not None and space_id is None:
        raise CannotReplay(
            f"the space {name!r}, which run {recorded.id} filled, is deleted or renamed"
        )
    classes = class_names(db, part, plan["collection"])
    model, _ = family_of(part, plan["model"], Path(plan["source"]).stem)
    source = part.rows()
    while batch := list(islice(source, plan["batch_rows"])):
        found = items.find(batch)
        tables, _ = rows_for(db, part, batch, found, model, classes)
        tables = db_rows.without(tables, *db_rows.of_others(db, recorded.id, space_id, tables))
        there = sorted(item for item in found if item is not None)
        for table, (columns, n_keys) in db_rows.TABLES.items():
            stored = db_rows.stored(db, table, recorded.id, there)
            numbers = {"vector": "<f4"} if table == "vectors" else {}
            yield ResultTable(table, columns, n_keys, stored, tables[table], numbers)
