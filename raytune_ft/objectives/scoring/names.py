"""Names of the arrays in `Scores.more`, without importing what computes them."""

from __future__ import annotations

CHOSEN, REJECTED = "chosen", "rejected"
"""Mean log-probability per token of a row's two answers, in nats."""
