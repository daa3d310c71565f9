"""Is what the file says sound? Not that rows exist: that they are right.

`structure`: pages, foreign keys, the schema. `spaces`: the vectors, and what keeps indexes true.
`results`: what runs wrote, against the tables it was made from. `sources`: the images themselves, when
asked for. Indexes are checked in `pipeline.index`, and what models said, which needs the models, in
`pipeline.detect.check`.
"""

from nearsql.pipeline.check.finding import COLUMNS, Finding, finding
from nearsql.pipeline.check.results import check_results
from nearsql.pipeline.check.spaces import check_spaces
from nearsql.pipeline.check.structure import check_structure
from nearsql.udfs import dbapi

_UNREADABLE = (TypeError, ValueError, LookupError, ArithmeticError, RecursionError)

__all__ = ["COLUMNS", "Finding", "check_file"]


def check_file(db: dbapi.Connection) -> list[Finding]:
    """Everything that can be checked from the file alone; where its structure is broken, only that."""
    structure = check_structure(db)
    if any(each.wrong for each in structure if each.check == "pages of the file"):
        return structure
    findings = list(structure)
    for what, check in (("vectors", check_spaces), ("what runs wrote", check_results)):
        try:
            findings += check(db)
        except _UNREADABLE as error:
            # Where the schema is as nearsql makes it, every value is of its kind, and the fault is ours.
            if not any(each.wrong for each in structure):
                raise
            fault = f"a value is of a kind that its column never holds ({str(error)[:100]})"
            findings.append(finding(f"{what}, as far as they can be read", 1, [fault], cure=None))
    return findings
