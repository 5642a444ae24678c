"""Formats parameters, numbers and times for tables and plots."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

OUTCOMES = ("completed", "pruned", "diverged", "out_of_memory", "failed", "running")
"""The outcomes in the order of tables and legends."""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Returns key path -> its last part, or the whole path where two paths end alike; in the order of `keys`."""
    paths = list(dict.fromkeys(keys))
    ends = Counter(path.rsplit(".", 1)[-1] for path in paths)
    return {path: end if ends[end := path.rsplit(".", 1)[-1]] == 1 else path for path in paths}


def parameter_names(configurations: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the `short_names` of all parameters that any of the configurations sets."""
    return short_names(key for configuration in configurations for key in configuration)


def number(value: Any, digits: int = 4) -> str:
    """Formats a float with `digits` significant digits, None as a dash, and anything else as text."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def measure(value: float | None) -> str:
    """Formats a loss or a score with four decimal places, so that a column lines up."""
    return f"{value:.4f}" if value is not None and math.isfinite(value) else number(value)


def goal_value(name: str, value: float | None) -> str:
    """Formats a goal's value: losses with four decimal places, times as durations, tokens whole, MiB with 3 digits."""
    if value is None or not math.isfinite(value):
        return number(value)
    match name:
        case "train_seconds":
            return duration(value)
        case "tokens":
            return str(round(value))
        case "adapter_mib":
            return number(float(value), 3)
        case _:
            return measure(value)


def front_mark(front: bool) -> str:
    """Returns the cell of the column that says whether a trial is on the Pareto front."""
    return "yes" if front else ""


def goals_in_words(values: Mapping[str, float]) -> str:
    """Formats goals and their values, e.g. `eval_loss 0.3100, adapter_mib 2.1`."""
    return ", ".join(f"{name} {goal_value(name, value)}" for name, value in values.items())


def difference(value: float) -> str:
    """Formats a signed number with three decimal places."""
    return f"{value:+.3f}"


def duration(seconds: float | None) -> str:
    """Formats a time, e.g. `42 s`, `3 min 05 s`, `2 h 07 min`; None as a dash."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def one_line(text: str) -> str:
    """Returns text without line breaks and control characters, with which a trial's text could rewrite a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def outcome_words(outcome: str) -> str:
    """Returns an outcome in words: `out_of_memory` -> `out of memory`."""
    return outcome.replace("_", " ")
