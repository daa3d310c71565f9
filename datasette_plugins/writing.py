"""What a visitor may save: selections, by a lasso, by SQL or by ids; and tags, which are labels by hand."""

import json

import numpy as np
from datasette.utils.asgi import Response
from numpy.typing import NDArray

from nearsql.datasette_plugins import fields
from nearsql.datasette_plugins.actions import Action, Form, action
from nearsql.datasette_plugins.pages import Problem, sql
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.selections import (
    Making,
    SelectionError,
    find_selection,
    refuse_name,
    refuse_strangers,
    store_selection,
)
from nearsql.udfs.within import as_ids, select

Ids = NDArray[np.int64]


@action
async def save_selection(current: Action) -> Response:
    """Saves a selection: {name, how, item_ids or sql, polygon_json, projection_run_id, note, replace}.

    A polygon without item_ids selects every item within it, drawn on the map or not.
    """
    form = await current.form()
    making = _making(form)
    given = fields.ids(form)
    replace = fields.flag(form, "replace")
    if making.how == "sql":
        if given is not None:
            raise Problem("A selection is made by SQL or by item_ids, not by both.")
        given = await _selected(current, making.sql or "")
    elif making.how == "polygon":
        await _refuse_other_run(current, making)
        if given is None:
            given = await _within(current, making)
    if given is None:
        raise Problem("Say which items: item_ids, sql, or polygon_json with projection_run_id.")
    if not len(given):
        raise Problem(f"The selection {making.name!r} would have no items.")
    wanted = given

    def store(connection: dbapi.Connection) -> int:
        refuse_strangers(connection, wanted)
        if not replace and find_selection(connection, making.name) is not None:
            raise Problem(
                f"There is a selection {making.name!r} already: choose another name, or replace it.",
                409,
            )
        return store_selection(connection, making, wanted)

    try:
        selection = await current.write(store)
    except SelectionError as error:
        raise Problem(f"{error}.") from None
    url = current.url("selections", selection)
    return current.done(form, selection=selection, items=len(wanted), url=url)


@action
async def change_selection(current: Action) -> Response:
    """Gives a selection another name or note: {name, note}; its items stay."""
    number = current.number("selection")
    form = await current.form()
    name = _name(form)
    note = fields.text(form, "note")

    def change(connection: dbapi.Connection) -> None:
        if find_selection(connection, name) not in (None, number):
            raise Problem(f"There is a selection {name!r} already: choose another name.", 409)
        changed = connection.execute(
            "update selections set name = ?, note = ? where id = ?", (name, note, number)
        )
        _refuse_none(changed.rowcount, number)

    await current.write(change)
    return current.done(form, selection=number, url=current.url("selections", number))


@action
async def delete_selection(current: Action) -> Response:
    """Removes a selection, and no item."""
    number = current.number("selection")
    form = await current.form()

    def delete(connection: dbapi.Connection) -> None:
        deleted = connection.execute("delete from selections where id = ?", (number,))
        _refuse_none(deleted.rowcount, number)

    await current.write(delete)
    return current.done(form, selection=number, url=current.url("selections"))


@action
async def tag(current: Action) -> Response:
    """Gives items a tag, or with `remove` takes it: {name, value, item_ids or selection, remove}.

    A tag is a label with the source 'hand'. One from elsewhere, such as a folder's, is never replaced.
    """
    form = await current.form()
    name = fields.word(form, "name")
    remove = fields.flag(form, "remove")
    value = fields.text(form, "value", longest=fields.LONGEST_WORD) if remove else None
    if not remove:
        value = fields.word(form, "value")
    given = fields.ids(form)
    selection = form.get("selection")

    def change(connection: dbapi.Connection) -> int:
        wanted = _tagged(connection, given, selection)
        bound = {"name": name, "value": value, "items": json.dumps(wanted.tolist())}
        if remove:
            return int(connection.execute(sql("tag_remove"), bound).rowcount)
        refuse_strangers(connection, wanted)
        conflicts = connection.execute(sql("tag_conflicts"), bound).fetchall()
        if conflicts:
            n = sum(items for _, items in conflicts)
            sources = ", ".join(source for source, _ in conflicts[:5])
            raise Problem(
                f"{n:,} of these items have a label {name!r} already, from {sources}, and a tag would"
                " take its place: choose another name.",
                409,
            )
        return int(connection.execute(sql("tag_set"), bound).rowcount)

    try:
        changed = await current.write(change)
    except SelectionError as error:
        raise Problem(f"{error}.") from None
    return current.done(form, items=changed, name=name, value=value, url=current.url("selections"))


def _making(form: Form) -> Making:
    name = _name(form)
    question, corners = fields.text(form, "sql", longest=2**20), fields.polygon(form)
    how = fields.text(form, "how") or ("sql" if question else "polygon" if corners else "ids")
    note = fields.text(form, "note")
    if how == "sql":
        if question is None:
            raise Problem("Give the SQL: a SELECT whose first column are item ids.")
        return Making(name, "sql", sql=question, note=note)
    if how == "polygon":
        run = fields.number(form, "projection_run_id")
        if corners is None or run is None:
            raise Problem("A polygon needs polygon_json and projection_run_id, the map's run.")
        return Making(name, "polygon", note=note, polygon_json=corners, projection_run_id=run)
    if how == "ids":
        return Making(name, "ids", note=note)
    raise Problem(f"how must be polygon, sql or ids, not {how!r}.")


def _name(form: Form) -> str:
    name = fields.text(form, "name") or ""
    try:
        refuse_name(name)
    except SelectionError as error:
        raise Problem(f"{error}.") from None
    return name


async def _selected(current: Action, question: str) -> Ids:
    """The items that a SELECT names by its first column. It can only read, and not for ever."""

    def ask(connection: dbapi.Connection) -> Ids:
        try:
            rows = select("the SQL", connection.apsw, question)
            return np.unique(as_ids("the SQL", [row[0] for row in rows]))
        except SqlFunctionError as error:
            raise Problem(f"{error}.") from None

    found: Ids = await current.read(ask)
    return found


async def _within(current: Action, making: Making) -> Ids:
    rows = await current.rows(
        "selection_in_polygon", polygon=making.polygon_json, run=making.projection_run_id
    )
    return np.array([row["item_id"] for row in rows], np.int64)


async def _refuse_other_run(current: Action, making: Making) -> None:
    run = making.projection_run_id
    if not any(row["run_id"] == run for row in await current.rows("projections")):
        raise Problem(f"Run {run} has no map.", 404)


def _tagged(connection: dbapi.Connection, given: Ids | None, selection: object) -> Ids:
    """The items to be tagged: those given, or those of a selection, by its name or number."""
    if (given is None) == (selection in (None, "")):
        raise Problem("Say which items get the tag: item_ids, or selection.")
    if given is not None:
        return given
    rows = connection.execute(
        "select id from selections where id = ?1 or name = ?1 order by name = ?1 desc, id limit 1",
        (selection if isinstance(selection, int | str) else None,),
    ).fetchall()
    if not rows:
        raise Problem(f"There is no selection {selection!r}.", 404)
    items = connection.execute(
        "select item_id from selection_items where selection_id = ? order by item_id", rows[0]
    )
    return np.array([item for (item,) in items], np.int64)


def _refuse_none(changed: int, number: int) -> None:
    if not changed:
        raise Problem(f"There is no selection {number} in this database.", 404)
