"""Place: items that a map did not see get their places on it.

    place(db, 4)

Those that came after the map was made. The SQL function `project_places` decides where, with no
transaction open; short transactions write. So a run that is stopped goes on where it was. The points
belong to the map's run and name the run that placed them: with it they go. A map of more than two
components is a space, too, and gets their vectors.
"""

import json
from dataclasses import dataclass, field

from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.map_tables import points_table, vectors_table
from nearsql.pipeline.project import PACKAGES
from nearsql.pipeline.replay import RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.row_hash import hash_rows
from nearsql.pipeline.run_spaces import refuse_if_changed, refuse_other_result, run_read_by
from nearsql.pipeline.runs import has_stopped, immediate, run, run_input, space_input
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi
from nearsql.udfs.map_model import find_map, made_space
from nearsql.udfs.projection_functions import Row
from nearsql.udfs.sql_files import read_sql

KIND = "place"

# Items that are computed and written together.
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class PlaceResult:
    """How it went; run_id is None when there was nothing to place. counts: placed."""

    map_run: int
    space: str
    run_id: int | None
    counts: dict[str, int | float] = field(default_factory=dict)


def place(
    db: dbapi.Connection, map_run: int, *, space: str | None = None, quiet: bool = True
) -> PlaceResult:
    """Places each item of the space that is not yet on the map of the run.

    space: the name of the space that the map must be of. Raises SqlFunctionError when the run made no
    map, or its items' vectors are no longer those that were mapped; UserError when the map is of another
    space, or vectors change meanwhile: what is written stays, and the same call goes on.
    """
    found = find_map(db.apsw, map_run).run
    if space is not None and space != found.space.name:
        raise UserError(f"run {map_run} is a map of {found.space.name!r}, not of {space!r}")
    made = made_space(db.apsw, found)[0] if found.settings.n_components > 2 else None
    source = space_input(db, found.space.name)
    asked = {"run": map_run, "space_id": source.space_id}
    to_do = [item for (item,) in db.execute(read_sql(__package__, "not_on_map"), asked)]
    (sha256,) = db.execute("select result_sha256 from runs where id = ?", (map_run,)).fetchone()
    parameters = {
        "run": map_run,
        # So that only a run on this very map and these vectors is gone on with.
        "run_sha256": sha256,
        "generation": source.generation,
        "generation_token": source.generation_token,
    }
    packages = PACKAGES[found.settings.method]
    if not to_do and not has_stopped(db, KIND, parameters=parameters, packages=packages):
        return PlaceResult(map_run, source.name, None, {"placed": 0})
    with run(
        db,
        KIND,
        parameters=parameters,
        inputs=[run_input(db, map_run), source],
        packages=packages,
        resume=True,
    ) as current:
        with progress(f"items of {source.name} placed", len(to_do), quiet=quiet) as bar:
            for start in range(0, len(to_do), _BLOCK):
                block = to_do[start : start + _BLOCK]
                with current.timed("compute"):
                    rows = _compute(db, map_run, block)
                with current.timed("write"), immediate(db):
                    refuse_if_changed(db, source)
                    db.executemany(
                        read_sql(__package__, "place_item"),
                        ((map_run, item, x, y, current.id) for item, x, y, _ in rows),
                    )
                    if made is not None:
                        vectors = [(item, vector) for item, _, _, vector in rows]
                        insert_vectors(db, made, current.id, vectors)
                bar.advance(len(block))
        written = _written(db, current.id)
        current.counts["placed"] = len(written)
        current.result_sha256 = hash_rows(written)
    return PlaceResult(map_run, source.name, current.id, dict(current.counts))


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """The places that a run gave, computed anew for the same items."""
    what = f"the map that run {recorded.id} added to"
    read = run_read_by(db, recorded, f"{what} is deleted")
    refuse_other_result(db, recorded, read, what)
    written = _written(db, recorded.id)
    found = _compute(db, read, [item for item, _, _ in written])
    tables = [points_table(written, found)]
    if find_map(db.apsw, read).run.settings.n_components > 2:
        tables.append(vectors_table(db, recorded.id, found))
    return Again(tables, lambda: hash_rows(row[:3] for row in found))


def _compute(db: dbapi.Connection, map_run: int, items: list[int]) -> list[Row]:
    return db.execute(
        "select id, x, y, vector from project_places(?, ?) order by id",
        (map_run, json.dumps(items)),
    ).fetchall()


def _written(db: dbapi.Connection, place_run: int) -> list[tuple[int, float, float]]:
    """(item, x, y) of all that a run placed."""
    return db.execute(
        "select item_id, x, y from projection_points where placed_by_run_id = ? order by item_id",
        (place_run,),
    ).fetchall()
