"""Find: what is wrong with a collection, stored as findings with their evidence, for a person to decide on.

    found = find(db, "digits/pixels", label="digit")
    db.execute("select kind, item_id, score, evidence_json from findings where run_id = ?", (found.run_id,))

All kinds look at one neighbour graph, computed with no transaction open; one short transaction writes.
What a person has decided about a finding is carried over to a later run that finds the same.
"""

from nearsql.pipeline.find.kinds import KINDS
from nearsql.pipeline.find.replayed import recompute
from nearsql.pipeline.find.run import FindResult, find

__all__ = ["KINDS", "FindResult", "find", "recompute"]
