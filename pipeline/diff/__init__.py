"""Diff: what changed between two runs of one kind, or from one space to another.

    found = diff(db, "3", "5")                        # two clusterings, evaluations or detector runs
    found = diff(db, "clip", "dino", Asked(k=20))     # two spaces
    headers, rows = found.rows(db)
    found.facts(db)                                   # what the summary says

Nothing is written. What computes are the SQL functions of udfs/diff_functions.py, or what is under them.
"""

from nearsql.pipeline.diff.compared import Asked, Diff
from nearsql.pipeline.diff.kinds import diff

__all__ = ["Asked", "Diff", "diff"]
