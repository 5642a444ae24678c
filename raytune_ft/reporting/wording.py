"""How parameters, numbers and times are written in every table and plot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

OUTCOMES = ("completed", "pruned", "diverged", "out_of_memory", "failed", "running")
"""In the order of tables and legends."""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Key path -> its last part, or the whole path where two paths end alike; in the order of `keys`."""
    paths = list(dict.fromkeys(keys))
    ends = Counter(path.rsplit(".", 1)[-1] for path in paths)
    return {path: end if ends[end := path.rsplit(".", 1)[-1]] == 1 else path for path in paths}


def parameter_names(configurations: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """`short_names` of every parameter that any of the configurations sets."""
    return short_names(key for configuration in configurations for key in configuration)


def number(value: Any, digits: int = 4) -> str:
    """A number with `digits` significant digits; anything else as text; nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def measure(value: float | None) -> str:
    """A loss or a score with four places, so that a column lines up."""
    return f"{value:.4f}" if value is not None and math.isfinite(value) else number(value)


def goal_value(name: str, value: float | None) -> str:
    """A goal's value: a loss with four places, a time as such, tokens whole, MiB with three digits."""
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
    """What stands in the column of the front."""
    return "yes" if front else ""


def goals_in_words(values: Mapping[str, float]) -> str:
    """`eval_loss 0.3100, adapter_mib 2.1`."""
    return ", ".join(f"{name} {goal_value(name, value)}" for name, value in values.items())


def difference(value: float) -> str:
    """A signed number, three places after the point."""
    return f"{value:+.3f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def one_line(text: str) -> str:
    """Text from a trial without line breaks or control characters, which could rewrite a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def outcome_words(outcome: str) -> str:
    """`out_of_memory` -> `out of memory`."""
    return outcome.replace("_", " ")
