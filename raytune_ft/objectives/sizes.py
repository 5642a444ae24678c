"""How much a loss takes at a time; `plan` reckons with the same number, without importing PyTorch."""

from __future__ import annotations

LOGIT_CHUNK = 1024
"""Positions whose logits are in memory at once."""
