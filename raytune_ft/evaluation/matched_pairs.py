"""How sure the difference of two accuracies on the same rows is: an exact interval, at any number of rows.

Only rows on which one system is right and the other wrong tell them apart. How many of these go either way is
trinomial; an end of the interval is where the chance of a count as far out, at its greatest over the unknown share of
such rows, meets the level. The share is looked for in its own confidence interval (Berger and Boos, J. Am. Stat. Assoc.
89, 1994, p. 1012), and counts are ordered by a score (Hsueh, Liu and Chen, Biometrics 57, 2001, p. 478).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_FOR_SHARE = 0.02
"""What part of the error is spent on the interval of the share; little, as the score hardly depends on it."""
_SHARES = 33
"""Shares that are tried; twice as many move an end by less than 0.0001."""
_PRECISION = 1e-5
_TAILS = 5.5
"""Standard deviations of the number of rows that tell, beyond which nothing is counted: 1e-7 of the chance."""


def least_difference(wins: int, losses: int, rows: int, error: float) -> float:
    """The low end of the interval of `(wins - losses) / rows`; the high end is minus that of the two exchanged.

    Args:
        wins: Rows on which the second system alone is right.
        losses: Rows on which the first alone is.
        rows: All rows, at least one.
        error: How often the true difference may lie below, e.g. 0.025.
    """
    from scipy.optimize import brentq

    def excess(difference: float) -> float:
        return _chance(wins, losses, rows, difference, error) - error

    seen = (wins - losses) / rows
    reach = (4 * math.sqrt(wins + losses + 1) + 4) / rows
    low = max(-1.0, seen - reach)
    while low > -1.0 and excess(low) > 0:
        low = max(-1.0, low - reach)
    if low == -1.0 and (seen == -1.0 or excess(-1.0) > 0):
        return -1.0
    return max(-1.0, float(brentq(excess, low, seen, xtol=_PRECISION)) - _PRECISION)


def _chance(wins: int, losses: int, rows: int, difference: float, error: float) -> float:
    """How often counts speak as much for a greater difference than `difference`, at most, where it is the true one."""
    import numpy as np
    from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy

    told, spent = wins + losses, _FOR_SHARE * error
    least = float(betaincinv(told, rows - told + 1, spent / 2)) if told else 0.0
    most = float(betaincinv(told + 1, rows - told, 1 - spent / 2)) if told < rows else 1.0
    shares = np.linspace(max(least, abs(difference)), max(most, abs(difference)), _SHARES)[:, None]

    def scale(count: float | np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(np.maximum(count, rows * abs(difference)) + 1))

    score = (wins - losses - rows * difference) / scale(told)
    reach = _TAILS * math.sqrt(rows * shares[-1, 0] * (1 - shares[0, 0])) + 10
    first, last = math.floor(rows * shares[0, 0] - reach), math.ceil(rows * shares[-1, 0] + reach)
    counts = np.arange(max(0, first), min(rows, last) + 1)
    enough = np.ceil((counts + rows * difference + score * scale(counts)) / 2 - 1e-9)
    right = np.clip((1 + difference / np.maximum(shares, 1e-300)) / 2, 0.0, 1.0)
    as_far = betainc(np.clip(enough, 1, None), np.clip(counts - enough + 1, 1, None), right)  # P(wins >= enough)
    as_far = np.where(enough <= 0, 1.0, np.where(enough > counts, 0.0, as_far))
    ways = gammaln(rows + 1) - gammaln(counts + 1) - gammaln(rows - counts + 1)
    likely = np.exp(ways + xlogy(counts, shares) + xlog1py(rows - counts, -shares))
    return float((likely * as_far).sum(axis=1).max()) + spent
