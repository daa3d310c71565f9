"""SQLite files of other programs: the `llm` library's embeddings, and older stores of vectors.

A store is opened as immutable: nothing is written into it or beside it. Its views are not asked, and its
values are never unpickled.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import apsw

from nearsql.pipeline.console import UserError
from nearsql.pipeline.importing import seed_tables
from nearsql.pipeline.importing.numbers import BadNumbers, one_vector, vector_of
from nearsql.pipeline.importing.parts import Holding, Options, Part, Row
from nearsql.pipeline.importing.seed_tables import Columns, storable
from nearsql.udfs import connection, dbapi

# A longer value is no vector, and no text that anybody embeds.
MOST_BYTES = 64 * 2**20

# Cast: in a damaged file, names and definitions may be BLOBs, or missing.
_TABLES = (
    "select cast(coalesce(name, '') as text), cast(coalesce(sql, '') as text) from sqlite_master"
    " where type = 'table' order by rowid"
)


@contextmanager
def opened_store(path: str) -> Iterator[dbapi.Connection]:
    """The store, for reading only. Raises UserError when not all of it is in the file."""
    wal = f"{path}-wal"
    if os.path.isfile(wal) and os.path.getsize(wal):
        raise UserError(
            f"{path} has changes that lie in {wal} as yet: close the program that writes to it, or run"
            f" `sqlite3 {path} 'pragma wal_checkpoint(truncate)'`"
        )
    with _readable(path):
        db = connection.connect_quietly(path, immutable=True)
    try:
        db.apsw.pragma("trusted_schema", False)
        db.apsw.pragma("cell_size_check", True)
        db.apsw.limit(apsw.SQLITE_LIMIT_LENGTH, MOST_BYTES)
        yield db
    finally:
        db.close()


def store_parts(db: dbapi.Connection, path: str, options: Options) -> tuple[str, list[Part]]:
    """Which kind of store it is, and its parts: each collection, or each table, model and run."""
    for name in ("ids", "images"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} does not go with a database: leave it out")
    with _readable(path):
        declared = {name: sql for name, sql in db.execute(_TABLES)}
        columns = {name: _column_names(db, name) for name in declared}
        if _is_llm(columns):
            return "llm", _llm_parts(db, path)
        parts = _older_parts(db, path, options, declared, columns)
    if not parts:
        raise UserError(
            f"{path} has no vectors in a form that is known: neither an llm database, nor a table with a"
            " column `embedding` or `vector`, nor umap_... or tsne_... with coordinates, nor one of"
            " sqlite-vec; its tables are " + (", ".join(list(declared)[:20]) or "none")
        )
    return "store", parts


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (dbapi.Error, UnicodeDecodeError, MemoryError) as error:
        raise UserError(f"{path} cannot be read: {str(error)[:200]}") from error


def _column_names(db: dbapi.Connection, table: str) -> list[str]:
    try:
        # Generated and hidden columns are left out: the first compute, and the second are vec0's own.
        return [row[0] for row in db.execute("select name from pragma_table_info(?)", (table,))]
    except dbapi.Error:
        return []  # a virtual table of a module that is not here


def _is_llm(columns: Mapping[str, Sequence[str]]) -> bool:
    of_embeddings, of_collections = columns.get("embeddings", ()), columns.get("collections", ())
    is_embeddings = {"collection_id", "id", "embedding", "content"} <= set(of_embeddings)
    return is_embeddings and {"id", "name", "model"} <= set(of_collections)


def _llm_parts(db: dbapi.Connection, path: str) -> list[Part]:
    parts = []
    asked = db.execute("select id, name, model from collections order by id").fetchall()
    for collection_id, name, model in asked:
        if isinstance(name, bytes) or isinstance(model, bytes):
            raise UserError(
                f"{path}: the name or model of collection {collection_id!r:.40} is no text"
            )
        n, n_texts = db.execute(
            "select count(*), count(content) from embeddings where collection_id = ?",
            (collection_id,),
        ).fetchone()
        length = db.execute(
            "select length(embedding) from embeddings where collection_id = ? order by id limit 1",
            (collection_id,),
        ).fetchone()
        if length is None:
            continue  # an empty collection
        parts.append(
            Part(
                str(name),
                ("vectors",),
                partial(_llm_rows, db, path, collection_id, (length[0] or 0) // 4),
                n,
                (length[0] or 0) // 4,
                model=None if model is None else str(model),
                has_texts=n_texts > 0,
                collection=str(name),
                parameters={"collection": name, "model": model},
            )
        )
    if not parts:
        raise UserError(f"{path} is a database of llm, and none of its collections holds anything")
    return parts


def _llm_rows(
    db: dbapi.Connection, path: str, collection_id: Any, dimensions: int
) -> Iterator[Row]:
    with _readable(path):
        names = _column_names(db, "embeddings")
        others = [name for name in ("metadata", "updated") if name in names]
        sql = ", ".join(["id", "embedding", "content", *others])
        cursor = db.execute(
            f"select {sql} from embeddings where collection_id = ? order by id", (collection_id,)
        )
        for number, (id, vector, content, *rest) in enumerate(cursor):
            row = Row(_id(id), f"row {number}", text=content if isinstance(content, str) else None)
            cells = dict(zip(others, rest, strict=True))
            metadata = seed_tables.parsed(cells.pop("metadata", None))
            if not isinstance(metadata, dict):
                metadata = {"metadata": metadata}
            row.metadata = {
                key: storable(value)
                for key, value in {**metadata, **cells}.items()
                if value is not None
            }
            _fill(row, vector, dimensions, "float32")
            yield row


def _older_parts(
    db: dbapi.Connection,
    path: str,
    options: Options,
    declared: Mapping[str, str],
    columns: Mapping[str, Sequence[str]],
) -> list[Part]:
    parameters: dict[str, dict[str, Any]] = {}
    if set(columns.get("metadata", ())) & set(seed_tables.RUN_COLUMNS):
        cursor = db.execute("select * from metadata")
        names = [column[0] for column in cursor.description or ()]
        parameters = seed_tables.run_parameters(
            [dict(zip(names, row, strict=True)) for row in cursor]
        )
    asked = {"id": options.id, "text": options.text, "vector": options.vector}
    shadows = tuple(f"{name}_" for name, sql in declared.items() if seed_tables.vec0_vectors(sql))
    parts: list[Part] = []
    for table, sql in declared.items():
        if table.startswith(("sqlite_", *shadows)):
            continue
        found = seed_tables.columns_of(table, sql, columns[table], asked)
        if found is not None:
            parts += _parts_of_table(db, path, table, found, parameters, options.dtype)
    # What is measured comes before what was made of it: embeddings bring the items.
    return sorted(parts, key=lambda part: part.space_kind != "embedding")


def _parts_of_table(
    db: dbapi.Connection,
    path: str,
    table: str,
    columns: Columns,
    parameters: Mapping[str, Mapping[str, Any]],
    dtype: str,
) -> Iterator[Part]:
    """One part for each run and model that the table tells apart."""
    keys = [name for name in (columns.run, columns.model) if name is not None]
    listed = ", ".join(map(_quoted, keys))
    groups: list[tuple[Any, ...]] = [()]
    if keys:
        groups = db.execute(
            f"select distinct {listed} from {_quoted(table)} order by {listed}"
        ).fetchall()
    for values in groups:
        where = " and ".join(f"{_quoted(key)} is ?" for key in keys) or "1"
        (n,) = db.execute(f"select count(*) from {_quoted(table)} where {where}", values).fetchone()
        if not n:
            continue
        of_key = dict(zip(keys, values, strict=True))
        run = of_key.get(columns.run) if columns.run else None
        model = of_key.get(columns.model) if columns.model else None
        mapped = seed_tables.hash_of_map(table)
        run_name = str(run) if run is not None else mapped[1] if mapped else None
        known = dict(parameters.get(run_name or "", parameters.get(table, {})))
        if model is None:
            model = next((known[k] for k in ("model", "model_name") if k in known), None)
        named = [str(value) for value in values if value is not None]
        asked = (_quoted(table), where, tuple(values))
        dimensions = columns.dimensions or len(columns.coordinates)
        if not dimensions:
            dimensions = _dimensions(db, path, columns, asked, dtype)
        holds = _holds(db, columns, asked, dimensions)
        yield Part(
            "/".join([table, *named]),
            holds,
            partial(_older_rows, db, path, columns, asked, dimensions, holds, dtype),
            n,
            dimensions,
            space_kind=columns.space_kind,  # type: ignore[arg-type]
            metric="l2" if columns.space_kind != "embedding" else None,
            model=None if model is None else str(model),
            has_texts=columns.text is not None and columns.vector is not None,
            parameters={
                "table": table,
                "run": None if run_name is None else run_name,
                **({"method": mapped[0]} if mapped else {}),
                "parameters": known,
            },
        )


def _dimensions(
    db: dbapi.Connection, path: str, columns: Columns, asked: tuple[str, str, Any], dtype: str
) -> int:
    """Of the first vector that is one."""
    table, where, values = asked
    problem = "it has none"
    for (value,) in db.execute(
        f"select {_quoted(columns.vector or '')} from {table} where {where}", values
    ):
        try:
            return len(vector_of(value, dtype))
        except BadNumbers as error:
            problem = str(error)
    raise UserError(f"{path}: no row of {table} has a vector; of the last one, {problem}")


def _holds(
    db: dbapi.Connection, columns: Columns, asked: tuple[str, str, Any], dimensions: int
) -> tuple[Holding, ...]:
    """Losses and metrics only where some row has one: other models leave the columns empty."""
    is_map = columns.space_kind == "projection" and dimensions == 2
    holds: list[Holding] = ["points" if is_map else "vectors"]
    table, where, values = asked
    of_holding: list[tuple[Holding, Sequence[str]]] = [
        ("losses", list(columns.losses)),
        ("metrics", columns.metrics),
    ]
    for holding, names in of_holding:
        some = " or ".join(f"{_quoted(name)} is not null" for name in names)
        if (
            names
            and db.execute(
                f"select 1 from {table} where {where} and ({some}) limit 1", values
            ).fetchone()
        ):
            holds.append(holding)
    return tuple(holds)


def _older_rows(
    db: dbapi.Connection,
    path: str,
    columns: Columns,
    asked: tuple[str, str, Any],
    dimensions: int,
    holds: tuple[Holding, ...],
    dtype: str,
) -> Iterator[Row]:
    table, where, values = asked
    names = columns.names()
    listed = ", ".join(
        ["rowid" if columns.id is None else _quoted(columns.id), *map(_quoted, names)]
    )
    with _readable(path):
        cursor = db.execute(f"select {listed} from {table} where {where}", values)
        for number, (id, *cells) in enumerate(cursor):
            of = dict(zip(names, cells, strict=True))
            row = Row(_id(id), f"row {number}")
            if columns.text is not None and isinstance(of[columns.text], str):
                row.text = of[columns.text]
            if "losses" in holds:
                row.losses = {
                    c: seed_tables.defined(of[name]) for name, c in columns.losses.items()
                }
            if "metrics" in holds:
                row.metrics = {name: seed_tables.defined(of[name]) for name in columns.metrics}
            row.metadata = {
                name: storable(of[name]) for name in columns.others if of[name] is not None
            }
            value: Any = of[columns.vector] if columns.vector else None
            if columns.coordinates:
                value = [of[name] for name in columns.coordinates]
                value = [float(x) if type(x) is int else x for x in value]
            if "points" in holds:
                _fill_point(row, value, dtype)
            else:
                _fill(row, value, dimensions, dtype)
            yield row


def _fill(row: Row, value: Any, dimensions: int, dtype: str) -> None:
    try:
        row.vector, row.is_rounded = one_vector(value, dimensions, dtype)
    except BadNumbers as error:
        row.problem = str(error)


def _fill_point(row: Row, value: Any, dtype: str) -> None:
    """Coordinates are kept with all their bits."""
    try:
        numbers = [float(number) for number in vector_of(value, dtype).tolist()]
        if len(numbers) != 2 or not all(abs(number) < float("inf") for number in numbers):
            raise BadNumbers("its coordinates are not two finite numbers")
        row.point = (numbers[0], numbers[1])
    except BadNumbers as error:
        row.problem = str(error)


def _id(value: Any) -> int | str:
    return value if isinstance(value, int) else str(storable(value))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
