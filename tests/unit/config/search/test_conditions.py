"""A dimension whose condition never holds is searched in no trial, and `check` says so."""

from __future__ import annotations

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.fits import search_warnings

RATE = {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}}
BOTH = {"method.type": {"choice": ["lora", "full"]}}


def warnings(parameters: dict, **changes: object) -> tuple[str, ...]:
    values = {
        "name": "toy",
        "base_model": "base",
        "data": {"train": "train.jsonl"},
        "search": {"space": {"parameters": {**RATE, **parameters}}},
        **changes,
    }
    return search_warnings(Experiment.model_validate(values))


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (
            {"method.r": {"choice": [4, 8], "when": {"method.use_rslora": True}}},
            "method.r is never searched: it needs method.use_rslora True, and method.use_rslora is False in all trials",
        ),
        (
            {**BOTH, "method.r": {"choice": [4, 8], "when": {"method.type": "lorra"}}},
            "it needs method.type 'lorra', and the space of method.type does not hold it",
        ),
        (
            {"seed": {"choice": [1, 2], "when": {"train.learning_rate": 0.5}}},
            "it needs train.learning_rate 0.5, and the space of train.learning_rate does not hold it",
        ),
    ],
)
def test_a_condition_that_never_holds_is_warned_of(parameters: dict, why: str) -> None:
    (warning,) = warnings(parameters)
    assert warning.startswith("search.space: ") and why in warning


@pytest.mark.parametrize(
    "parameters",
    [
        {"method.r": {"choice": [4, 8], "when": {"method.type": "lora"}}},
        {**BOTH, "method.r": {"choice": [4, 8], "when": {"method.type": "lora"}}},
        {
            **BOTH,
            "method.use_rslora": {"choice": [True], "when": {"method.type": "lora"}},
            "method.r": {"choice": [4, 8], "when": {"method.type": "lora", "method.use_rslora": False}},
        },
    ],
)
def test_one_that_may_hold_is_not(parameters: dict) -> None:
    assert warnings(parameters) == ()
