"""What pages save, asked and read back by the tests of saving."""

from typing import Any

from served import Site

from nearsql.udfs import connection

PAGES = "/-/nearsql/gallery"
SELECTIONS = PAGES + "/selections"
ANNA = {"id": "anna"}


def rows(writable: Site, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """What the file now holds, asked beside the site."""
    db = connection.connect(writable.datasette.get_database("gallery").path)
    found = [tuple(row) for row in db.execute(sql, parameters)]
    db.close()
    return found


def items_of(writable: Site, name: str) -> list[int]:
    """The items of a selection."""
    sql = "select item_id from selection_items join selections on id = selection_id where name = ?"
    return [item for (item,) in rows(writable, sql + " order by 1", name)]


def save(writable: Site, name: str = "few", **fields: Any) -> Any:
    """The answer to saving a selection, as root."""
    return writable.post(SELECTIONS, {"name": name, **fields})


def tagged(writable: Site) -> list[tuple[Any, ...]]:
    """What was tagged by hand: (item, name, value)."""
    sql = "select item_id, name, value from item_labels where source = 'hand' order by 1, 2"
    return rows(writable, sql)
