"""What one check of a file found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    run_id: of what run, if of one. checked: how many values or rows. wrong: how many of them are.
    largest: the largest difference found, allowed: the largest that is no fault; None where the check
    is yes or no. detail: the first fault, in words. cure: what would mend it; None where nothing is wrong,
    or nothing but a copy of the file would.
    """

    check: str
    run_id: int | None
    checked: int
    wrong: int
    largest: float | None = None
    allowed: float | None = None
    detail: str | None = None
    cure: str | None = None


COLUMNS = ("check", "run", "checked", "wrong", "largest", "allowed", "detail", "cure")

REPAIR = "nearsql check FILE --repair"


def finding(
    check: str, checked: int, faults: Sequence[str], *, run_id: int | None = None, cure: str | None
) -> Finding:
    """A finding from the faults in words; the cure is named only when there are any."""
    detail = faults[0] if faults else None
    return Finding(
        check, run_id, checked, len(faults), detail=detail, cure=cure if faults else None
    )
