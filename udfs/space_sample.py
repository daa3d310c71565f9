"""The part of a space that the arguments `downsample` and `within` leave."""

from typing import Any, cast

import apsw
import numpy as np

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import whole_number
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import Space


def sample_of(db: apsw.Connection, space: Space, downsample: Any, within: Any) -> Matrix:
    """The rows of a space's matrix, as they are stored, of the items that both arguments take.

    downsample: N takes those whose sequence_number % N is 0. within: None, or a SELECT or JSON array of
    item ids, or the name of a selection. Raises SqlFunctionError for other values.
    """
    factor = whole_number("downsample", downsample, at_least=1)
    ids = within_argument.item_ids(db, within)
    if factor > 1:
        taken = db.execute(
            "select v.item_id from vectors v join items i on i.id = v.item_id"
            " where v.space_id = ? and i.sequence_number % ? = 0",
            (space.id, factor),
        )
        sampled = np.array([item for (item,) in cast(Any, taken)], np.int64)
        ids = sampled if ids is None else np.intersect1d(ids, sampled)
    matrix = load_matrix(db, space)
    return matrix if ids is None else part(matrix, ids)
