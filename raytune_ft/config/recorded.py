"""A run's own `experiment.yaml`, which holds every setting: read in today's words where an earlier version wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any


def in_todays_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without settings that are gone and changed nothing of what the run left, and with today's name for others.

    Args:
        values: Of the file, which may be of any version.
    """
    now = deepcopy(dict(values))
    evaluate, runner, train = (now.get(section) or {} for section in ("evaluate", "runner", "train"))
    (runner.get("step") or {}).pop("compile", None)  # it changed how steps were computed, and not what came out
    if evaluate.pop("bootstrap_samples", None) is None:  # every file of before holds it
        return now
    if train.get("attn_implementation") == "sdpa":
        train["attn_implementation"] = "auto"  # lanes chose by themselves, and isolated trials had no other
    if (kernel := (runner.get("step") or {}).pop("attention", "auto")) != "auto":
        train["attn_implementation"] = {"math": "eager"}.get(kernel, kernel)
    runner.pop("pin_threads", None)
    no_worse = (now.get("promotion") or {}).get("no_worse") or {}
    if no_worse.get("margin") in (0, 0.02):  # 0.02 was the default, whatever the number of rows
        del no_worse["margin"]
    return now
