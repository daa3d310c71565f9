"""Downsampling by sequence number: which spaces are large enough to cluster, and on which items."""

from collections.abc import Iterator
from typing import Any, cast

import apsw

from nearsql.udfs.arguments import whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.spaces import find_space
from nearsql.udfs.sql_files import read_sql


@sql_function(
    columns=("space", "model", "total", "sampled", "status"),
    example="select * from space_groups(10)",
    estimated_rows=10,
)
def space_groups(
    db: apsw.Connection, downsample: int = 1
) -> Iterator[tuple[str, str | None, int, int, str]]:
    """Each space with its model, its number of vectors, and how many a downsample takes.

    A downsample by N takes the items whose sequence_number % N is 0. The status is 'ok', or 'too few'
    when it takes fewer than two.
    """
    factor = whole_number("downsample", downsample, at_least=1)
    sql = read_sql(__package__, "space_groups")
    yield from cast(Any, db.execute(sql, {"downsample": factor}))


@sql_function(
    columns=("id",),
    example="select count(*) from sampled('digits/pixels', 10)",
)
def sampled(db: apsw.Connection, space: str, downsample: int = 1) -> Iterator[tuple[int]]:
    """The items of a space that a downsample takes: those whose sequence_number % downsample is 0."""
    factor = whole_number("downsample", downsample, at_least=1)
    found = find_space(db, space)
    yield from cast(
        Any,
        db.execute(
            "select v.item_id from vectors v join items i on i.id = v.item_id"
            " where v.space_id = ? and i.sequence_number % ? = 0 order by v.item_id",
            (found.id, factor),
        ),
    )
