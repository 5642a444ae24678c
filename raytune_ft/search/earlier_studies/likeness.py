"""How far an earlier study's trials speak for this one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import METHOD, flat, value_at
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.search.earlier_studies.earlier import EarlierStudy

_OTHER = 0.5
_NOTHING = 0.0  # its settings are others, and its best learning rate too, by ten times
_SETTINGS = 0.75
_ASIDE = (STEPS, "train.eval_steps", "train.dtype", "train.bf16")
"""What changes no result but by rounding; `bf16` is what `dtype` was called."""


@dataclass(frozen=True)
class Likeness:
    """From 0 to 1, which is the same study but for its space.

    Attributes:
        weight: The product of a factor for each difference.
        differences: In words.
    """

    weight: float
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether values of both mean the same."""
        return not self.differences


def likeness(earlier: EarlierStudy, experiment: Experiment, search: Search, base: str, fingerprint: str) -> Likeness:
    """Nothing for another method; half for another base model, for other data and for another objective; for another
    length of trials what is short in the long one, but half at least; three quarters where other settings that are not
    searched differ.

    Args:
        earlier: The study to learn from.
        experiment: The one that learns.
        search: This experiment's search.
        base: Name of its base model.
        fingerprint: The hash of this experiment's data.
    """
    own = experiment.model_dump(mode="json", exclude_none=True)
    searched = {*search.space.parameters, *earlier.parameters}
    factors: dict[str, float] = {}
    if earlier.base != base:
        factors["another base model"] = _OTHER
    if not fingerprint or earlier.fingerprint != fingerprint:
        factors["other data"] = _OTHER
    if flat(earlier.experiment.get("objective") or {}) != flat(own["objective"]):
        factors["another objective"] = _OTHER
    steps = value_at(earlier.experiment, STEPS), value_at(own, STEPS)
    if STEPS not in searched and steps[0] != steps[1]:
        factors[f"{steps[0]} steps instead of {steps[1]}"] = (
            max(_OTHER, min(steps) / max(steps)) if all(steps) else _OTHER
        )
    method = value_at(earlier.experiment, METHOD)
    if METHOD not in searched and method not in (None, own["method"]["type"]):
        factors["another method"] = _NOTHING
    changed = sorted(key for key in _changed(earlier.experiment, own) if key not in searched and key not in _ASIDE)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        factors[f"other {shown}"] = _SETTINGS
    return Likeness(math.prod(factors.values()), tuple(factors))


def _changed(earlier: Mapping[str, Any], own: Mapping[str, Any]) -> set[str]:
    """Keys of the settings that decide what a trial comes to."""
    was, now = (
        {key: value for part in ("train", "method") for key, value in flat(each.get(part) or {}, f"{part}.").items()}
        | {"resources.workers": value_at(each, "resources.workers")}
        for each in (earlier, own)
    )
    return {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
