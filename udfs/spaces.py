"""Which spaces a database has, and what their vectors mean."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import apsw

from nearsql.udfs.arguments import shown
from nearsql.udfs.errors import SqlFunctionError

Metric = Literal["cosine", "l2", "ip"]

# The space of a name, with the columns of a Space.
FIND = (
    "select id, name, dimensions, metric, generation, generation_token from spaces where name = ?"
)


@dataclass(frozen=True, slots=True)
class Space:
    """One row of `spaces`, as read in the current snapshot.

    Equal (id, generation, generation_token) means equal vectors: every change draws a new token.
    """

    id: int
    name: str
    dimensions: int
    metric: Metric
    generation: int
    generation_token: int


def find_space(db: apsw.Connection, name: Any) -> Space:
    """The space of that name.

    Read inside the running statement, so that it belongs to the same snapshot as the vectors.
    Raises SqlFunctionError, naming the spaces there are.
    """
    row = db.execute(FIND, (name,)).fetchone()
    if row is not None:
        return Space(*cast(Any, row))
    names = [str(n) for (n,) in db.execute("select name from spaces order by name limit 11")]
    if not names:
        there_are = "this database has no spaces yet, run `nearsql embed` first"
    else:
        there_are = "the spaces are " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise SqlFunctionError(f"there is no space {shown(name)}: {there_are}")
