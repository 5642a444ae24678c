"""An exact confidence interval for the difference of two accuracies on the same rows, for any number of rows.

Only rows on which exactly one system is right (discordant pairs) tell the systems apart. Their numbers of wins and
losses are trinomial. An end of the interval is the difference at which the probability of counts at least as extreme,
maximised over the unknown fraction of discordant pairs, equals the error rate. The fraction is searched within its own
confidence interval (Berger and Boos, J. Am. Stat. Assoc. 89, 1994, p. 1012), and counts are ordered by a score (Hsueh,
Liu and Chen, Biometrics 57, 2001, p. 478).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_FOR_SHARE = 0.02
"""Part of the error rate that is spent on the interval of the fraction; small, as the score hardly depends on it."""
_SHARES = 33
"""Number of fractions that are tried; twice as many move an end by less than 0.0001."""
_PRECISION = 1e-5
_TAILS = 5.5
"""Standard deviations of the number of discordant pairs beyond which counts are neglected, which is 1e-7 of them."""


def least_difference(wins: int, losses: int, rows: int, error: float) -> float:
    """Returns the lower end of the interval of `(wins - losses) / rows`.

    The upper end is the negative of the result with wins and losses exchanged.

    Args:
        wins: Number of rows on which only the second system is right.
        losses: Number of rows on which only the first system is right.
        rows: Number of all rows, at least one.
        error: How often the true difference may be below, such as 0.025.
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
    """Returns the highest probability, over the fractions, of counts at least this extreme if `difference` is true."""
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
