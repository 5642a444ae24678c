"""Splits and samples rows by the experiment's seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from raytune_ft.data.rows import Row

SPLITS = ("train", "validation", "test")


def cut_validation(rows: Sequence[Row], fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Splits rows into train and validation, both in the file's order; validation gets at least one row."""
    count = min(len(rows), max(1, round(len(rows) * fraction)))
    chosen = set(_generator(seed, "validation").sample(range(len(rows)), count))
    train = [row for index, row in enumerate(rows) if index not in chosen]
    return train, [rows[index] for index in sorted(chosen)]


def draw(rows: Sequence[Row], limit: int | None, seed: int, split: str) -> list[Row]:
    """Samples at most `limit` rows, in the file's order."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[index] for index in sorted(_generator(seed, f"draw {split}").sample(range(len(rows)), limit))]


def _generator(seed: int, purpose: str) -> random.Random:
    return random.Random(f"{seed}:{purpose}")  # one per purpose: limits don't affect other draws
