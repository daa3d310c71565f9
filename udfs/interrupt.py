"""Lets time limits and Ctrl-C act on a long computation inside one call.

SQLite asks its progress handler (Datasette's time limit is one) and looks at its interrupt flag only
while it steps a statement, and it steps nothing while a function computes.
"""

import time

import apsw

# Counting to 200 takes SQLite about 2,000 opcodes, so handlers set to be asked every 1,000 are asked.
_STEPS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) select count(*) from n"

INTERVAL_S = 0.05


class Poll:
    """Called between the blocks of a computation, as often as one likes.

    At most every INTERVAL_S seconds it runs a tiny statement on the connection, out of which
    apsw.InterruptError comes when the time is up or somebody interrupted.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._next = time.monotonic() + INTERVAL_S

    def __call__(self) -> None:
        """Raises apsw.InterruptError if the computation should stop."""
        if time.monotonic() >= self._next:
            self._db.execute(_STEPS).fetchall()
            self._next = time.monotonic() + INTERVAL_S
