"""Numbers out of many requests: percentiles, paired ratios and differences, and what was wrong."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from serving_measures.client import Heard


def percentile(values: Sequence[float], percent: float) -> float:
    """Of the values, interpolated between the two nearest."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and worst, in ms."""
    return {
        "median": round(1000 * statistics.median(seconds), 2),
        "p95": round(1000 * percentile(seconds, 95), 2),
        "worst": round(1000 * max(seconds), 2),
    }


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
    """Ours to the peer's, round by round: a slow minute of the machine is in both.

    Returns:
        The median of the rounds' ratios, and the least and the greatest.
    """
    ratios = [mine / other for mine, other in zip(ours, peer, strict=True)]
    return {
        "median": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "greatest": round(max(ratios), 3),
    }


def failures(heard: Iterable[Heard]) -> dict[str, int]:
    """What went wrong -> how often."""
    return dict(Counter(each.failure for each in heard if each.failure))


def good(heard: Iterable[Heard]) -> list[Heard]:
    """Those that were answered."""
    return [each for each in heard if not each.failure]
