"""Finds rows that repeat within a split, or leak from one split into a later one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from raytune_ft.data.rows import Row


def count_duplicates(splits: Mapping[str, list[Row]]) -> dict[str, int]:
    """Counts duplicates by place: `train` for repeats within it, `train/test` for rows of train that are in test too.

    Args:
        splits: Split -> rows, from the earliest to the last split. Rows are equal if all their text is.
    """
    seen = {name: set(rows) for name, rows in splits.items()}
    counts = {name: len(rows) - len(seen[name]) for name, rows in splits.items()}
    for earlier, later in combinations(splits, 2):
        counts[f"{earlier}/{later}"] = sum(row in seen[later] for row in splits[earlier])
    return {place: count for place, count in counts.items() if count}


def remove_duplicates(splits: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    """Removes rows of an earlier split that are in a later one too, and repeats within every split except `test`.

    The test split is used to prove the winner, so it is left as it is.
    """
    later: set[Row] = set()
    kept: dict[str, list[Row]] = {}
    for name in reversed(list(splits)):
        rows = splits[name]
        kept[name] = list(rows) if name == "test" else [row for row in dict.fromkeys(rows) if row not in later]
        later.update(rows)
    return {name: kept[name] for name in splits}
