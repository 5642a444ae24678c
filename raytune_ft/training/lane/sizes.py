"""How much a lane takes at a time; `plan` reckons with the same numbers, without importing PyTorch."""

from __future__ import annotations

EVALUATION_TOKENS = 2048
"""Tokens of a pass of the evaluation, unless one batch of the setting's size has more."""
KEPT_CHECKPOINTS = 3
"""Of a trial that may go on: its best, and the last two."""
