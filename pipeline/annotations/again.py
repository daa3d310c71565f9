"""The ground truth that a run brought, as it is stored, beside what the labels say now."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nearsql.pipeline.annotations.objects import ImageTruth, truth_sha256
from nearsql.pipeline.annotations.writer import COLUMNS, SOURCE_OF_SPLITS, Item, brought_row
from nearsql.pipeline.result_tables import Again, ResultTable, Row
from nearsql.pipeline.row_hash import hash_rows
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql


class Brought(NamedTuple):
    """What the labels say of one item. rows: its annotations, as they are inserted."""

    item: Item
    truth: ImageTruth
    rows: list[tuple[Any, ...]]


def truth_again(
    db: dbapi.Connection,
    run_id: int,
    found: Sequence[Brought],
    splits: Sequence[tuple[int, str | None]],
) -> Again:
    """found: in the order of the run's hash, splits: of the same items."""
    by_item = sorted(found, key=lambda one: one.item.id)
    annotations = (
        (one.item.id, number, *row) for one in by_item for number, row in enumerate(one.rows)
    )
    complete = (
        (one.item.id, truth_sha256(one.truth.objects)) for one in by_item if not one.truth.problems
    )
    stored_truths = db.execute(
        "select item_id, truth_sha256 from annotated_items where run_id = ? order by item_id",
        (run_id,),
    ).fetchall()
    asked = {"run": run_id, "source": SOURCE_OF_SPLITS}
    stored_splits = db.execute(read_sql(__package__, "splits_of_run"), asked).fetchall()
    said = sorted((item, split) for item, split in splits if split is not None)
    columns = ("item_id", "number", *COLUMNS)
    tables = [
        ResultTable("annotations", columns, 2, _stored(db, run_id), annotations),
        ResultTable("annotated_items", ("item_id", "truth_sha256"), 1, stored_truths, complete),
        ResultTable("item_labels", ("item_id", "split"), 1, stored_splits, said),
    ]
    return Again(tables, lambda: hash_rows(brought_row(*one) for one in found))


def _stored(db: dbapi.Connection, run_id: int) -> Iterator[Row]:
    """The annotations that a run wrote, each with its place among its item's."""
    before, number = None, 0
    for item, *row in db.execute(
        f"select item_id, {', '.join(COLUMNS)} from annotations where run_id = ?"
        " order by item_id, id",
        (run_id,),
    ).fetchall():
        number = number + 1 if item == before else 0
        before = item
        yield item, number, *row
