"""A forecast number: its likely value, and the range that it should lie in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """The low end, the likely value and the high end of a forecast."""

    low: float
    likely: float
    high: float

    @staticmethod
    def within(factor: float, likely: float) -> Span:
        """Returns the span from `likely / factor` to `likely * factor`."""
        return Span(likely / factor, likely, likely * factor)

    def __add__(self, other: Span | float) -> Span:
        more = other if isinstance(other, Span) else Span(other, other, other)
        return Span(self.low + more.low, self.likely + more.likely, self.high + more.high)

    def __mul__(self, other: Span | float) -> Span:
        """Multiplies low ends, likely values and high ends; none of them may be negative."""
        times = other if isinstance(other, Span) else Span(other, other, other)
        return Span(self.low * times.low, self.likely * times.likely, self.high * times.high)

    def times_unrelated(self, other: Span) -> Span:
        """Returns the product with a span of independent error: that both lie at the same end is unlikely."""
        likely = self.likely * other.likely
        if not likely or not self.low or not other.low:
            return self * other
        down = math.hypot(math.log(self.likely / self.low), math.log(other.likely / other.low))
        up = math.hypot(math.log(self.high / self.likely), math.log(other.high / other.likely))
        return Span(likely / math.exp(down), likely, likely * math.exp(up))

    def rounded(self, digits: int) -> Span:
        return Span(round(self.low, digits), round(self.likely, digits), round(self.high, digits))
