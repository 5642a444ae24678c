"""Converts a run's own `experiment.yaml` that an earlier version wrote to today's settings."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def in_todays_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drops settings that no longer exist and did not affect the run's results, and renames others.

    Args:
        values: The file's values, from any version.
    """
    now = deepcopy(dict(values))
    evaluate, runner, train = (now.get(section) or {} for section in ("evaluate", "runner", "train"))
    (runner.get("step") or {}).pop("compile", None)  # it changed how steps were computed, and not what came out
    if evaluate.pop("bootstrap_samples", None) is None:  # every file of before holds it
        return now
    if train.get("attn_implementation") == "sdpa":
        train["attn_implementation"] = "auto"  # lanes used to choose it themselves, and isolated trials had no other
    if (kernel := (runner.get("step") or {}).pop("attention", "auto")) != "auto":
        train["attn_implementation"] = {"math": "eager"}.get(kernel, kernel)
    runner.pop("pin_threads", None)
    no_worse = (now.get("promotion") or {}).get("no_worse") or {}
    if no_worse.get("margin") in (0, 0.02):  # 0.02 used to be the default for any number of rows
        del no_worse["margin"]
    return now
