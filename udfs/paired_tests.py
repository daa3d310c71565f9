"""Is one run better than another on the same items, or is it chance? Two-sided tests of paired values.

Each p is that of one comparison: who makes many at once finds a small one somewhere by chance alone.
"""

import numpy as np
from numpy.typing import NDArray

# Differences that agree to so many decimals are equal: 2/3 - 1/3 and 1/3 - 0 are not the same floats.
_DECIMALS = 12


def mcnemar(gained: int, lost: int) -> float | None:
    """The p-value of McNemar's test (Psychometrika, 1947) of two classifications of the same items.

    gained and lost: how many items only the second and only the first got right. Were neither better,
    each of these would be one or the other like the toss of a coin; p is the chance of so uneven counts.
    Exact, by the binomial distribution, for many as for few. None when there are no such items.
    """
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else None


def wilcoxon(differences: NDArray[np.float64]) -> float | None:
    """The p-value of Wilcoxon's signed-rank test (Biometrics Bulletin, 1945) of differences of pairs, (n,).

    Were neither run better, a difference would be as likely as its opposite; p is the chance of such
    ranks of their sizes. As scipy computes it: exact for up to 50 pairs without ties, otherwise by the normal
    approximation. Pairs that do not differ say nothing, and are left out as Wilcoxon did; None when no
    pair differs.
    """
    from scipy.stats import wilcoxon as signed_rank

    differing = np.round(differences[differences != 0], _DECIMALS)
    differing = differing[differing != 0]
    return float(signed_rank(differing).pvalue) if len(differing) else None
