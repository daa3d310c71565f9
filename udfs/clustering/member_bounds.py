"""How near each member of a clustering may be to one vector: between which bounds its distance lies.

The first vectors are answered by a scan of the members in float32. Of a run that is asked often, the
members are quantised: what that takes is spent only when scans have taken as long.
"""

import sys
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.row_search import search_among
from nearsql.udfs.search.workers import Poll

if TYPE_CHECKING:
    from nearsql.udfs.clustering.member_codes import MemberCodes

# Vectors after which quantising has paid for itself; loading numba takes as long as hundreds of scans.
OFTEN, OFTEN_WITHOUT_NUMBA = 32, 256
# Members of fewer numbers are scanned in a fraction of a millisecond.
_MANY_NUMBERS = 1 << 20


class MemberBounds:
    """The bounds of the distances of members, a matrix of metric l2, to vectors that come one by one."""

    def __init__(self, members: Matrix) -> None:
        self._members = members
        self._asked = 0
        self.codes: MemberCodes | None = None

    def of(
        self, query: NDArray[np.float32], poll: Poll | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest that the float64 distance of each member to a query (d,) can be, (n,)."""
        self._asked += 1
        often = OFTEN if "numba" in sys.modules else OFTEN_WITHOUT_NUMBA
        if self._asked > often and self._members.vectors.size >= _MANY_NUMBERS:
            if self.codes is None:
                self.codes = _quantised(self._members, poll)
            return self.codes.bounds(query, poll)
        return search_among(self._members, None).distance_bounds(query, poll)


def _quantised(members: Matrix, poll: Poll | None) -> "MemberCodes":
    from nearsql.udfs.clustering.member_codes import member_codes

    return member_codes(members.vectors, poll)
