"""Weighs how much an earlier study's trials say about this one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import METHOD, flat, value_at
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.objectives.choice import DEFAULT as SFT
from raytune_ft.config.search.search import STEPS, Search
from raytune_ft.search.earlier_studies.earlier import EarlierStudy

_OTHER = 0.5
_NOTHING = 0.0  # its best learning rate is another one altogether
_SETTINGS = 0.75
_ASIDE = (STEPS, METHOD, "train.eval_steps", "train.dtype", "train.bf16")
"""Settings with a factor of their own, or that change results by rounding at most; `bf16` is the former `dtype`."""


@dataclass(frozen=True)
class Likeness:
    """How alike two studies are.

    Attributes:
        weight: From 0 to 1, which means the same study but for its space; the product of a factor for each difference.
        differences: The differences, in words.
    """

    weight: float
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether metric values of both studies are comparable."""
        return not self.differences


def likeness(earlier: EarlierStudy, experiment: Experiment, search: Search, base: str, fingerprint: str) -> Likeness:
    """Returns how alike an earlier study and this experiment are.

    The weight's factors are 0 for another objective, and for a method with other best rates or another artefact; 0.5
    each for another method, base model, data, and other settings of the objective;
    the ratio of the shorter to the longer trials, but 0.5 at least; and 0.75 where other settings that are not searched
    differ.

    Args:
        earlier: The study to learn from.
        experiment: The experiment that learns.
        search: This experiment's `search` section.
        base: Name of this experiment's base model.
        fingerprint: Hash of this experiment's data.
    """
    own = experiment.model_dump(mode="json", exclude_none=True)
    searched = {*search.space.parameters, *earlier.parameters}
    factors: dict[str, float] = {}
    if earlier.base != base:
        factors["another base model"] = _OTHER
    if not fingerprint or earlier.fingerprint != fingerprint:
        factors["other data"] = _OTHER
    was, now = ({"type": SFT, **(each.get("objective") or {})} for each in (earlier.experiment, own))
    if was["type"] != now["type"]:
        factors["another objective"] = _NOTHING
    elif any(key not in searched for key in _differing(was, now, "objective.")):
        factors["other settings of the objective"] = _OTHER
    steps = value_at(earlier.experiment, STEPS), value_at(own, STEPS)
    if STEPS not in searched and steps[0] != steps[1]:
        factors[f"{steps[0]} steps instead of {steps[1]}"] = (
            max(_OTHER, min(steps) / max(steps)) if all(steps) else _OTHER
        )
    method = value_at(earlier.experiment, METHOD)
    if METHOD not in searched and method not in (None, own["method"]["type"]):
        factors["another method"] = _OTHER if _rates_alike(str(method), experiment.method.type) else _NOTHING
    changed = sorted(key for key in _changed(earlier.experiment, own) if key not in searched and key not in _ASIDE)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        factors[f"other {shown}"] = _SETTINGS
    return Likeness(math.prod(factors.values()), tuple(factors))


def _rates_alike(one: str, other: str) -> bool:
    """Tells whether two methods leave the same kind of thing, and are best at the same learning rates."""
    if one not in METHODS or other not in METHODS:
        return False
    return (METHODS[one].rate, METHODS[one].artefact) == (METHODS[other].rate, METHODS[other].artefact)


def _differing(was: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> set[str]:
    before, after = flat(was, prefix), flat(now, prefix)
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _changed(earlier: Mapping[str, Any], own: Mapping[str, Any]) -> set[str]:
    """Returns the keys of settings that affect a trial's result and differ between the two experiments."""
    was, now = (
        {key: value for part in ("train", "method") for key, value in flat(each.get(part) or {}, f"{part}.").items()}
        | {"resources.workers": value_at(each, "resources.workers")}
        for each in (earlier, own)
    )
    return {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
